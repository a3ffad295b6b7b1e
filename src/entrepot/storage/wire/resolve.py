"""Addresses of a host: all of them, the ones that answer first, and dead ones left alone for a while.

All connections of storage take their addresses from here, so this is where a server says which it may use: see
:func:`guard`. The address that is judged is the one that is connected to; no name is looked up in between.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from entrepot.model.errors import StoreError

DEAD_SECONDS = 30.0
FRESH_SECONDS = 60.0

Address = tuple[int, tuple[object, ...]]
"""(family, socket address)."""
Lookup = Callable[[str, int], list[Address]]
Check = Callable[[str, str, int], None]
"""(host as it was asked for, IP address to connect to, port); raises StoreError when that is not allowed."""

_check: Check | None = None


def guard(check: Check | None) -> None:
    """From now on every address of this process's stores passes ``check``; None lifts that. Forks inherit it."""
    global _check
    _check = check


def guarded() -> bool:
    """Whether :func:`guard` is in force."""
    return _check is not None


def allowed(host: str, port: int, addresses: list[Address]) -> list[Address]:
    """Those of ``addresses`` that may be connected to. Raises the refusal (a StoreError) when none may."""
    check = _check
    if check is None:
        return addresses
    good: list[Address] = []
    refusal: StoreError | None = None
    for address in addresses:
        try:
            check(host, str(address[1][0]), port)
        except StoreError as fault:
            refusal = fault
        else:
            good.append(address)
    if refusal is not None and not good:
        raise refusal
    return good


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A blocking connection to the first address of ``host`` that may be used and answers.

    Raises OSError, or the refusal (a StoreError).
    """
    last: OSError | None = None
    for family, address in allowed(host, port, system_lookup(host, port)):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(address)
            return sock
        except OSError as fault:
            sock.close()
            last = fault
        except BaseException:
            sock.close()
            raise
    raise last or OSError(f"{host} has no address")


def system_lookup(host: str, port: int) -> list[Address]:
    """All stream addresses of ``host``, in the system's order of preference. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


class Resolver:
    """Hands out addresses of one host in turn. Times are the reactor's monotonic seconds.

    The first lookup blocks; later ones run in a thread of their own, and a failed one leaves the old answer.
    """

    def __init__(self, host: str, port: int, lookup: Lookup = system_lookup) -> None:
        self._host = host
        self._port = port
        self._lookup = lookup
        self._addresses: list[Address] = []
        self._dead: dict[Address, float] = {}
        self._turn = 0
        self._asked = 0.0
        self._thread: threading.Thread | None = None

    def next(self, now: float) -> Address:
        """The address for the next connection. Raises OSError when the name cannot be resolved.

        Raises StoreError when none of its addresses may be connected to.
        """
        if not self._addresses:
            self._addresses = allowed(self._host, self._port, self._lookup(self._host, self._port))
            self._asked = now
            if not self._addresses:
                raise OSError(f"{self._host} has no address")
        elif now - self._asked > FRESH_SECONDS:
            self._refresh(now)
        addresses = self._addresses
        for _ in addresses:
            address = addresses[self._turn % len(addresses)]
            self._turn += 1
            if self._dead.get(address, 0.0) <= now:
                return address
        return min(addresses, key=lambda a: self._dead.get(a, 0.0))

    def failed(self, address: Address, now: float) -> bool:
        """``address`` did not answer: leave it alone for a while. True if another one is believed alive."""
        self._dead[address] = now + DEAD_SECONDS
        return any(self._dead.get(other, 0.0) <= now for other in self._addresses)

    def worked(self, address: Address) -> None:
        """``address`` answered."""
        self._dead.pop(address, None)

    def forget(self) -> None:
        """Look the name up again for the next connection."""
        self._addresses = []

    def _refresh(self, now: float) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        self._asked = now
        self._thread = threading.Thread(target=self._look_again, name="resolve", daemon=True)
        self._thread.start()

    def _look_again(self) -> None:
        try:
            found = allowed(self._host, self._port, self._lookup(self._host, self._port))
        except (OSError, StoreError):
            return
        if found:
            self._addresses = found
