"""The reactor: readiness, timers, and handlers that close each other."""

from __future__ import annotations

import socket
import time

from entrepot.storage.wire.reactor import WRITE, Reactor


def test_timers_run_in_order_from_poll_only() -> None:
    reactor = Reactor()
    seen: list[str] = []
    reactor.call_later(0.02, lambda: seen.append("b"))
    reactor.call_later(0.01, lambda: seen.append("a"))
    reactor.call_later(0.0, lambda: seen.append("now"))
    dropped = reactor.call_later(0.0, lambda: seen.append("never"))
    dropped.cancel()
    assert seen == []
    until = time.monotonic() + 2
    while len(seen) < 3 and time.monotonic() < until:
        reactor.poll(0.5)
    assert seen == ["now", "a", "b"]
    reactor.close()


def test_a_chain_of_immediate_timers_does_not_hold_one_poll() -> None:
    reactor = Reactor()
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        reactor.call_later(0.0, again)

    again()
    reactor.poll(0.0)
    assert count <= 3
    reactor.close()


def test_events_reach_their_handler_and_a_closed_one_is_left_alone() -> None:
    reactor = Reactor()
    (a, b), (c, d) = socket.socketpair(), socket.socketpair()
    seen: list[str] = []

    def first(_events: int) -> None:
        seen.append("first")
        for sock in (a, c):
            reactor.unregister(sock.fileno())

    reactor.register(a.fileno(), first)
    reactor.register(c.fileno(), first)
    b.send(b"x")
    d.send(b"x")
    assert reactor.poll(1.0) >= 1
    assert seen == ["first"]
    reactor.register(a.fileno(), lambda events: seen.append(f"write {events & WRITE}"), WRITE)
    reactor.poll(1.0)
    assert seen[-1] == f"write {WRITE}"
    for sock in (a, b, c, d):
        sock.close()
    reactor.close()


def test_idle_counts_waiting_not_working() -> None:
    reactor = Reactor()
    reactor.call_later(0.05, lambda: time.sleep(0.05))
    start, idle = time.monotonic(), reactor.idle
    while time.monotonic() - start < 0.1:
        reactor.poll(0.1)
    assert 0.03 < reactor.idle - idle < 0.08
    reactor.close()
