"""Case 79: endpoints at inner addresses, in every spelling, and redirects to them: nothing is connected to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from entrepot.model.connection import Connection
from entrepot.model.errors import EntrepotError, ForbiddenError, StoreError
from entrepot.model.location import parse_location
from entrepot.model.secret import Secret
from entrepot.security.egress import EgressPolicy
from entrepot.storage.base import Head, Op
from entrepot.storage.bridge.opening import open_place
from entrepot.storage.registry import open_store
from entrepot.storage.s3.store import S3Store
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor
from entrepot.storage.wire.resolve import guard


class Inner:
    """A service of the server's own network that nobody from outside should reach; counts connections."""

    def __init__(self) -> None:
        self.visits = 0
        self._socket = socket.create_server(("0.0.0.0", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def inner() -> Iterator[Inner]:
    service = Inner()
    yield service
    guard(None)
    service.close()


@pytest.fixture
def redirecting(inner: Inner) -> Iterator[int]:
    """The port of a server that sends everybody to the inner one."""

    class Away(BaseHTTPRequestHandler):
        def _away(self) -> None:
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{inner.port}{self.path}")
            self.send_header("x-amz-bucket-region", f"127.0.0.1:{inner.port}/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = do_PROPFIND = _away  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Away)
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(10)


def connection(provider: str, endpoint: str) -> Connection:
    return Connection(
        "c",
        provider,  # type: ignore[arg-type]
        endpoint=endpoint,
        access_key="AK",
        secret_key=Secret("c2s="),
        region="r",
        addressing="path",
        options={"token": "anon"} if provider == "gcs" else {},
    )


HOSTS = ["127.0.0.1", "localhost", "0", "0.0.0.0", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]",
         "[::1]", "169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "100.100.100.200"]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("provider", ["generic", "azure", "webdav"])
def test_case_79_an_endpoint_at_an_inner_address_is_not_connected_to(inner: Inner, provider: str, host: str) -> None:
    guard(EgressPolicy().check)
    store = open_store(parse_location("c:bucket/"), connection(provider, f"http://{host}:{inner.port}"))
    try:
        with pytest.raises(StoreError) as caught:
            store.check()
    finally:
        store.close()
    assert inner.visits == 0
    if host not in ("[::1]",):  # a machine without IPv6 may say that it has no such address
        assert isinstance(caught.value, ForbiddenError), caught.value
        assert caught.value.retryable is False


def test_case_79_the_data_path_is_refused_too_and_does_not_wait(inner: Inner) -> None:
    guard(EgressPolicy().check)
    store = open_store(parse_location("c:bucket/"), connection("generic", f"http://localhost:{inner.port}"))
    reactor = Reactor()
    done: list[Op] = []
    lane = store.lane(reactor, LaneOptions())
    for number in range(10):
        lane.submit(Head(b"%d" % number, done.append))
    for _ in range(100):
        if len(done) == 10:
            break
        reactor.poll(0.1)
    lane.close()
    store.close()
    assert [type(op.error).__name__ for op in done] == ["EgressRefused"] * 10
    assert inner.visits == 0


@pytest.mark.parametrize("provider", ["generic", "azure", "webdav", "gcs"])
def test_case_79_a_redirect_to_an_inner_address_is_not_followed(inner: Inner, redirecting: int, provider: str) -> None:
    guard(EgressPolicy.of([f"127.0.0.1:{redirecting}"]).check)
    one = connection(provider, f"http://127.0.0.1:{redirecting}")
    with pytest.raises(EntrepotError):
        if provider == "gcs":
            open_place(parse_location("c:bucket"), one, {})[0].entries(b"")
        else:
            store = open_store(parse_location("c:bucket/"), one)
            try:
                if isinstance(store, S3Store):
                    store.head(b"key")
                store.check()
            finally:
                store.close()
    assert inner.visits == 0


def test_case_79_without_the_policy_the_same_calls_would_connect(inner: Inner) -> None:
    guard(None)
    store = open_store(parse_location("c:bucket/"), connection("generic", f"http://127.0.0.1:{inner.port}"))
    assert isinstance(store, S3Store)
    with pytest.raises(StoreError):
        store.head(b"key")
    store.close()
    assert inner.visits > 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "unix:///run/x.sock",
        "http://a@127.0.0.1/",
        "http://good.example\\@127.0.0.1/",
        "http://good.example#@127.0.0.1:1@x/",
    ],
)
def test_case_79_an_endpoint_with_another_scheme_or_two_readings_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenError):
        EgressPolicy(loopback=True).check_url(url)
