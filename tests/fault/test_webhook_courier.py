"""Bringing news to receivers that fail, hang, redirect, lie or are not allowed."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from entrepot.ledger import deliveries, hooks
from entrepot.ledger.deliveries import Delivery
from entrepot.ledger.pool import LedgerPool
from entrepot.model.secret import Secret
from entrepot.model.signature import verify
from entrepot.security.egress import EgressPolicy
from entrepot.security.keyring import Keyring
from entrepot.service.courier import TRIES, Courier, delay
from entrepot.service.posting import guarded
from plan_parts import Receiver, end_task, filed_task, hook, until

SECRET = Secret("whsec_0123456789abcdef")
LOCAL = EgressPolicy.of(loopback=True)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[LedgerPool]:
    opened = LedgerPool(str(tmp_path / "ledger.db"))
    yield opened
    opened.close()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.new(os.urandom, 0)


@pytest.fixture
def courier(pool: LedgerPool, keyring: Keyring) -> Iterator[Callable[..., Courier]]:
    """``courier(policy=…)`` starts one that is stopped at the end."""
    with ExitStack() as stack:

        def start(policy: EgressPolicy = LOCAL, **more: Any) -> Courier:
            made = Courier(pool, lambda: keyring, guarded(policy.check), chance=lambda: 0.5, **more)
            made.start()
            stack.callback(made.stop)
            return made

        yield start


def _hook(pool: LedgerPool, keyring: Keyring, url: str, scope: str = "") -> hooks.Webhook:
    made = hook(scope, url)
    made = replace(made, secret=keyring.seal(SECRET, hooks.place(made.id), os.urandom))
    with pool.write() as c:
        hooks.add(c, made)
    return made


def _one(pool: LedgerPool, webhook: hooks.Webhook) -> Delivery:
    with pool.read() as c:
        return deliveries.listing(c, webhook.id)[-1]


def _hurry(pool: LedgerPool) -> None:
    """Let what waits for its next try be due now."""
    with pool.write() as c:
        c.change("UPDATE delivery SET next_try = now() WHERE state = 'pending' AND last_error <> ''")


def _until_tried(pool: LedgerPool, webhook: hooks.Webhook) -> Delivery:
    until(lambda: _one(pool, webhook).last_error)
    return _one(pool, webhook)


def test_an_event_is_brought_signed(pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]) -> None:
    with Receiver() as receiver:
        webhook = _hook(pool, keyring, receiver.url("/in?x=1&y=ü".replace("ü", "%C3%BC")))
        task = filed_task(pool, name="naïve ☃")
        courier()
        end_task(pool, task)
        until(lambda: _one(pool, webhook).state == "delivered")
        [got] = receiver.received
    assert got.path == "/in?x=1&y=%C3%BC"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["X-Entrepot-Event"] == json.loads(got.body)["event"]
    assert json.loads(got.body)["task"]["name"] == "naïve ☃"
    header = got.headers["X-Entrepot-Signature"]
    at = float(header.split(",")[0].removeprefix("t="))
    assert verify(SECRET, header, got.body, now=at)
    assert not verify(SECRET, header, got.body + b" ", now=at)
    assert not verify(Secret("another one"), header, got.body, now=at)
    assert not verify(SECRET, header, got.body, now=at + 301)
    assert (_one(pool, webhook).status, _one(pool, webhook).attempts) == (204, 1)


def test_a_receiver_that_fails_twice_gets_the_same_event_again(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    with Receiver([500, 503, 200]) as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        end_task(pool, filed_task(pool))
        courier()
        for status in (500, 503):
            until(lambda status=status: _one(pool, webhook).status == status)
            found = _one(pool, webhook)
            assert found.state == "pending"
            assert str(status) in found.last_error
            _hurry(pool)
        until(lambda: _one(pool, webhook).state == "delivered")
        assert len({got.headers["X-Entrepot-Event"] for got in receiver.received}) == 1
        assert len({got.body for got in receiver.received}) == 1
        assert [got.headers["X-Entrepot-Attempt"] for got in receiver.received] == ["1", "2", "3"]
    assert _one(pool, webhook).last_error == ""


def test_after_the_last_try_the_delivery_is_dead_and_can_be_brought_again(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    with Receiver([500, 200]) as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        end_task(pool, filed_task(pool))
        with pool.write() as c:
            c.change("UPDATE delivery SET attempts = :tries", {"tries": TRIES - 1})
        one = courier()
        until(lambda: _one(pool, webhook).state == "dead")
        found = _one(pool, webhook)
        assert "500" in found.last_error
        assert found.next_try is None
        with pool.write() as c:
            deliveries.again(c, found.id)
        one.ring()
        until(lambda: _one(pool, webhook).state == "delivered")
        first, second = receiver.received
        assert first.headers["X-Entrepot-Event"] == second.headers["X-Entrepot-Event"]


def test_case_79_a_redirect_of_a_receiver_is_not_followed(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    with Receiver() as elsewhere, Receiver([(302, {"Location": elsewhere.url()})]) as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        end_task(pool, filed_task(pool))
        courier()
        found = _until_tried(pool, webhook)
        assert "redirects are not followed" in found.last_error
        assert found.status == 302
        assert elsewhere.received == []


def test_a_slow_receiver_is_given_up_in_time_and_holds_up_nobody(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    release = threading.Event()

    def drip(handler: Any) -> None:
        # A byte now and then: each read succeeds, the answer never ends.
        while not release.wait(0.05):
            handler.wfile.write(b"H")

    with Receiver([drip]) as slow, Receiver() as quick:
        held = _hook(pool, keyring, slow.url(), "slow")
        good = _hook(pool, keyring, quick.url(), "quick")
        for _ in range(6):
            end_task(pool, filed_task(pool, "slow"))
        courier(seconds=2.0)
        until(lambda: slow.received)
        for _ in range(20):
            end_task(pool, filed_task(pool, "quick"))
        until(lambda: len(quick.received) == 20)
        with pool.read() as c:
            assert all(found.last_error == "" for found in deliveries.listing(c, good.id))
        until(lambda: _one(pool, held).last_error)
        assert "no answer within 2 s" in _one(pool, held).last_error
        release.set()


def test_a_certificate_that_is_not_good_is_refused(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    with Receiver(tls=server) as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        end_task(pool, filed_task(pool))
        stranger = courier()
        found = _until_tried(pool, webhook)
        assert "certificate" in found.last_error
        assert receiver.received == []
        stranger.stop()
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        _hurry(pool)
        courier(tls=trusting)
        until(lambda: _one(pool, webhook).state == "delivered")


def test_a_certificate_for_another_host_is_refused(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Receiver(tls=server) as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        end_task(pool, filed_task(pool))
        courier(tls=trusting)
        assert "certificate" in _until_tried(pool, webhook).last_error
        assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://0.0.0.0:{port}/",
    ],
)
def test_case_79_a_receiver_at_an_inner_address_is_not_connected_to(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier], url: str
) -> None:
    with Receiver() as receiver:
        webhook = _hook(pool, keyring, url.format(port=receiver.port))
        end_task(pool, filed_task(pool))
        courier(EgressPolicy.of())
        found = _until_tried(pool, webhook)
        assert "does not connect" in found.last_error
        assert found.status == 0
        assert receiver.received == []


def test_case_79_a_receiver_that_changes_its_address_is_judged_at_each_try(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def rebound(host: str, port: int, *args: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "friendly.example" else host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    with Receiver() as receiver:
        webhook = _hook(pool, keyring, f"http://friendly.example:{receiver.port}/")
        end_task(pool, filed_task(pool))
        courier(EgressPolicy.of())
        assert "loopback" in _until_tried(pool, webhook).last_error
        assert receiver.received == []


def _raw(reply: bytes) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.close_connection = True
        handler.wfile.write(reply)

    return answer


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"", "hung up"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200", "hung up"),
        (b"X: " + b"y" * 200_000, "no HTTP"),
        (b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n", "404"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101"),
    ],
)
def test_odd_answers_are_failures(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier], reply: bytes, says: str
) -> None:
    with Receiver([_raw(reply)]) as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        end_task(pool, filed_task(pool))
        courier()
        assert says in _until_tried(pool, webhook).last_error


def test_an_answer_after_a_provisional_one_and_with_a_long_body_counts(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    reply = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n" + b"secret body " * 100_000
    with Receiver([_raw(reply)]) as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        end_task(pool, filed_task(pool))
        courier()
        until(lambda: _one(pool, webhook).state == "delivered")
        assert _one(pool, webhook).status == 202
    with pool.read() as c:
        rows = c.execute("SELECT * FROM delivery")
    assert "secret body" not in str(rows)


def test_nobody_listens(pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        webhook = _hook(pool, keyring, f"http://127.0.0.1:{closed.getsockname()[1]}/")
        end_task(pool, filed_task(pool))
        courier()
        assert "refused" in _until_tried(pool, webhook).last_error.lower()


def test_two_couriers_bring_each_event_once(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    with Receiver() as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        for _ in range(40):
            end_task(pool, filed_task(pool))
        courier()
        courier()
        until(lambda: len(receiver.received) >= 40)
        until(lambda: all(d.state == "delivered" for d in _deliveries(pool, webhook)))
        events = [got.headers["X-Entrepot-Event"] for got in receiver.received]
        assert sorted(set(events)) == sorted(events)


def test_two_couriers_on_postgresql_bring_each_event_once(postgres_ledger: str, keyring: Keyring) -> None:
    pools = [LedgerPool(postgres_ledger) for _ in range(2)]
    couriers = [Courier(pool, lambda: keyring, guarded(LOCAL.check)) for pool in pools]
    try:
        with Receiver() as receiver:
            webhook = _hook(pools[0], keyring, receiver.url())
            for _ in range(40):
                end_task(pools[0], filed_task(pools[0]))
            for courier in couriers:
                courier.start()
            until(lambda: all(d.state == "delivered" for d in _deliveries(pools[0], webhook)))
            events = [got.headers["X-Entrepot-Event"] for got in receiver.received]
            assert len(events) == len(set(events)) == 40
    finally:
        for courier in couriers:
            courier.stop()
        for pool in pools:
            pool.close()


def test_a_secret_that_does_not_open_is_said_and_nothing_is_sent(
    pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]
) -> None:
    with Receiver() as receiver:
        webhook = _hook(pool, Keyring.new(os.urandom, 0), receiver.url())
        end_task(pool, filed_task(pool))
        courier()
        assert "key" in _until_tried(pool, webhook).last_error
        assert receiver.received == []


def test_what_is_old_is_forgotten(pool: LedgerPool, keyring: Keyring, courier: Callable[..., Courier]) -> None:
    with Receiver() as receiver:
        webhook = _hook(pool, keyring, receiver.url())
        for _ in range(3):
            end_task(pool, filed_task(pool))
        old = _deliveries(pool, webhook)[0].id
        with pool.write() as c:
            c.change("UPDATE delivery SET created = 1.0, state = 'dead' WHERE id = :id", {"id": old})
        courier()
        until(lambda: len(_deliveries(pool, webhook)) == 2)
        until(lambda: all(d.state == "delivered" for d in _deliveries(pool, webhook)))


def test_waits_grow_to_a_day_in_all() -> None:
    for chance in (0.0, 0.5, 1.0):
        waits = [delay(attempt, lambda chance=chance: chance) for attempt in range(1, TRIES + 1)]
        assert waits[-1] is None
        kept = [wait for wait in waits if wait is not None]
        assert kept == sorted(kept)
        assert 18 * 3600 < sum(kept) < 30 * 3600
    assert delay(1, lambda: 0.0) != delay(1, lambda: 1.0)


def _deliveries(pool: LedgerPool, webhook: hooks.Webhook) -> list[Delivery]:
    with pool.read() as c:
        return deliveries.listing(c, webhook.id)
