"""What a vendor checks before it looks at the request itself: host, style, signature, region, forbidden forms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from parts import fake_sign
from parts.fake_http import Request, S3Error

from .strict import BAD_SIGNATURE, Refusal

if TYPE_CHECKING:
    from .server import Vendor

_SCOPE = re.compile(r"Credential=(?P<ak>[^,]+)/\d{8}/(?P<region>[^/,]+)/(?P<service>[^/,]+)/aws4_request,")
LIST_MAX = 1000
_LISTS = {"ListObjectsV1", "ListObjectsV2"}
_PARTED = {"UploadPart", "UploadPartCopy"}


def refuse(refusal: Refusal, **words: str) -> S3Error:
    """The error reply of a refusal."""
    status, code, message = refusal
    return S3Error(status, code, message.format(**words) if words else message)


def admit(vendor: Vendor, request: Request) -> None:
    """Raise the vendor's refusal of ``request``, or let it pass."""
    strict = vendor.strict
    host = request.headers.get("host", "").rpartition(":")[0]
    if host != vendor.domain and not host.endswith("." + vendor.domain):
        if vendor.tells_endpoint and host.endswith(vendor.domain.partition(".")[2].partition(".")[2]):
            raise S3Error(
                403,
                "AccessDenied",
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                "Please send all future requests to this endpoint.",
                extra=f"<Endpoint>{strict.copied}</Endpoint>",
            )
        vendor.strays.append(host)
        raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist.")
    _form(vendor, request)
    _signature(vendor, request)
    if request.bucket:
        style = vendor.virtual_style if request.virtual else vendor.path_style
        if style is not None:
            raise refuse(style)
    if request.op == "ListObjectsV2" and isinstance(strict.list_v2, tuple):
        raise refuse(strict.list_v2)
    if request.op in _LISTS and strict.encoding_breaks_marker and "encoding-type" in request.query:
        request.query.pop("marker", None)
    if request.op in _LISTS and int(request.query.get("max-keys", "0") or 0) > LIST_MAX:
        raise S3Error(400, "InvalidArgument", f"Argument max-keys must be an integer between 1 and {LIST_MAX}.")
    if request.op == "DeleteObjects" and not _digested(vendor, request) and strict.delete_without_md5:
        raise refuse(strict.delete_without_md5)
    _key(vendor, request)


def _digested(vendor: Vendor, request: Request) -> bool:
    """A batch delete carries Content-MD5, or a checksum where the vendor knows those."""
    if "content-md5" in request.headers:
        return True
    return vendor.strict.checksum_headers is None and any(h.startswith("x-amz-checksum-") for h in request.headers)


def _form(vendor: Vendor, request: Request) -> None:
    headers, strict = request.headers, vendor.strict
    if request.method in {"PUT", "POST"} and "content-length" not in headers:
        raise S3Error(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    chunked = headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
    if (chunked or "aws-chunked" in headers.get("content-encoding", "")) and strict.aws_chunked is not None:
        raise refuse(strict.aws_chunked)
    summed = [h for h in headers if h.startswith("x-amz-checksum-") and h != "x-amz-checksum-mode"]
    summed += [h for h in headers if h in {"x-amz-sdk-checksum-algorithm", "x-amz-trailer"}]
    if summed and isinstance(strict.checksum_headers, tuple):
        raise refuse(strict.checksum_headers)
    unsigned = headers.get("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"
    if vendor.signed_payload and unsigned:
        raise S3Error(400, "InvalidRequest", "x-amz-content-sha256: UNSIGNED-PAYLOAD is not accepted over http")


def _signature(vendor: Vendor, request: Request) -> None:
    strict = vendor.strict
    if "authorization" not in request.headers and "X-Amz-Signature" not in request.query:
        if vendor.public and request.method in {"GET", "HEAD"}:
            return
        raise refuse(strict.anonymous)
    scope = _SCOPE.search(request.headers.get("authorization", ""))
    if scope is None or scope["service"] != "s3":
        raise S3Error(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
    try:
        fake_sign.verify(request, vendor.secrets, vendor.tokens, "", vendor.now())
    except S3Error as error:
        if error.code == "SignatureDoesNotMatch":
            raise refuse(BAD_SIGNATURE) from None
        raise
    if scope["region"] != strict.region:
        raise refuse(strict.wrong_region, signed=scope["region"], region=strict.region)


def _key(vendor: Vendor, request: Request) -> None:
    strict = vendor.strict
    if request.op == "GetObject" and not strict.leading_slash and request.key.startswith(b"/"):
        raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
    if not request.key or request.method not in {"PUT", "POST"}:
        return
    if len(request.key) > strict.key_max:
        raise S3Error(400, "KeyTooLongError", "Your key is too long.")
    if not strict.leading_slash and request.key.startswith(b"/"):
        raise S3Error(400, "InvalidObjectName", "The specified object is not valid.")
    if (
        request.op in _PARTED
        and strict.part_fixed
        and int(request.headers.get("content-length", "0")) > strict.part_fixed
    ):
        raise S3Error(400, "InvalidArgument", f"the part size must be {strict.part_fixed}")
