"""AzureStore and its lane against Azurite."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from entrepot.model.connection import Connection
from entrepot.model.errors import (
    ChangedError,
    ForbiddenError,
    NameNotPossibleError,
    NotFoundError,
    StoreError,
)
from entrepot.model.location import parse_location
from entrepot.model.secret import Secret
from entrepot.storage.azure import sign
from entrepot.storage.azure.request import Requests
from entrepot.storage.azure.store import AzureStore
from entrepot.storage.base import (
    AbortUpload,
    CompleteUpload,
    Copy,
    CopyPart,
    CreateUpload,
    Delete,
    FileRegion,
    Get,
    Head,
    Lane,
    List,
    Meta,
    Op,
    Part,
    Put,
    PutPart,
)
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor
from parts.program import need_program
from parts.servers import WHEELS, AzureServer, start_azurite


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    server = start_azurite(str(tmp_path_factory.mktemp("azurite")))
    yield server
    server.stop()


def open_store(server: AzureServer, container: str, prefix: str = "") -> AzureStore:
    return AzureStore.open(parse_location(f"az://{container}/{prefix}"), environ=server.env())


def make_container(server: AzureServer, name: str) -> None:
    store = open_store(server, name)
    requests = Requests(store.target)
    head = requests.head(b"PUT", b"", (("restype", b"container"),), length=0)
    parts = urlsplit(server.endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    line, _, rest = head.partition(b"\r\n")
    headers = dict(field.decode().split(":", 1) for field in rest.split(b"\r\n") if field)
    connection.request("PUT", line.split()[1].decode(), headers={k: v.strip() for k, v in headers.items()})
    assert connection.getresponse().status == 201
    connection.close()


@pytest.fixture
def store(azurite: AzureServer) -> Iterator[AzureStore]:
    name = f"t{uuid.uuid4().hex[:20]}"
    make_container(azurite, name)
    opened = open_store(azurite, name, "pre fix/")
    yield opened
    opened.close()


class Runner:
    """Runs operations on a lane until they are done."""

    def __init__(self, store: AzureStore) -> None:
        self.reactor = Reactor()
        self.lane: Lane = store.lane(self.reactor, LaneOptions(connections=8, attempts=3))
        self.left = 0

    def done(self, op: Op) -> None:
        self.left -= 1

    def run(self, *ops: Op) -> None:
        self.left += len(ops)
        for op in ops:
            self.lane.submit(op)
        end = time.monotonic() + 60
        while self.left:
            self.reactor.poll(0.5)
            assert time.monotonic() < end, "operations did not come back"


@contextmanager
def running(store: AzureStore) -> Iterator[Runner]:
    runner = Runner(store)
    yield runner
    runner.lane.close()
    runner.reactor.close()


class Gather:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.base: int | None = None

    def write(self, offset: int, piece: memoryview) -> None:
        if self.base is None:
            self.base = offset
        assert offset == self.base + len(self.data)
        self.data += piece


def ok(op: Op) -> Op:
    assert op.error is None, (op.error, op.error.hint)
    return op


def nothing(op: Op) -> None:
    raise AssertionError("not submitted")


KEYS = [
    b"/lead", b"a", b"a b&<c>\"'", b"a%2Fb", b"a+b", b"a//b", b"a/", b"a/b", b"a0", b"dir/x#y?z=1",
    b"z~!@$^*()_=[]{}|;:,",
    "\u00e9".encode(), "e\u0301".encode(), "日本語/文件".encode(), b" lead", b"trail ", b"x.y/z",
]  # fmt: skip


def test_case_19_and_20_keys_round_trip(store: AzureStore) -> None:
    with running(store) as r:
        puts = [Put(key, key + b"!", r.done) for key in KEYS]
        r.run(*puts)
        for op in puts:
            ok(op)
            assert op.proof == "md5" and op.etag
        rows = [row for page in store.pages() for row in page.rows]
        assert [row[0] for row in rows] == sorted(KEYS)
        assert [row[2] for row in rows] == [len(key) + 1 for key in sorted(KEYS)]
        gets = [Get(key, r.done) for key in KEYS]
        r.run(*gets)
        for op in gets:
            ok(op)
            assert bytes(op.body) == op.key + b"!" and op.proof == "md5"
        assert r.lane.requests()["put"] == len(KEYS)


def test_keys_that_azure_would_alter_fail_with_class_name(store: AzureStore) -> None:
    bad = [b"a/../b", b"a\\b", b"a\nb", b"end.", b"a./b", b"\xff", b"x" * 1020, "\ufffe".encode()]
    with running(store) as r:
        ops = [Put(key, b"1", r.done) for key in bad]
        r.run(*ops)
        assert [type(op.error) for op in ops] == [NameNotPossibleError] * len(bad)
        assert not any(r.lane.requests().values())


def test_listing_in_pages_and_from_a_key(store: AzureStore) -> None:
    with running(store) as r:
        r.run(*(Put(b"k%03d" % n, b"x", r.done) for n in range(25)))
        keys: list[bytes] = []
        token, after = b"", b""
        while True:
            op = List(after, token, "etag", r.done, limit=10)
            r.run(op)
            ok(op)
            assert all(isinstance(row[1], bytes) and not row[1].startswith(b'"') for row in op.page.rows)
            keys += [row[0] for row in op.page.rows]
            if op.page.last:
                break
            token = op.page.token
        assert keys == [b"k%03d" % n for n in range(25)]
    assert [row[0] for page in store.pages(b"k011") for row in page.rows] == [b"k%03d" % n for n in range(12, 25)]
    assert [row[0] for page in store.pages(b"k0115") for row in page.rows] == keys[12:]
    assert [row[0] for page in store.pages(b"z") for row in page.rows] == []
    now = time.time_ns()
    assert all(abs(row[1] - now) < 120e9 for page in store.pages() for row in page.rows)


def test_levels(store: AzureStore) -> None:
    for key in (b"a", b"d/x", b"d/y", b"e/f/g"):
        store.write(key, b"1")
    ((rows, prefixes),) = store.children(b"")
    assert [row[0] for row in rows] == [b"a"] and prefixes == [b"d/", b"e/"]
    ((rows, prefixes),) = store.children(b"d/")
    assert [row[0] for row in rows] == [b"d/x", b"d/y"] and prefixes == []


def test_check_names_what_is_wrong(azurite: AzureServer, store: AzureStore) -> None:
    store.check()
    store.write(b"first", b"1")
    store.check()
    assert store.caps.start_after in {True, False}
    with pytest.raises(NotFoundError, match=r"container `absent` does not exist"):
        open_store(azurite, "absent").check()
    wrong = {**azurite.env(), "AZURE_STORAGE_KEY": "AAAA"}
    with pytest.raises(ForbiddenError) as caught:
        AzureStore.open(store.location, environ=wrong).check()
    assert "AAAA" not in str(caught.value) + caught.value.hint
    with pytest.raises(ForbiddenError):
        AzureStore.open(
            store.location, environ={k: v for k, v in azurite.env().items() if k != "AZURE_STORAGE_KEY"}
        ).check()


def test_a_stored_connection_and_a_sas(azurite: AzureServer, store: AzureStore) -> None:
    store.write(b"k", b"body")
    key = sign.decoded_key(Secret(azurite.key))
    sas = sign.container_sas(azurite.account, key, store.target.container, expires=time.time() + 600, https_only=False)
    connection = Connection("c", "azure", endpoint=azurite.endpoint, access_key=azurite.account, sas=Secret("?" + sas))
    reader = AzureStore.open(store.location, connection)
    assert reader.read(b"k") == b"body"
    assert reader.identity() == store.identity()
    with pytest.raises(ForbiddenError) as caught:
        reader.write(b"k", b"other")
    assert "sig=" not in str(caught.value) and sas[-20:] not in repr(caught.value)
    reader.close()


def test_conditions_and_errors(store: AzureStore) -> None:
    with running(store) as r:
        first, again = Put(b"k", b"one", r.done), Put(b"k", b"two", r.done, if_absent=True)
        r.run(first)
        r.run(again)
        ok(first)
        assert isinstance(again.error, ChangedError)
        fresh = Put(b"new", b"two", r.done, if_absent=True)
        gone, pinned, head = Get(b"absent", r.done), Get(b"k", r.done, if_match=b"0x1"), Head(b"absent", r.done)
        beyond = Get(b"k", r.done, offset=2, length=10)
        r.run(fresh, gone, pinned, head, beyond)
        ok(fresh)
        assert isinstance(gone.error, NotFoundError) and isinstance(head.error, NotFoundError)
        assert isinstance(pinned.error, ChangedError) and isinstance(beyond.error, ChangedError)
        assert store.target.container in str(gone.error)


def test_metadata_and_headers_come_back(store: AzureStore) -> None:
    meta = Meta(
        mtime_ns=1_700_000_000_123_456_789,
        content_type="text/x-test",
        metadata={"plain": "1", "Case": "2", "with-dash": "3", "é": "ü %41", "a_1": "x", "a1": "y"},
        headers={"Cache-Control": "no-store", "Content-Language": "de", "Content-Encoding": "gzip"},
    )
    with running(store) as r:
        put = Put(b"k", b"body", r.done, meta=meta)
        r.run(put)
        ok(put)
        get = Get(b"k", r.done)
        r.run(get)
        info = r.lane.info(ok(get))
    assert get.body == b"body"
    for found in (info, store.head(b"k")):
        assert found.size == 4 and found.etag == put.etag
        assert found.source_mtime_ns == meta.mtime_ns
        assert found.content_type == "text/x-test" and found.headers == meta.headers
        kept = {k: v for k, v in found.metadata.items() if k != "mtime"}
        assert kept == meta.metadata


def test_ranges_and_sinks(store: AzureStore) -> None:
    data = os.urandom(300_000)
    store.write(b"big", data)
    with running(store) as r:
        part = Get(b"big", r.done, offset=1000, length=5000)
        tail = Get(b"big", r.done, offset=299_000)
        sink, whole = Gather(), Gather()
        streamed = Get(b"big", r.done, offset=10, length=200_000, sink=sink)
        entire = Get(b"big", r.done, sink=whole)
        r.run(part, tail, streamed, entire)
        for op in (part, tail, streamed, entire):
            ok(op)
        assert bytes(part.body) == data[1000:6000] and bytes(tail.body) == data[299_000:]
        assert sink.base == 10 and bytes(sink.data) == data[10:200_010]
        assert bytes(whole.data) == data and entire.proof == "md5"
        store.write(b"empty", b"")
        empty, none = Get(b"empty", r.done), Gather()
        r.run(empty, drained := Get(b"empty", r.done, sink=none))
        assert bytes(ok(empty).body) == b"" and ok(drained) and not none.data  # type: ignore[attr-defined]


def test_upload_in_blocks_resume_and_commit(store: AzureStore, tmp_path: object) -> None:
    data = os.urandom(700_000)
    path = os.path.join(str(tmp_path), "source")
    with open(path, "wb") as out:
        out.write(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        with running(store) as r:
            create = CreateUpload(b"dir/mp", r.done)
            r.run(create)
            ok(create)
            cuts = [(1, 0, 300_000), (2, 300_000, 300_000), (3, 600_000, 100_000)]
            ops = [PutPart(b"dir/mp", create.upload_id, n, FileRegion(fd, o, s), r.done) for n, o, s in cuts]
            r.run(*ops[:2])
            assert [(k, u) for k, u, _ in store.uploads(b"dir/")] == [(b"dir/mp", create.upload_id)]
            held = store.upload_parts(b"dir/mp", create.upload_id)
            assert [(p.number, p.size) for p in held] == [(1, 300_000), (2, 300_000)]
            short = CompleteUpload(b"dir/mp", create.upload_id, [*held, Part(3, 1, b"")], r.done)
            r.run(short)
            assert isinstance(short.error, NotFoundError), "case 42: never completed with a hole"
            r.run(ops[2])
            parts = [ok(op).part for op in ops]  # type: ignore[attr-defined]
            complete = CompleteUpload(b"dir/mp", create.upload_id, parts, r.done, meta=Meta(mtime_ns=5))
            r.run(complete)
            ok(complete)
            twice = CompleteUpload(b"dir/mp", create.upload_id, parts, r.done)
            r.run(twice)
            ok(twice)  # a commit that is sent again finds its blocks committed
            get = Get(b"dir/mp", r.done)
            r.run(get)
            assert hashlib.sha256(ok(get).body).digest() == hashlib.sha256(data).digest()  # type: ignore[attr-defined]
            with pytest.raises(NotFoundError):
                store.upload_parts(b"dir/mp", create.upload_id)
            abort = AbortUpload(b"dir/mp", create.upload_id, r.done)
            r.run(abort)
            ok(abort)
    finally:
        os.close(fd)


def test_server_copy_keeps_metadata(azurite: AzureServer, store: AzureStore) -> None:
    name = f"t{uuid.uuid4().hex[:20]}"
    make_container(azurite, name)
    other = open_store(azurite, name)
    assert other.can_server_copy_from(store)
    with running(store) as r:
        put = Put(b"src x", b"copy me", r.done, meta=Meta(mtime_ns=7, content_type="a/b", metadata={"k": "v"}))
        r.run(put)
        ok(put)
    with running(other) as r:
        copy = Copy(b"dst y", store, b"src x", r.done, if_match=put.etag)
        stale = Copy(b"dst z", store, b"src x", r.done, if_match=b"0x1")
        gone = Copy(b"dst z", store, b"absent", r.done)
        fresh = Copy(b"dst m", store, b"src x", r.done, meta=Meta(mtime_ns=9, metadata={"n": "1"}))
        r.run(copy, stale, gone, fresh)
        ok(copy)
        assert copy.etag
        assert isinstance(stale.error, ChangedError) and isinstance(gone.error, NotFoundError)
        info = other.head(b"dst y")
        assert info.metadata["k"] == "v" and info.source_mtime_ns == 7 and info.content_type == "a/b"
        ok(fresh)
        assert other.head(b"dst m").source_mtime_ns == 9
        create = CreateUpload(b"parts", r.done)
        r.run(create)
        part = CopyPart(b"parts", create.upload_id, 1, store, b"src x", 0, 4, r.done)
        r.run(part)
        if part.error is not None and part.error.code == "APINotImplemented":
            return  # Azurite before 3.36 has no Put Block From URL
        complete = CompleteUpload(b"parts", create.upload_id, [ok(part).part], r.done)  # type: ignore[attr-defined]
        r.run(complete)
        ok(complete)
        assert other.read(b"parts") == b"copy"
    other.close()


def test_deletes(store: AzureStore) -> None:
    with running(store) as r:
        r.run(*(Put(b"k%d" % n, b"x", r.done) for n in range(8)))
        one, many = Delete([b"k0"], r.done), Delete([b"k%d" % n for n in range(1, 7)] + [b"absent", b"bad."], r.done)
        none = Delete([], r.done)
        r.run(one, many, none)
        ok(one)
        ok(many)
        assert not one.failed and [key for key, _ in many.failed] == [b"bad."]
        assert all(isinstance(error, StoreError) for _, error in many.failed)
    assert [row[0] for page in store.pages() for row in page.rows] == [b"k7"]


def test_a_wrong_clock_is_learned(azurite: AzureServer, store: AzureStore) -> None:
    store.write(b"k", b"1")
    skewed = open_store(azurite, store.target.container, "pre fix/")
    skewed.target.clock_offset = -7200.0
    assert skewed.read(b"k") == b"1"
    assert abs(skewed.target.clock_offset) < 60 or skewed.target.clock_offset == -7200.0
    skewed.close()


def rclone(azurite: AzureServer, directory: str, *arguments: str) -> str:
    """Run rclone with a remote ``az:`` at ``azurite``."""
    settings = os.path.join(directory, "rclone.conf")
    with open(settings, "w") as out:
        out.write("[az]\ntype = azureblob\n")
        out.write(f"account = {azurite.account}\nkey = {azurite.key}\nendpoint = {azurite.endpoint}\n")
    program = need_program("rclone", WHEELS)
    done = subprocess.run(
        [program, "--config", settings, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_case_8_mtimes_and_hashes_are_shared_with_rclone(
    azurite: AzureServer, store: AzureStore, tmp_path: object
) -> None:
    """rclone sees our mtimes and MD5s, and we see its mtimes."""
    directory = str(tmp_path)
    place = f"az:{store.target.container}"
    mtime = 1_600_000_000_123_456_789
    with running(store) as r:
        put = Put(b"ours", b"body", r.done, meta=Meta(mtime_ns=mtime))
        r.run(put)
        ok(put)
    (seen,) = json.loads(rclone(azurite, directory, "lsjson", "--hash", f"{place}/pre fix"))
    assert seen["ModTime"] == "2020-09-13T12:26:40.123456789Z"
    assert seen["Hashes"]["md5"] == hashlib.md5(b"body").hexdigest()
    path = os.path.join(directory, "theirs")
    with open(path, "wb") as out:
        out.write(b"theirs")
    os.utime(path, ns=(mtime, mtime))
    rclone(azurite, directory, "copyto", path, f"{place}/pre fix/theirs")
    info = store.head(b"theirs")
    assert info.source_mtime_ns == mtime and info.size == 6
