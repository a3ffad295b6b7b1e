"""What replies teach, what is remembered of it, and the documents of control calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.connection import Connection
from entrepot.model.entry import Row
from entrepot.model.errors import CorruptError, UnexpectedReplyError
from entrepot.model.secret import Secret
from entrepot.storage.s3 import documents
from entrepot.storage.s3.learn import learn, observe_listing
from entrepot.storage.s3.probe import FACTS_AGE, Facts
from entrepot.storage.s3.profiles import recognise, resolve
from entrepot.storage.s3.target import Credentials, S3Target
from entrepot.storage.s3.walk import walk


def target(provider: str = "generic", endpoint: str = "http://store.example.org") -> S3Target:
    keys = {"access_key": "AK", "secret_key": Secret("SK")}
    return resolve(Connection("", provider, endpoint=endpoint, **keys), "data")  # type: ignore[arg-type]


def document(code: str, message: str = "", extra: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>".encode()


# -- learn


def test_the_clock_is_learned_once() -> None:
    """Case 55."""
    found = target()
    headers = b"date: " + formatdate(time.time() - 7200, usegmt=True).encode()
    assert learn(found, "get", 403, headers, document("RequestTimeTooSkewed"))
    assert found.clock_offset == pytest.approx(-7200, abs=5)
    assert not learn(found, "get", 403, headers, document("RequestTimeTooSkewed"))


def test_a_head_that_is_refused_for_its_clock_has_no_document() -> None:
    found = target()
    late = b"HTTP/1.1 403 Forbidden\r\nDate: " + formatdate(time.time() + 3600, usegmt=True).encode() + b"\r\n"
    assert learn(found, "head", 403, late, b"")
    assert found.clock_offset == pytest.approx(3600, abs=5)
    now = b"date: " + formatdate(time.time(), usegmt=True).encode()
    assert not learn(target(), "head", 403, now, b"")


def test_the_region_is_followed_once() -> None:
    """Case 8."""
    found = target("s3", "")
    reply = b"x-amz-bucket-region: eu-west-1"
    assert learn(found, "list", 301, reply, document("PermanentRedirect"))
    assert (found.region, found.endpoint_host) == ("eu-west-1", "s3.eu-west-1.amazonaws.com")
    assert not learn(found, "list", 301, reply, document("PermanentRedirect"))
    assert learn(found, "head", 400, b"x-amz-bucket-region: us-west-1", b"")
    assert not learn(found, "head", 400, b"", b"")


def test_redirects_lead_to_no_other_host() -> None:
    """Case 79: only a region may be learned, and only from a host of the same provider."""
    found = target("s3", "")
    before = found.endpoint_host
    away = b"location: http://169.254.169.254/latest/meta-data\r\n"
    assert not learn(found, "list", 307, away, document("TemporaryRedirect"))
    assert found.endpoint_host == before
    home = b"Location: https://data.s3.ap-south-1.amazonaws.com/\r\n"
    assert learn(found, "list", 307, home, document("TemporaryRedirect"))
    assert found.host == "data.s3.ap-south-1.amazonaws.com"


def test_virtual_addressing_is_learned() -> None:
    found = target()
    assert found.style == "path"
    assert learn(found, "list", 403, b"", document("SecondLevelDomainForbidden"))
    assert (found.style, found.host) == ("virtual", "data.store.example.org")
    assert not learn(found, "list", 403, b"", document("SecondLevelDomainForbidden"))
    local = target(endpoint="http://127.0.0.1:1")
    assert not learn(local, "list", 403, b"", document("SecondLevelDomainForbidden"))


@pytest.mark.parametrize(
    ("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument"), (405, "MethodNotAllowed")]
)
def test_the_list_version_is_learned(status: int, code: str) -> None:
    found = target()
    assert learn(found, "list", status, b"", document(code, "list-type is unknown"))
    assert found.profile.list_v1


def test_the_checksum_header_is_left_out() -> None:
    """Case 49."""
    for status, body in (
        (501, document("NotImplemented", "A header you provided implies functionality")),
        (400, document("InvalidArgument", "x-amz-checksum-crc32c is not supported")),
        (400, b""),
    ):
        found = target()
        found.profile.checksum_checked = True
        assert learn(found, "put", status, b"", body)
        assert (found.profile.checksum, found.profile.checksum_checked) == ("", None)
        assert found.profile.put_conditional


def test_a_condition_is_given_up_only_where_the_reply_names_it() -> None:
    found = target()
    plain = document("NotImplemented", "A header you provided implies functionality that is not implemented")
    assert learn(found, "put", 501, b"", plain)  # the checksum header
    assert not learn(found, "put", 501, b"", plain)
    assert found.profile.put_conditional
    assert learn(found, "put", 501, b"", document("NotImplemented", "no", "<Header>If-None-Match</Header>"))
    assert not found.profile.put_conditional


def test_a_put_that_is_wrong_in_itself_teaches_nothing() -> None:
    found = target()
    for code in ("InvalidStorageClass", "MetadataTooLarge", "EntityTooLarge", "BadDigest"):
        assert not learn(found, "put", 400, b"", document(code, "no"))
    assert not learn(found, "put", 400, b"", document("InvalidArgument", "bad storage class"))
    assert found.profile.checksum == "crc32c"


def test_other_forms_of_a_request() -> None:
    found = target()
    said = "x-amz-content-sha256 must be the hash of the body"
    assert learn(found, "put", 400, b"", document("InvalidRequest", said))
    assert found.profile.payload == "signed"
    assert learn(found, "put", 501, b"", document("NotImplemented", "If-None-Match is not supported"))
    assert not found.profile.put_conditional
    assert learn(found, "delete", 400, b"", document("InvalidRequest", "Missing required header: Content-MD5"))
    assert found.profile.content_md5_required
    assert learn(found, "delete", 501, b"", document("NotImplemented"))
    assert not found.profile.batch_delete
    assert not learn(found, "delete", 501, b"", document("NotImplemented"))


def test_expired_keys_are_fetched_anew() -> None:
    """Case 56."""
    found = target()
    keys = [Credentials("old", Secret("s"))]

    def source(refresh: bool) -> Credentials:
        if refresh:
            keys[0] = Credentials("new", Secret("s"))
        return keys[0]

    found.credentials = source
    assert learn(found, "get", 400, b"", document("ExpiredToken"))
    assert not learn(found, "get", 400, b"", document("ExpiredToken"))


def test_replies_that_teach_nothing() -> None:
    for status in (200, 204, 403, 404, 412, 500, 503):
        assert not learn(target(), "get", status, b"", document("AccessDenied"))


V2 = (
    b"<ListBucketResult><KeyCount>1</KeyCount><EncodingType>url</EncodingType>"
    b"<Contents><Key>a</Key></Contents></ListBucketResult>"
)
V1 = b"<ListBucketResult><Marker></Marker><Contents><Key>a</Key></Contents></ListBucketResult>"
EMPTY = b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"


def test_listings_are_observed() -> None:
    found = target()
    assert not observe_listing(found, V2)
    assert not observe_listing(found, EMPTY)
    assert found.profile.encoding_url
    assert observe_listing(found, V1)
    assert found.profile.list_v1
    assert not found.profile.encoding_url
    assert not observe_listing(found, V1)


def test_servers_are_recognised_by_name() -> None:
    found = target().profile
    recognise(found, "nginx")
    assert found.provider == "generic"
    recognise(found, "SeaweedFS 8000GB 4.48")
    assert (found.provider, found.double_slash, found.addressing) == ("seaweedfs", False, "auto")
    amazon = target("s3", "").profile
    recognise(amazon, "MinIO")
    assert amazon.provider == "s3"


# -- walks of stores that sort directories by their bare names

names = st.text("a-./0b", min_size=1, max_size=3).filter(lambda name: "/" not in name)
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(parts).encode())


def levels_of(keys: set[bytes], page: int) -> Callable[[bytes], Iterator[tuple[list[Row], list[bytes]]]]:
    """One level at a time, ``page`` names a page, in the order of bare names."""

    def levels(prefix: bytes) -> Iterator[tuple[list[Row], list[bytes]]]:
        below = [key[len(prefix) :] for key in keys if key.startswith(prefix)]
        found = {(name.partition(b"/")[0], b"/" in name) for name in below}
        order = sorted(found)
        for start in range(0, max(1, len(order)), page):
            some = order[start : start + page]
            rows: list[Row] = [(prefix + name, b"e", 1) for name, is_directory in some if not is_directory]
            yield rows, [prefix + name + b"/" for name, is_directory in some if is_directory]

    return levels


@given(st.sets(paths, max_size=25), st.integers(1, 4), paths | st.just(b""))
def test_a_walk_gives_every_key_once_in_the_order_of_bytes(keys: set[bytes], page: int, after: bytes) -> None:
    """Case 14."""
    pages = list(walk(levels_of(keys, page), after))
    assert [row[0] for found in pages for row in found.rows] == sorted(key for key in keys if key > after)
    assert pages[-1].last


def test_a_walk_refuses_levels_without_order() -> None:
    with pytest.raises(CorruptError, match="out of order"):
        list(walk(lambda prefix: iter([([(b"b", b"", 1)], []), ([(b"a", b"", 1)], [])])))


# -- facts


def test_facts_are_remembered_for_a_day(tmp_path: Path) -> None:
    now = time.time()
    found = target()
    facts = Facts(str(tmp_path), found, clock=lambda: now)
    found.profile.list_v1, found.profile.checksum = True, ""
    found.use("virtual")
    facts.save(found)
    again = target()
    assert Facts(str(tmp_path), again, clock=lambda: now + FACTS_AGE - 1).load(again)
    assert (again.profile.list_v1, again.profile.checksum, again.style) == (True, "", "virtual")
    late = target()
    assert not Facts(str(tmp_path), late, clock=lambda: now + FACTS_AGE + 1).load(late)
    assert not late.profile.list_v1
    other = target(endpoint="http://other.example.org")
    assert not Facts(str(tmp_path), other, clock=lambda: now).load(other)


def test_facts_hold_no_secret_and_are_private(tmp_path: Path) -> None:
    found = target()
    Facts(str(tmp_path), found).save(found)
    (file,) = (tmp_path / "endpoints").iterdir()
    assert "SK" not in file.read_text()
    assert (tmp_path / "endpoints").stat().st_mode & 0o077 == 0


def test_a_moved_region_is_remembered(tmp_path: Path) -> None:
    found = target("s3", "")
    facts = Facts(str(tmp_path), found)
    learn(found, "list", 301, b"x-amz-bucket-region: eu-west-1", b"")
    facts.save(found)
    again = target("s3", "")
    assert Facts(str(tmp_path), again).load(again)
    assert again.host == "data.s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 9, "place": "", "at": 0, "facts": {}}'])
def test_damaged_facts_are_no_facts(tmp_path: Path, text: str) -> None:
    found = target()
    facts = Facts(str(tmp_path), found)
    facts.save(found)
    (file,) = (tmp_path / "endpoints").iterdir()
    file.write_text(text)
    assert not Facts(str(tmp_path), found).load(found)


def test_facts_of_impossible_values_are_ignored(tmp_path: Path) -> None:
    found = target()
    facts = Facts(str(tmp_path), found)
    facts.save(found)
    (file,) = (tmp_path / "endpoints").iterdir()
    saved = json.loads(file.read_text())
    saved["facts"].update(checksum="rot13", payload=7, part_fixed=1, list_v1="yes", etag_is_md5=[])
    file.write_text(json.dumps(saved))
    again = target()
    assert Facts(str(tmp_path), again).load(again)
    assert again.profile == target().profile


def test_facts_without_a_directory(tmp_path: Path) -> None:
    found = target()
    for directory in (None, "/proc/nowhere"):
        facts = Facts(directory, found)
        facts.save(found)
        facts.forget()
        assert not facts.load(found)


# -- documents


def test_a_level_of_odd_keys() -> None:
    body = (
        b"<?xml version='1.0'?><ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>a&amp;b</NextContinuationToken>"
        b"<Contents><Key>d/a+b%2B%0A</Key><LastModified>2026-01-01T00:00:00.500Z</LastModified><Size>7</Size></Contents>"
        b"<CommonPrefixes><Prefix>d/%C3%A9/</Prefix></CommonPrefixes></ListBucketResult>"
    )
    page = documents.level(body, v1=False, subject="s")
    assert page.rows == [(b"d/a b+\n", 1767225600_500_000_000, 7)]
    assert page.prefixes == ["d/é/".encode()]
    assert page.next == b"a&b"


def test_a_level_without_encoding_and_without_marker() -> None:
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a&lt;+%20</Key><Size>1</Size></Contents>"
        b"<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes></ListBucketResult>"
    )
    page = documents.level(body, v1=True, subject="s")
    assert page.rows[0][0] == b"a<+%20"
    assert page.next == b"b/"


@pytest.mark.parametrize(
    "body", [b"", b"<html>hello</html>", b"<ListBucketResult><Contents><Key>a</Key>",
             b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"],
)  # fmt: skip
def test_cut_listings_are_no_end_of_list(body: bytes) -> None:
    """Cases 2 and 3."""
    with pytest.raises(UnexpectedReplyError) as caught:
        documents.level(body, v1=False, subject="s")
    assert caught.value.retryable


def test_uploads_and_parts() -> None:
    body = (
        b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k2</NextKeyMarker>"
        b"<NextUploadIdMarker>u2</NextUploadIdMarker><Upload><Key>k&amp;1</Key><UploadId>u1</UploadId>"
        b"<Initiated>2026-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>"
    )
    assert documents.uploads(body, "s") == ([(b"k&1", "u1", 1767225600.0)], (b"k2", "u2"))
    body = (
        b"<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>3</PartNumber>"
        b"<ETag>&#34;e&#34;</ETag><Size>5</Size><ChecksumCRC32C>QPP0qA==</ChecksumCRC32C></Part></ListPartsResult>"
    )
    parts, following = documents.parts(body, "s")
    assert [(p.number, p.size, p.etag, p.crc32c) for p in parts] == [(3, 5, b"e", 0x40F3F4A8)]
    assert following == ""
