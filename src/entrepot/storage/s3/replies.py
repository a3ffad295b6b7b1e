"""What the replies of the S3 family say in headers and small XML documents."""

from __future__ import annotations

import base64
import binascii
import re

from entrepot.model.entry import Info
from entrepot.storage.base import Buffer
from entrepot.storage.httpdate import unix_time

from .crc import from_text
from .pages import unescape

_ETAG = re.compile(rb'(?i)\netag:[ \t]*(?:W/)?"?([^"\r\n]*)')
_CRC32C = re.compile(rb"(?i)\nx-amz-checksum-crc32c:[ \t]*([^\r\n]*)")
_COMPOSITE = re.compile(rb"(?i)\nx-amz-checksum-type:[ \t]*composite")
_FOREIGN_MD5 = re.compile(rb"(?i)\n(?:x-amz-server-side-encryption:[ \t]*aws:|x-amz-server-side-encryption-customer-)")
_RANGE = re.compile(rb"(?i)\ncontent-range:[ \t]*bytes[ \t]+(\d+)-(\d+)/(\d+|\*)")
_DATE = re.compile(rb"(?i)\ndate:[ \t]*([^\r\n]*)")
_LOCATION = re.compile(rb"(?i)\nlocation:[ \t]*https?://([^/:\s]+)")
_HEX32 = re.compile(rb"[0-9a-fA-F]{32}")  # OSS writes capitals
_XML_ETAG = re.compile(rb"<ETag>([^<]*)</ETag>")
_XML_UPLOAD = re.compile(rb"<UploadId>([^<]*)</UploadId>")
_XML_CRC32C = re.compile(rb"<ChecksumCRC32C>([^<]*)</ChecksumCRC32C>")
_DELETE_ERROR = re.compile(rb"<Error>(.*?)</Error>", re.DOTALL)
_XML_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_WORD = re.compile(r"=\?utf-8\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_META_MTIME = re.compile(rb"(?i)\nx-amz-meta-mtime:[ \t]*([^\r\n]*)")
_LAST_MODIFIED = re.compile(rb"(?i)\nlast-modified:[ \t]*([^\r\n]*)")
_SECONDS = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,18}))?")
_STAMPS: dict[bytes, int] = {}
"""Last-Modified texts seen: objects written in the same second share theirs."""
_STANDARD = {"cache-control", "content-disposition", "content-encoding", "content-language", "expires"}


def etag_of(head: bytes) -> bytes:
    """The etag without quotes; empty without one."""
    at = head.find(b'\nETag: "')
    if at >= 0:
        at += 8
        return head[at : head.find(b'"', at)]
    found = _ETAG.search(head)
    return found.group(1) if found else b""


def crc32c_of(head: bytes) -> int | None:
    """The CRC-32C of the whole object; None where there is none, or only one made of part checksums."""
    if head.find(b"32c:") < 0 and head.find(b"32C:") < 0:
        return None
    found = _CRC32C.search(head)
    if found is None or _COMPOSITE.search(head):
        return None
    return from_text(found.group(1).strip())


def may_be_md5(etag: bytes, head: bytes) -> bool:
    """False for the etags of multipart objects, other forms of hash, and encryption with a key of its own."""
    return len(etag) == 32 and _HEX32.fullmatch(etag) is not None and _FOREIGN_MD5.search(head) is None


def range_of(head: bytes) -> tuple[int, int, int] | None:
    """(first, last, total or -1) of Content-Range; None without a readable one."""
    found = _RANGE.search(head)
    if found is None:
        return None
    first, last, total = found.groups()
    return int(first), int(last), -1 if total == b"*" else int(total)


def date_of(head: bytes) -> float | None:
    """The server's clock as Unix time."""
    found = _DATE.search(head)
    try:
        return float(unix_time(found.group(1).decode("ascii").strip())) if found else None
    except ValueError:
        return None


def location_host(head: bytes) -> str:
    """The host that a redirect names."""
    found = _LOCATION.search(head)
    return found.group(1).decode("ascii", "replace") if found else ""


def is_error_document(body: Buffer) -> bool:
    """True for an error in the body of a 200 (CopyObject, CompleteMultipartUpload)."""
    start = bytes(body).lstrip()[:4096]
    return b"<Error>" in start or b"<Error " in start or b"<Code>" in start


def xml_etag(body: Buffer) -> bytes:
    """The etag of a copy or completion result, without quotes."""
    found = _XML_ETAG.search(bytes(body))
    return unescape(found.group(1)).strip().strip(b'"') if found else b""


def xml_crc32c(body: Buffer) -> int | None:
    """The checksum that a completion result names."""
    found = _XML_CRC32C.search(bytes(body))
    return from_text(found.group(1)) if found else None


def xml_upload_id(body: Buffer) -> str:
    """The upload id of a creation result; empty without one."""
    found = _XML_UPLOAD.search(bytes(body))
    return unescape(found.group(1)).decode("utf-8", "replace") if found else ""


def delete_errors(body: Buffer) -> list[tuple[bytes, bytes]]:
    """(key, its error document) for each key that a batch delete could not remove."""
    found = []
    for error in _DELETE_ERROR.findall(bytes(body)):
        key = _XML_KEY.search(error)
        found.append((unescape(key.group(1)) if key else b"", b"<Error>" + error + b"</Error>"))
    return found


def info_of(key: bytes, head: bytes) -> Info:
    """An object as the headers of GET or HEAD describe it."""
    info = Info(key, 0)
    length, total = 0, -1
    for line in head.split(b"\n")[1:]:
        raw_name, _, raw = line.partition(b":")
        name = raw_name.decode("latin-1").strip().lower()
        value = raw.strip().decode("utf-8", "surrogateescape")
        if name == "content-length" and value.isdigit():
            length = int(value)
        elif name.startswith("x-amz-meta-"):
            info.metadata[name[11:]] = decode_word(value)
        elif name == "last-modified":
            info.mtime_ns = _http_time(value)
        elif name == "content-type":
            info.content_type = value
        elif name == "x-amz-storage-class":
            info.storage_class = value
        elif name == "x-amz-checksum-crc64nvme":
            info.crc64nvme = _crc64(value)
        elif name in _STANDARD and value:
            info.headers[name.title()] = value
    span = range_of(head)
    if span is not None:
        total = span[2]
    info.size = total if total >= 0 else length
    info.etag = etag_of(head)
    info.crc32c = crc32c_of(head)
    if "mtime" in info.metadata:
        info.source_mtime_ns = to_mtime_ns(info.metadata["mtime"])
    return info


def stamp_of(head: bytes) -> int:
    """The mtime that a copy should carry: the original file's if the writer kept it, else the object's; ns."""
    found = _META_MTIME.search(head)
    if found is not None:
        kept = to_mtime_ns(found.group(1).decode("latin-1"))
        if kept is not None:
            return kept
    at = head.find(b"\nLast-Modified: ")
    raw = head[at + 16 : head.find(b"\r", at + 16)] if at >= 0 else b""
    known = _STAMPS.get(raw)
    if known is None:
        found = _LAST_MODIFIED.search(head)
        known = _http_time(found.group(1).decode("latin-1").strip()) if found else 0
        if len(_STAMPS) > 50_000:
            _STAMPS.clear()
        if raw:
            _STAMPS[raw] = known
    return known


def to_mtime_ns(text: str) -> int | None:
    """Seconds with an optional fraction, as rclone and s3fs write them, to ns; None for anything else."""
    found = _SECONDS.fullmatch(text.strip())
    if found is None:
        return None
    sign, whole, fraction = found.groups()
    value = int(whole) * 1_000_000_000 + int(((fraction or "") + "0" * 9)[:9])
    return -value if sign else value


def from_mtime_ns(value: int) -> str:
    """The reverse of :func:`to_mtime_ns`."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    text = f"{sign}{value // 1_000_000_000}.{value % 1_000_000_000:09d}"
    return text.rstrip("0").rstrip(".")


def encode_word(value: str) -> str:
    """A metadata value for a header: as it is, or as an RFC 2047 word where a header cannot hold it."""
    if value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?"):
        return value
    return "=?UTF-8?B?" + base64.b64encode(value.encode("utf-8", "surrogateescape")).decode() + "?="


def decode_word(value: str) -> str:
    """The reverse of :func:`encode_word`; other texts stay as they are."""
    if "=?" not in value:
        return value
    try:
        return _WORD.sub(_word, re.sub(r"\?=\s+=\?", "?==?", value))
    except (ValueError, binascii.Error):
        return value


def _word(found: re.Match[str]) -> str:
    kind, text = found.groups()
    if kind in "bB":
        return base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape")
    return binascii.a2b_qp(text, header=True).decode("utf-8", "surrogateescape")


def _http_time(value: str) -> int:
    try:
        return unix_time(value.strip()) * 1_000_000_000
    except ValueError:
        return 0


def _crc64(text: str) -> int | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 8 else None
