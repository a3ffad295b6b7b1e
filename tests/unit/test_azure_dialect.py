"""The Azure dialect's turns, driven by hand with replies that no emulator gives."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from entrepot.model.errors import ChangedError, CorruptError, ForbiddenError, LockedError, NotFoundError, ThrottledError
from entrepot.model.location import parse_location
from entrepot.storage.azure.blocks import Blocks, block_id, parse_block_id
from entrepot.storage.azure.dialect import AzureDialect
from entrepot.storage.azure.target import target_of
from entrepot.storage.base import CompleteUpload, CreateUpload, Delete, Get, List, Op, Part, Put, PutPart
from entrepot.storage.wire.dialect import Again, Spread, Turn
from entrepot.storage.wire.options import LaneOptions

NOW = "Wed, 09 Sep 2020 09:20:02 GMT"
PAGE = (
    b"<?xml?><EnumerationResults><Blobs><Blob><Name>%b</Name><Properties><Last-Modified>"
    + NOW.encode()
    + b"</Last-Modified><Etag>0x1</Etag><Content-Length>1</Content-Length></Properties></Blob></Blobs>"
    b"<NextMarker/></EnumerationResults>"
)


def nothing(op: Op) -> None:
    """Completion."""


@pytest.fixture
def dialect() -> AzureDialect:
    env = {"AZURE_STORAGE_ACCOUNT": "acct", "AZURE_STORAGE_KEY": "S2V5"}
    made = AzureDialect(target_of(parse_location("az://box/"), environ=env), b"p/")
    made.options = LaneOptions()
    Blocks(made)
    return made


def turn(dialect: AzureDialect, op: Op) -> Turn:
    note = dialect.notes.get(op)
    return note.turn if note is not None and note.turn is not None else dialect.turns[type(op)]


def ask(dialect: AzureDialect, op: Op) -> bytes:
    made = turn(dialect, op).request(op)
    assert isinstance(made, bytes)
    return made


def head(status: int, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *fields]).encode()


def reply(dialect: AzureDialect, op: Op, status: int, *fields: str, body: bytes = b"") -> None:
    turn(dialect, op).reply(op, status, head(status, *fields), body)


def again(dialect: AzureDialect, op: Op, status: int, *fields: str, body: bytes = b"") -> None:
    with pytest.raises(Again) as caught:
        reply(dialect, op, status, *fields, body=body)
    dialect.note(op).turn = caught.value.turn


def test_listing_starts_at_a_key_where_the_service_can(dialect: AzureDialect) -> None:
    op = List(b"k&", b"", "etag", nothing)
    request = ask(dialect, op)
    assert b"startFrom=p%2Fk%26 " in request and b"x-ms-version:2026-02-06\r\n" in request
    assert b"maxresults=5000" in request and b"maxresults=7&" in ask(dialect, List(b"", b"", "etag", nothing, limit=7))
    reply(dialect, op, 200, body=PAGE % b"p/k&amp;")
    assert op.page.rows == [] and op.page.last and dialect.target.profile.start_from is not False
    follow = List(b"k&", b"2!8!x", "etag", nothing)
    assert b"startFrom" not in ask(dialect, follow) and b"marker=2%218%21x" in ask(dialect, follow)


@pytest.mark.parametrize(
    ("code", "named"),
    [("InvalidHeaderValue", "x-ms-version"), ("UnsupportedQueryParameter", ""), ("InvalidQueryParameterValue", "")],
)
def test_an_older_service_is_asked_without_start_from(dialect: AzureDialect, code: str, named: str) -> None:
    op = List(b"k", b"", "etag", nothing)
    ask(dialect, op)
    body = f"<Error><Code>{code}</Code><HeaderName>{named}</HeaderName></Error>".encode()
    again(dialect, op, 400, f"x-ms-error-code: {code}", body=body)
    request = ask(dialect, op)
    assert b"startFrom" not in request and b"x-ms-version:2021-12-02" in request
    reply(dialect, op, 200, body=PAGE % b"p/a")
    assert op.page.rows == [] and dialect.target.profile.start_from is False


def test_a_service_that_ignores_start_from_is_seen_through(dialect: AzureDialect) -> None:
    op = List(b"k", b"", "etag", nothing)
    ask(dialect, op)
    reply(dialect, op, 200, body=PAGE % b"p/a")
    assert op.page.rows == [] and dialect.target.profile.start_from is False


def test_case_55_a_refused_signature_teaches_the_clock(dialect: AzureDialect) -> None:
    op = Get(b"k", nothing)
    ask(dialect, op)
    fields = ("x-ms-error-code: AuthenticationFailed", f"Date: {NOW}")
    again(dialect, op, 403, *fields)
    assert b"x-ms-date:Wed, 09 Sep 2020 09:20:0" in ask(dialect, op)
    with pytest.raises(ForbiddenError):
        reply(dialect, op, 403, *fields)


def test_case_33_a_resumed_body_is_pinned_to_its_first_etag(dialect: AzureDialect) -> None:
    class Sink:
        def write(self, offset: int, piece: memoryview) -> None:
            """Take it."""

    op = Get(b"k", nothing, sink=Sink())
    assert b"x-ms-range" not in ask(dialect, op)
    intake = turn(dialect, op).intake
    assert intake is not None
    first = intake(op, 200, head(200, 'ETag: "0x1"', "Content-MD5: bad="), 100)
    assert first is not None and (first.offset, first.left, first.skip) == (0, 100, 0) and first.digest
    first.digest.update(b"x" * 40)
    dialect.note(op).reached = 40
    request = ask(dialect, op)
    assert b'If-Match: "0x1"' in request and b"x-ms-range:bytes=40-\r\n" in request
    second = intake(op, 206, head(206, 'ETag: "0x1"', "Content-Range: bytes 40-99/100"), 60)
    assert second is not None and (second.offset, second.left, second.digest) == (40, 60, first.digest)
    with pytest.raises(ChangedError):
        intake(op, 206, head(206, 'ETag: "0x2"', "Content-Range: bytes 40-99/100"), 60)
    with pytest.raises(CorruptError, match="MD5"):
        reply(dialect, op, 206, 'ETag: "0x1"', "Content-Range: bytes 40-99/100")
    assert b"x-ms-range" not in ask(dialect, op), "a damaged body is read again from its start"


def test_case_32_ranges_that_are_ignored_or_wrong(dialect: AzureDialect) -> None:
    op = Get(b"k", nothing, offset=10, length=5)
    assert b"x-ms-range:bytes=10-14\r\n" in ask(dialect, op)
    reply(dialect, op, 200, 'ETag: "1"', body=bytes(range(30)))
    assert bytes(op.body) == bytes(range(10, 15)) and op.proof == "size"
    for said in ("Content-Range: bytes 11-15/30", "X: y", "Content-Range: bytes 10-14/*"):
        with pytest.raises(CorruptError):
            reply(dialect, op, 206, said, body=b"12345")
    with pytest.raises(CorruptError):
        reply(dialect, op, 206, "Content-Range: bytes 10-14/30", body=b"123")


def test_case_37_and_50_a_damaged_body_is_refused(dialect: AzureDialect) -> None:
    op = Get(b"k", nothing)
    ask(dialect, op)
    md5 = base64.b64encode(hashlib.md5(b"good").digest()).decode()
    with pytest.raises(CorruptError) as caught:
        reply(dialect, op, 200, f"Content-MD5: {md5}", body=b"goof")
    assert caught.value.retryable
    reply(dialect, op, 200, f"Content-MD5: {md5}", body=b"good")
    assert op.proof == "md5"
    bare = Get(b"k", nothing)
    reply(dialect, bare, 200, body=b"good")
    assert bare.proof == "size"


def test_case_39_a_lost_answer_to_a_conditional_put_is_settled_by_head(dialect: AzureDialect) -> None:
    md5 = base64.b64encode(hashlib.md5(b"mine").digest()).decode()
    for there, size, fine in ((md5, 4, True), (md5, 5, False), ("b3RoZXI=", 4, False), ("", 4, False)):
        op = Put(b"k", b"mine", nothing, if_absent=True)
        assert b"If-None-Match: *\r\n" in ask(dialect, op) and f"Content-MD5: {md5}".encode() in ask(dialect, op)
        dialect.note(op).lost = True
        again(dialect, op, 409, "x-ms-error-code: BlobAlreadyExists")
        assert ask(dialect, op).startswith(b"HEAD /box/p/k ")
        fields = ('ETag: "0x7"', f"Content-MD5: {there}", f"Content-Length: {size}")
        if fine:
            reply(dialect, op, 200, *fields)
            assert op.etag == b"0x7" and op.proof == "md5"
        else:
            with pytest.raises(ChangedError):
                reply(dialect, op, 200, *fields)
    fresh = Put(b"k", b"mine", nothing, if_absent=True)
    ask(dialect, fresh)
    with pytest.raises(ChangedError):
        reply(dialect, fresh, 409, "x-ms-error-code: BlobAlreadyExists")


def test_a_put_that_confirms_other_bytes_is_corrupt(dialect: AzureDialect) -> None:
    for op in (Put(b"k", b"mine", nothing), PutPart(b"k", "0" * 40, 1, b"mine", nothing)):
        ask(dialect, op)
        with pytest.raises(CorruptError):
            reply(dialect, op, 201, "Content-MD5: b3RoZXI=")


def test_case_40_a_lost_commit_is_settled_by_the_block_list(dialect: AzureDialect) -> None:
    upload = "ab" * 20
    parts = [Part(1, 5, b""), Part(2, 5, b"")]
    names = b"".join(b"<Block><Name>%b</Name><Size>5</Size></Block>" % block_id(upload, n) for n in (1, 2))
    done = b"<?xml?><BlockList><CommittedBlocks>%b</CommittedBlocks></BlockList>"
    for committed, fine in ((names, True), (b"", False)):
        op = CompleteUpload(b"k", upload, parts, nothing)
        assert b"<Latest>%b</Latest>" % block_id(upload, 2) in ask(dialect, op)
        dialect.note(op).lost = True
        again(dialect, op, 400, "x-ms-error-code: InvalidBlockList")
        assert b"blocklisttype=committed" in ask(dialect, op)
        if fine:
            reply(dialect, op, 200, 'ETag: "0x9"', body=done % committed)
            assert op.etag == b"0x9"
        else:
            with pytest.raises(NotFoundError):
                reply(dialect, op, 200, body=done % committed)
    op = CompleteUpload(b"k", upload, parts, nothing)
    ask(dialect, op)
    with pytest.raises(NotFoundError):
        reply(dialect, op, 400, "x-ms-error-code: InvalidBlockList")


def test_block_ids_have_one_length_and_name_their_upload(dialect: AzureDialect) -> None:
    done: list[Any] = []
    op = CreateUpload(b"k", done.append)
    made = dialect.turns[CreateUpload].request(op)
    assert isinstance(made, Spread) and made.ops == [] and done == [op]
    assert len(block_id(op.upload_id, 1)) == len(block_id(op.upload_id, 50_000)) == 64
    assert parse_block_id(block_id(op.upload_id, 50_000)) == (op.upload_id, 50_000)
    for foreign in (b"QUJD", b"***", base64.b64encode(b"x" * 48), base64.b64encode(b"\xff" * 48)):
        assert parse_block_id(foreign) is None


def test_deletes_count_what_is_gone_and_retry_what_is_busy(dialect: AzureDialect) -> None:
    op = Delete([b"k"], nothing)
    assert ask(dialect, op).startswith(b"DELETE /box/p/k ")
    reply(dialect, op, 404, "x-ms-error-code: BlobNotFound")
    assert not op.failed
    with pytest.raises(ThrottledError):
        reply(dialect, op, 503, "x-ms-error-code: ServerBusy")
    reply(dialect, op, 404, "x-ms-error-code: ContainerNotFound")
    reply(dialect, op, 409, "x-ms-error-code: BlobImmutableDueToPolicy")
    assert [(key, type(error)) for key, error in op.failed] == [(b"k", NotFoundError), (b"k", LockedError)]
