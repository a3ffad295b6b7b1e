"""Ranges: where to cut a listing that runs, so that idle listers can take a far part of it.

For object stores: probes (listings of one key) behind chosen texts tell the next real key. A first round climbs out of
the current key (what comes after everything that begins with ``a[:i]``, for each i): the shortest such text that still
has keys behind it is where the rest of the range branches. From there the tree of key prefixes is opened level by
level, all branches of a level at once, until a level has enough of them: siblings are taken to be of like size. Works
on flat numbered keys, dates, hashes and deep trees alike; costs some tens of tiny requests, so it is only done for a
range that has already proved long. File trees know their cuts from their top directories.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from entrepot.storage.base import Lane, List

HIGHEST = "\U0010ffff".encode()
"""Sorts after every other character in UTF-8."""

DIGITS = b"0123456789"
UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWER = b"abcdefghijklmnopqrstuvwxyz"
CLIMB_MAX = 48
ROUNDS = 12
PROBES_MAX = 1000

Found = Callable[[list[bytes]], None]


class CutSearch:
    """One search for up to ``wanted`` keys that cut (after, until] into pieces; calls ``found`` once.

    ``found`` gets ascending real keys, all above ``after`` and below ``until``; empty if the rest is small.
    """

    def __init__(self, lane: Lane, after: bytes, until: bytes | None, wanted: int, found: Found) -> None:
        self._lane = lane
        self._after = after
        self._until = until
        self._wanted = wanted
        self._found = found
        self._depth = -1
        """Length of the prefixes that the nodes of the present level differ in; -1 while climbing."""
        self._nodes: dict[bytes, bytes] = {}
        """Prefix of the present depth -> first key known below it."""
        self._climb: dict[int, bytes] = {}
        self._asked: set[bytes] = set()
        self._open = 0
        self._round = 0
        self._fresh = False
        for end in range(min(len(after), CLIMB_MAX) + 1):
            self._probe(after[:end] + HIGHEST, lambda key, end=end: self._climb.setdefault(end, key))  # type: ignore[misc]

    def _probe(self, text: bytes, take: Callable[[bytes], object]) -> None:
        if text in self._asked or len(self._asked) >= PROBES_MAX:
            return
        self._asked.add(text)
        self._open += 1
        self._lane.submit(List(text, b"", "etag", self._answered, take, limit=1))

    def _answered(self, op: List) -> None:
        self._open -= 1
        if op.error is None and op.page.rows:
            key = op.page.rows[0][0]
            if key > self._after and (self._until is None or key < self._until):
                op.job(key)
        if self._open == 0:
            self._next_round()

    def _next_round(self) -> None:
        self._round += 1
        if self._depth < 0:
            if not self._climb:
                self._found([])
                return
            shallowest = min(self._climb)
            self._depth = shallowest + 1
            self._nodes[self._after[: self._depth]] = self._after
            self._add(self._climb[shallowest])
        elif not self._fresh:
            if len(self._nodes) > self._wanted or self._round > ROUNDS:
                self._finish()
                return
            self._depth += 1
            self._nodes = {key[: self._depth]: key for key in self._nodes.values()}
        self._fresh = False
        self._open_level()
        if self._open == 0:
            self._finish()

    def _open_level(self) -> None:
        """Ask for the siblings of every node at the last place of its prefix."""
        place = self._depth - 1
        for prefix in list(self._nodes):
            if len(prefix) <= place:
                continue
            stem, char = prefix[:place], prefix[place]
            family = next((f for f in (DIGITS, UPPER, LOWER) if char in f), bytes((char,)))
            for other in family:
                if other > char:
                    self._probe(stem + bytes((other,)), self._add)
            self._probe(stem + family[-1:] + HIGHEST, self._add)

    def _add(self, key: bytes) -> None:
        prefix = key[: self._depth]
        known = self._nodes.get(prefix)
        if known is None or (key < known and known != self._after):
            self._fresh = self._fresh or known is None
            self._nodes[prefix] = key

    def _finish(self) -> None:
        keys = sorted(key for key in self._nodes.values() if key > self._after)
        self._found(spread(keys, self._wanted))


def spread(keys: list[bytes], wanted: int) -> list[bytes]:
    """At most ``wanted`` of ``keys``, evenly spaced."""
    if len(keys) <= wanted:
        return keys
    step = len(keys) / (wanted + 1)
    chosen = [keys[min(len(keys) - 1, int(step * (i + 1)))] for i in range(wanted)]
    return sorted(set(chosen))


def above(keys: list[bytes], floor: bytes) -> list[bytes]:
    """Those of ascending ``keys`` that lie above ``floor``."""
    return keys[bisect_right(keys, floor) :]
