"""The guard of storage's connections: lanes, control calls, WebDAV and SFTP connect only where it lets them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from entrepot.model.errors import EntrepotError, ForbiddenError, StoreError
from entrepot.model.secret import Secret
from entrepot.storage.base import Get, Op
from entrepot.storage.bridge.webdav import WebdavPlace
from entrepot.storage.s3.exchange import Exchange
from entrepot.storage.s3.lane import S3Lane
from entrepot.storage.s3.target import Credentials, Profile, S3Target
from entrepot.storage.wire import resolve
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor
from entrepot.storage.wire.resolve import Resolver, allowed, connect, guard, guarded


class Door:
    """A listening socket that counts who came."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.visits = 0
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        while True:
            try:
                visitor, _ = self.socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join(10)


@pytest.fixture
def door() -> Iterator[Door]:
    one = Door()
    yield one
    guard(None)
    one.close()


class Guard:
    """Refuses addresses and remembers what it was asked."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.asked: list[tuple[str, str, int]] = []

    def __call__(self, host: str, address: str, port: int) -> None:
        self.asked.append((host, address, port))
        if address in self.refused:
            raise ForbiddenError(f"not to {host}", subject=host)


def target(door: Door) -> S3Target:
    credentials = Credentials("AK", Secret("SK"))
    return S3Target("localhost", door.port, False, "b", "r", lambda _fresh: credentials, Profile())


def addresses(*texts: str) -> Any:
    return lambda _host, port: [(int(socket.AF_INET), (text, port)) for text in texts]


def test_a_control_call_does_not_connect_where_it_may_not(door: Door) -> None:
    check = Guard("127.0.0.1", "::1")
    guard(check)
    with pytest.raises(ForbiddenError, match="not to localhost"):
        Exchange(target(door)).send("GET", b"k")
    assert ("localhost", "127.0.0.1", door.port) in check.asked
    assert door.visits == 0
    guard(None)
    with pytest.raises(StoreError):
        Exchange(target(door)).send("GET", b"k")
    assert door.visits > 0, "without the guard it would have"


def test_a_lane_gives_its_work_back_with_the_refusal_at_once(door: Door) -> None:
    guard(Guard("127.0.0.1", "::1"))
    reactor = Reactor()
    lane = S3Lane(target(door), b"", reactor, LaneOptions())
    done: list[Op] = []
    for name in (b"a", b"b", b"c"):
        lane.submit(Get(name, done.append))
    for _ in range(200):
        if len(done) == 3:
            break
        reactor.poll(0.1)
    lane.close()
    assert [type(op.error) for op in done] == [ForbiddenError] * 3
    assert door.visits == 0


def test_a_webdav_place_does_not_connect_nor_connect_again(door: Door) -> None:
    place = WebdavPlace(f"http://localhost:{door.port}/", "", Secret(""))
    guard(Guard("127.0.0.1", "::1"))
    with pytest.raises(ForbiddenError):
        place.entries(b"")
    assert door.visits == 0
    place.close()


def test_an_sftp_place_does_not_connect(door: Door) -> None:
    from entrepot.storage.bridge.sftp import SftpPlace

    place = SftpPlace("localhost", door.port, "user", Secret("x"), verify=False)
    guard(Guard("127.0.0.1", "::1"))
    with pytest.raises((ForbiddenError, EntrepotError)):
        place.entries(b"")
    assert door.visits == 0
    place.close()


def test_a_guarded_sftp_place_lends_no_keys_of_the_server(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncssh

    from entrepot.storage.bridge.sftp import SftpPlace

    seen: list[dict[str, Any]] = []

    async def connect_with(*_: Any, **options: Any) -> Any:
        seen.append(options)
        raise OSError("far enough")

    monkeypatch.setattr(asyncssh, "connect", connect_with)
    for check in (None, Guard()):
        guard(check)
        place = SftpPlace("localhost", door.port, "user", Secret("x"))
        with pytest.raises((EntrepotError, OSError)):
            place.entries(b"")
        place.close()
    free, held = seen
    assert "client_keys" not in free and "sock" not in free
    assert (held["client_keys"], held["agent_path"], held["config"], held["password"]) == (None, None, None, "x")
    held["sock"].close()


def test_a_gcs_place_does_not_connect_not_even_after_a_redirect(door: Door) -> None:
    from entrepot.model.connection import Connection
    from entrepot.model.location import parse_location
    from entrepot.storage.bridge.opening import open_place

    connection = Connection("g", "gcs", endpoint=f"http://localhost:{door.port}", options={"token": "anon"})
    location = parse_location("g:bucket")
    guard(Guard("127.0.0.1", "::1"))
    with pytest.raises(ForbiddenError):
        open_place(location, connection, {})
    guard(Guard())
    place, _ = open_place(location, connection, {})
    guard(Guard("127.0.0.1", "::1"))  # as if the name, or a redirect, led elsewhere now
    with pytest.raises(ForbiddenError):
        place.entries(b"")
    assert door.visits == 0


def test_of_several_addresses_the_allowed_ones_are_used(door: Door) -> None:
    guard(Guard("169.254.169.254"))
    found = Resolver("h", door.port, addresses("169.254.169.254", "127.0.0.1"))
    assert {found.next(float(i))[1][0] for i in range(4)} == {"127.0.0.1"}
    guard(Guard("169.254.169.254", "127.0.0.1"))
    found.forget()
    with pytest.raises(ForbiddenError):
        found.next(5.0)


def test_a_name_that_leads_elsewhere_at_the_next_look_keeps_its_good_address(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["8.8.8.8"], ["169.254.169.254"]]
    guard(Guard("169.254.169.254"))
    try:
        found = Resolver("h", 80, lambda _h, p: [(int(socket.AF_INET), (a, p)) for a in answers.pop(0)])
        assert found.next(0.0)[1][0] == "8.8.8.8"
        assert found.next(resolve.FRESH_SECONDS + 1)[1][0] == "8.8.8.8"
        thread = found._thread
        assert thread is not None
        thread.join(10)
        assert not answers
        assert found.next(resolve.FRESH_SECONDS + 2)[1][0] == "8.8.8.8"
    finally:
        guard(None)


def test_without_a_guard_every_address_is_used(door: Door) -> None:
    assert not guarded()
    both: Any = addresses("1.1.1.1", "127.0.0.1")("h", 1)
    assert allowed("h", 1, both) == both
    connect("127.0.0.1", door.port, 5.0).close()


def test_a_connection_that_nobody_takes_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        connect("127.0.0.1", port, 5.0)
