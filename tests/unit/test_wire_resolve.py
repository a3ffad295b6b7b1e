"""Addresses: all in turn, dead ones passed over, the name looked up again without blocking."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from entrepot.storage.wire.resolve import DEAD_SECONDS, FRESH_SECONDS, Resolver, system_lookup

A, B, C = ((2, (name, 80)) for name in ("10.0.0.1", "10.0.0.2", "10.0.0.3"))


def resolver(*addresses: Any) -> Resolver:
    return Resolver("host", 80, lambda _host, _port: list(addresses))


def test_all_addresses_take_their_turn() -> None:
    found = resolver(A, B, C)
    assert [found.next(0.0) for _ in range(6)] == [A, B, C, A, B, C]


def test_dead_ones_are_passed_over_for_a_while() -> None:
    found = resolver(A, B, C)
    found.next(0.0)
    assert found.failed(A, 1.0)
    assert found.failed(B, 1.0)
    assert [found.next(2.0) for _ in range(3)] == [C, C, C]
    assert not found.failed(C, 2.0)
    assert found.next(3.0) in {A, B}, "the one that died first is tried when all are dead"
    found.worked(B)
    assert found.next(4.0) == B
    assert {found.next(DEAD_SECONDS + 3.0) for _ in range(3)} == {A, B, C}


def test_a_failed_refresh_keeps_the_old_answer() -> None:
    answers: list[Any] = [[A], OSError("no"), [B]]

    def lookup(_host: str, _port: int) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    found = Resolver("host", 80, lookup)
    assert found.next(0.0) == A
    now = 0.0
    until = time.monotonic() + 3
    while found.next(now) != B and time.monotonic() < until:
        now += FRESH_SECONDS + 1
        time.sleep(0.01)
    assert found.next(now) == B


def test_no_address_is_an_error() -> None:
    with pytest.raises(OSError, match="no address"):
        resolver().next(0.0)


def test_system_lookup_names_loopback() -> None:
    assert (int(socket.AF_INET), ("127.0.0.1", 80)) in system_lookup("127.0.0.1", 80)
