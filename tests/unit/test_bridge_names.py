"""Names, errors, spool and opening of the bridge."""

from __future__ import annotations

import errno
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.connection import Connection
from entrepot.model.errors import (
    ForbiddenError,
    LockedError,
    NameNotPossibleError,
    NotFoundError,
    QuotaError,
    StoreError,
    StoreTimeoutError,
    ThrottledError,
    UnexpectedReplyError,
    UsageError,
)
from entrepot.model.location import Location, parse_location
from entrepot.model.secret import Secret
from entrepot.storage.base import FileRegion, Part
from entrepot.storage.bridge import BridgeStore, guard
from entrepot.storage.bridge.faults import HttpStatus, store_error
from entrepot.storage.bridge.opening import open_place
from entrepot.storage.bridge.spool import PART, Spool, pieces_of

PROTOCOLS = ["sftp", "webdav", "gcs", "hdfs"]


@given(st.binary(min_size=1, max_size=60), st.sampled_from(PROTOCOLS))
def test_what_the_guard_lets_through_has_one_path_and_comes_back(key: bytes, protocol: str) -> None:
    try:
        guard.check(key, protocol)
    except NameNotPossibleError:
        return
    assert os.path.normpath(b"/" + key) == b"/" + key, "no other key leads to the same file"
    assert guard.decode(guard.encode(key)) == key
    if protocol != "sftp":
        assert key.decode("utf-8").encode() == key


@pytest.mark.parametrize(
    "key", [b"", b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"./a", b"a\0", b"s" * 300 + b"/x"]
)
@pytest.mark.parametrize("protocol", ["sftp", "webdav", "hdfs"])
def test_keys_that_no_tree_can_hold(key: bytes, protocol: str) -> None:
    with pytest.raises(NameNotPossibleError) as caught:
        guard.check(key, protocol)
    assert caught.value.hint


def test_temporary_names_are_hidden_and_refused() -> None:
    for name in (guard.temporary_name(), guard.temporary_name(decomposed=True), guard.temporary_name() + b"?x"):
        assert guard.is_temporary(name)
    with pytest.raises(NameNotPossibleError):
        guard.check(b"dir/" + guard.temporary_name(), "sftp")
    assert not guard.is_temporary(b"k.part") and not guard.is_temporary(b".entrepot-zz.part")
    assert guard.composed(b"ascii") and guard.composed("\u00e9".encode()) and not guard.composed("e\u0301".encode())


class _Coded(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("failed")
        self.code = code


class SFTPError(_Coded):
    __module__ = "asyncssh.sftp"


class ConnectionLost(Exception):
    __module__ = "asyncssh.misc"


class HttpError(_Coded):
    __module__ = "gcsfs.retry"


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        (FileNotFoundError("x"), NotFoundError, False), (PermissionError("x"), ForbiddenError, False),
        (OSError(errno.ENOSPC, "full"), QuotaError, False), (OSError(errno.EROFS, "ro"), QuotaError, False),
        (IsADirectoryError("x"), NameNotPossibleError, False), (TimeoutError("x"), StoreTimeoutError, True),
        (ConnectionResetError("x"), StoreTimeoutError, True), (EOFError(), StoreTimeoutError, True),
        (HttpStatus(404), NotFoundError, False), (HttpStatus(401), ForbiddenError, False),
        (HttpStatus(423), LockedError, True), (HttpStatus(429), ThrottledError, True),
        (HttpStatus(502), UnexpectedReplyError, True), (HttpStatus(501), UnexpectedReplyError, False),
        (HttpStatus(507), QuotaError, False), (HttpStatus(302), UnexpectedReplyError, False),
        (SFTPError(2), NotFoundError, False), (SFTPError(3), ForbiddenError, False),
        (SFTPError(14), QuotaError, False), (SFTPError(7), StoreTimeoutError, True),
        (ConnectionLost(), StoreTimeoutError, True), (HttpError(503), ThrottledError, True),
        (HttpError(403), ForbiddenError, False), (ValueError("odd"), UnexpectedReplyError, False),
    ],
)  # fmt: skip
def test_faults_have_classes(fault: Exception, kind: type[StoreError], retryable: bool) -> None:
    error = store_error(fault, "sftp://h/k")
    assert type(error) is kind and error.retryable is retryable and "sftp://h/k" in str(error)


def test_faults_do_not_repeat_urls_with_credentials() -> None:
    error = store_error(ValueError("cannot reach https://user:pa55@host/x?token=abc now"), "s")
    assert "pa55" not in str(error) and "abc" not in str(error) and "now" in str(error)


def test_parts_gather_in_any_order_and_survive(tmp_path: object) -> None:
    spool = Spool("here", str(tmp_path))
    upload_id = spool.create(b"dir/\xffkey")
    body = os.urandom(1000)
    last = spool.put(upload_id, 2, body)
    again = Spool("here", str(tmp_path))
    assert again.parts(upload_id) == [last] and last == Part(2, 1000, b"1000")
    assert [(k, u) for k, u, _ in again.uploads()] == [(b"dir/\xffkey", upload_id)]
    assert list(Spool("elsewhere", str(tmp_path)).uploads()) == []
    first = again.put(upload_id, 1, b"\0" * PART)
    region = again.open(upload_id, [first, last])
    assert (region.offset, region.length) == (0, PART + 1000)
    assert os.pread(region.fd, 2000, PART) == body
    os.close(region.fd)
    with open(os.path.join(str(tmp_path), upload_id, "parts"), "a") as out:
        out.write("3 77")  # a line that a crash cut
    assert [p.number for p in again.parts(upload_id)] == [1, 2]
    again.drop(upload_id)
    again.drop(upload_id)
    for call in (lambda: again.parts(upload_id), lambda: again.put(upload_id, 1, b""), lambda: again.parts("../x")):
        with pytest.raises(NotFoundError):
            call()


@pytest.mark.parametrize("sizes", [[(1, 5), (2, PART)], [(2, 5)], [(1, PART), (3, 5)], [(1, PART), (2, 6)]])
def test_an_upload_with_a_hole_is_never_sent(tmp_path: object, sizes: list[tuple[int, int]]) -> None:
    spool = Spool("here", str(tmp_path))
    upload_id = spool.create(b"k")
    spool.put(upload_id, 1, b"\0" * PART)
    spool.put(upload_id, 2, b"12345")
    with pytest.raises(UnexpectedReplyError):
        spool.open(upload_id, [Part(number, size, b"") for number, size in sizes])


def test_a_body_that_shrinks_is_noticed(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "f")
    with open(path, "wb") as out:
        out.write(b"12345")
    with open(path, "rb") as held:
        assert b"".join(pieces_of(FileRegion(held.fileno(), 1, 3))) == b"234"
        with pytest.raises(UnexpectedReplyError):
            list(pieces_of(FileRegion(held.fileno(), 1, 30)))
    assert b"".join(pieces_of(memoryview(b"x" * 3_000_000))) == b"x" * 3_000_000


def test_places_from_locations_and_connections() -> None:
    place, path = open_place(parse_location("webdavs://me@Host:8443/a b/c"), environ={})
    assert (place.identity(), path) == ("host:8443", b"a b/c/")
    dav = Connection("d", "webdav", endpoint="https://h/remote.php/dav", secret_key=Secret("topsecret"))
    place, path = open_place(Location("connection", "files", b"x/", connection="d"), dav)
    assert (place.identity(), place.base, path) == ("h", b"remote.php/dav/", b"files/x/")
    stored = BridgeStore(Location("connection", "files", b"x/", connection="d"), dav)
    plain = BridgeStore(parse_location("webdavs://h/remote.php/dav/files/x"), environ={})
    assert stored.identity() == plain.identity() == ("webdav:h", b"remote.php/dav/files/x/")
    assert "topsecret" not in repr(dav)
    sftp = Connection("s", "sftp", endpoint="sftp://u@h:2222/home/u")
    place, path = open_place(Location("connection", "", b"x/", connection="s"), sftp)
    assert (place.identity(), path) == ("h:2222", b"home/u/x/")
    place.close()


@pytest.mark.parametrize("text", ["sftp://u:pw@h/x", "webdav://u:pw@h/x", "sftp://h:port/x", "s3://b/x"])
def test_locations_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        BridgeStore(parse_location(text), environ={})
    assert "pw" not in f"{caught.value} {caught.value.hint}".replace("password", "")


@pytest.mark.parametrize(("module", "text"), [("asyncssh", "sftp://h/x"), ("gcsfs.core", "gs://b/x")])
def test_a_missing_package_says_what_to_install(module: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as caught:
        BridgeStore(parse_location(text), environ={})
    assert "entrepot[bridge]" in caught.value.hint
