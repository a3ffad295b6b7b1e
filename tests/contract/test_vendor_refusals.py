"""The imitated vendors are strict: each wrong form is refused by the vendor's own error, and we say clearly why."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from entrepot.model import errors as model
from entrepot.model.location import parse_location
from entrepot.model.secret import Secret
from entrepot.storage.s3.store import S3Store
from entrepot.storage.s3.thirdparty import connection_for
from parts.vendors import names
from parts.vendors.client import Answer, ask
from parts.vendors.server import Vendor
from parts.vendors.strict import VENDORS, Refusal

DELETE = b"<Delete><Object><Key>k</Key></Object></Delete>"


@pytest.fixture(params=sorted(VENDORS))
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    names.pretend(monkeypatch)
    with Vendor(VENDORS[request.param]) as found:
        found.fill({b"k": b"data"})
        yield found
    assert not found.crashes


def assert_refused(answer: Answer, refusal: Refusal | str | None) -> None:
    assert isinstance(refusal, tuple)
    assert (answer.status, answer.code) == refusal[:2]
    assert answer.message.startswith(refusal[2].partition("{")[0].partition("'")[0])


# -- the imitations


def test_the_right_form_is_served(vendor: Vendor) -> None:
    assert ask(vendor, key=b"k").body == b"data"
    assert ask(vendor, "PUT", b"new key", body=b"x").status == 200
    assert b"<Key>new" in ask(vendor, query=[("prefix", "")]).body
    digest = base64.b64encode(hashlib.md5(DELETE).digest()).decode()
    assert ask(vendor, "POST", query=[("delete", "")], headers={"Content-MD5": digest}, body=DELETE).status == 200
    assert vendor.refused == []


def test_another_addressing_style(vendor: Vendor) -> None:
    answer = ask(vendor, key=b"k", style="path")
    if vendor.strict.path_style is None:
        assert answer.body == b"data"
    else:
        assert_refused(answer, vendor.strict.path_style)


def test_another_host(vendor: Vendor) -> None:
    assert ask(vendor, key=b"k", host="data.somewhere.vendor.example").code == "NoSuchBucket"
    assert vendor.strays == ["data.somewhere.vendor.example"]


def test_another_region_or_service(vendor: Vendor) -> None:
    assert_refused(ask(vendor, key=b"k", region="xx-nowhere-1"), vendor.strict.wrong_region)
    assert ask(vendor, key=b"k", service="oss").code == "AuthorizationHeaderMalformed"


def test_another_list_version(vendor: Vendor) -> None:
    answer = ask(vendor, query=[("list-type", "2")])
    wanted = vendor.strict.list_v2
    if isinstance(wanted, tuple):
        assert_refused(answer, wanted)
    else:
        assert answer.status == 200
        assert (b"<KeyCount>" in answer.body) is (wanted is None)


def test_pages_that_are_too_long(vendor: Vendor) -> None:
    assert ask(vendor, query=[("max-keys", "1000")]).status == 200
    assert ask(vendor, query=[("max-keys", "1001")]).code == "InvalidArgument"


def test_a_listing_in_url_form(vendor: Vendor) -> None:
    vendor.fill({b"a b": b""})
    body = ask(vendor, query=[("encoding-type", "url")]).body
    assert (b"<EncodingType>" in body, b"<Key>a b</Key>" in body) == (
        (True, False) if vendor.strict.encoding_url else (False, True)
    )


def test_chunked_uploads_and_checksum_headers(vendor: Vendor) -> None:
    stream = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "content-encoding": "aws-chunked"}
    answer = ask(vendor, "PUT", b"k", headers=stream, body=b"1\r\nx\r\n0\r\n\r\n")
    if vendor.strict.aws_chunked is not None:
        assert_refused(answer, vendor.strict.aws_chunked)
    answer = ask(vendor, "PUT", b"k", headers={"x-amz-checksum-crc32c": "AAAAAA=="}, body=b"x")
    if vendor.strict.checksum_headers is None:
        assert answer.code == "BadDigest"
    elif vendor.strict.checksum_headers == "ignore":
        assert answer.status == 200
    else:
        assert_refused(answer, vendor.strict.checksum_headers)


def test_a_batch_delete_without_md5(vendor: Vendor) -> None:
    assert_refused(ask(vendor, "POST", query=[("delete", "")], body=DELETE), vendor.strict.delete_without_md5)
    assert vendor.held() == {b"k": b"data"}


def test_a_body_without_length(vendor: Vendor) -> None:
    assert ask(vendor, "PUT", b"k", body=b"x", chunked=True).status == 411


def test_no_signature_a_wrong_one_and_a_wrong_clock(vendor: Vendor) -> None:
    assert_refused(ask(vendor, key=b"k", signed=False), vendor.strict.anonymous)
    assert ask(vendor, key=b"k", secret="wrong").code == "SignatureDoesNotMatch"
    assert ask(vendor, key=b"k", clock=-3600).code == "RequestTimeTooSkewed"


def test_keys_that_it_does_not_take(vendor: Vendor) -> None:
    strict = vendor.strict
    assert ask(vendor, "PUT", b"k" * strict.key_max, body=b"").status == 200
    assert ask(vendor, "PUT", b"k" * (strict.key_max + 1), body=b"").code == "KeyTooLongError"
    assert (ask(vendor, "PUT", b"/k", body=b"").code == "InvalidObjectName") is not strict.leading_slash


def test_parts_of_the_wrong_size(vendor: Vendor) -> None:
    strict = vendor.strict
    upload = ask(vendor, "POST", b"big", query=[("uploads", "")], body=b"").body.partition(b"<UploadId>")[2]
    name = upload.partition(b"</UploadId>")[0].decode()
    rows = ""
    for number, size in ((1, strict.part_min - 1), (2, 1)):
        query = [("uploadId", name), ("partNumber", str(number))]
        assert ask(vendor, "PUT", b"big", query=query, body=bytes(size)).status == 200
        etag = vendor.uploads[name].parts[number].etag
        rows += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    done = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    assert ask(vendor, "POST", b"big", query=[("uploadId", name)], body=done).code == "EntityTooSmall"
    if strict.part_fixed:
        query = [("uploadId", name), ("partNumber", "1")]
        assert ask(vendor, "PUT", b"big", query=query, body=bytes(strict.part_fixed + 1)).code == "InvalidArgument"


# -- what we say


def opened(vendor: Vendor, **change: object) -> S3Store:
    store = S3Store.open(parse_location(f"vendor:{vendor.bucket}/"), vendor.connection(**change))
    store._sleep = lambda seconds: None
    return store


def told(vendor: Vendor, call: Callable[[], object], kind: type[model.StoreError]) -> str:
    """The error of ``call``: of ``kind``, with a hint and without secrets."""
    with pytest.raises(kind) as caught:
        call()
    text = f"{caught.value} | {caught.value.hint}"
    assert caught.value.hint, text
    assert vendor.strict.sk not in text
    assert vendor.refused
    return text


def test_the_generic_profile_is_refused(vendor: Vendor) -> None:
    """It may learn its way from the replies (then it works), or not (then the error says what to set)."""
    store = opened(vendor, provider="generic", endpoint=vendor.endpoint)
    try:
        store.check()
    except model.ForbiddenError as fault:
        assert "region" in f"{fault} {fault.hint}"
    else:
        assert store.target.region == vendor.region
    assert vendor.refused
    store.close()


def test_a_page_that_comes_for_ever_is_an_error_and_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """OBS with URL-encoded listings: our own profile does not ask for them."""
    names.pretend(monkeypatch)
    with Vendor(VENDORS["OBS"]) as vendor:
        vendor.quirks.max_keys = 3
        vendor.fill({b"k%d" % n: b"" for n in range(8)})
        store = opened(vendor)
        assert len([row for page in store.pages() for row in page.rows]) == 8
        store.target.profile.encoding_url = True
        for listing in (store.pages, lambda: store.children(b"")):
            with pytest.raises(model.UnexpectedReplyError, match="does not go on"):
                list(listing())
        store.close()


@pytest.mark.parametrize("kind", sorted(name for name in VENDORS if VENDORS[name].path_style))
def test_path_style_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone insists on path style at a place that no bucket can be put in front of."""
    names.pretend(monkeypatch)
    with Vendor(replace(VENDORS[kind], bucket="under_score")) as vendor:
        store = opened(vendor)
        assert store.target.style == "path"
        assert "addressing" in told(vendor, store.check, model.ForbiddenError)
        store.close()


def test_a_wrong_region_is_named(vendor: Vendor) -> None:
    store = opened(vendor, region="xx-nowhere-1")
    if "{region}" in vendor.strict.wrong_region[2]:
        store.check()
        assert store.target.region == vendor.region
    else:
        assert "region" in told(vendor, store.check, model.ForbiddenError)
    assert [code for _, _, code in vendor.refused][:1] == [vendor.strict.wrong_region[1]]
    store.close()


def test_a_wrong_secret_is_named(vendor: Vendor) -> None:
    store = opened(vendor, secret_key=Secret("hunter2"))
    text = told(vendor, store.check, model.ForbiddenError)
    assert "signature was refused" in text
    assert "hunter2" not in text
    store.close()


def test_a_wrong_access_key_is_named(vendor: Vendor) -> None:
    store = opened(vendor, access_key="nobody")
    assert "does not know this access key" in told(vendor, store.check, model.ForbiddenError)
    store.close()


@pytest.mark.parametrize("offset", [-4000, 4000])
def test_a_wrong_clock_is_learned(vendor: Vendor, offset: int) -> None:
    vendor.clock_offset = offset
    store = opened(vendor)
    store.check()
    assert store.read(b"k") == b"data"
    assert len(vendor.refused) == 1
    store.close()


def test_keys_that_the_vendor_does_not_take_fail_by_name(vendor: Vendor) -> None:
    store = opened(vendor)
    assert store.caps.key_max == vendor.strict.key_max
    with pytest.raises(model.NameNotPossibleError):
        store.write(b"k" * (vendor.strict.key_max + 1), b"")
    if not vendor.strict.leading_slash:
        with pytest.raises(model.NameNotPossibleError):
            store.write(b"/k", b"")
    store.close()


def test_a_public_bucket_is_read_without_keys(vendor: Vendor) -> None:
    vendor.public = True
    connection = replace(connection_for(vendor.strict.type, vendor.host, "", ""), name="vendor")
    store = S3Store.open(parse_location(f"vendor:{vendor.bucket}/"), connection)
    store.check()
    assert store.read(b"k") == b"data"
    assert all("authorization" not in request.headers for request in vendor.requests)
    with pytest.raises(model.ForbiddenError):
        store.write(b"new", b"data")
    store.close()


@pytest.mark.parametrize("spelling", ["BEIJING", "cn-beijing"])
def test_ks3_is_signed_for_in_either_spelling(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names.pretend(monkeypatch)
    with Vendor(replace(VENDORS["KS3"], region=spelling)) as vendor:
        store = opened(vendor)
        store.write(b"k", b"data")
        assert (store.read(b"k"), store.target.region) == (b"data", spelling)
        assert len(vendor.refused) == (spelling != "BEIJING")
        store.close()
