"""Ranges: where to cut a listing that runs, so that idle listers can take a far part of it.

For object stores: probes (listings of one key) behind chosen texts tell the next real key. A first round climbs out of
the current key (what comes after everything that begins with ``a[:i]``, for each i), which shows the level at which
the rest of the range branches; further rounds enumerate siblings at that level and below, until there are enough
boundaries. Works on flat numbered keys, dates, hashes and deep trees alike; costs some tens of tiny requests, so it is
only done for a range that has already proved long. File trees know their cuts from their top directories.
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
ROUNDS = 5
PROBES_MAX = 800

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
        self._keys: set[bytes] = set()
        self._asked: set[bytes] = set()
        self._open = 0
        self._round = 0
        self._probe(after[:end] + HIGHEST for end in range(min(len(after), CLIMB_MAX) + 1))

    def _probe(self, texts: object) -> None:
        fresh = []
        for text in texts:  # type: ignore[attr-defined]
            if text not in self._asked and len(self._asked) < PROBES_MAX:
                self._asked.add(text)
                fresh.append(text)
        if not fresh:
            self._finish()
            return
        self._open += len(fresh)
        for text in fresh:
            self._lane.submit(List(text, b"", "etag", self._answered, limit=1))

    def _answered(self, op: List) -> None:
        self._open -= 1
        if op.error is None and op.page.rows:
            key = op.page.rows[0][0]
            if key > self._after and (self._until is None or key < self._until):
                self._keys.add(key)
        if self._open == 0:
            self._next_round()

    def _next_round(self) -> None:
        self._round += 1
        if not self._keys or len(self._keys) >= self._wanted * 2 or self._round > ROUNDS:
            self._finish()
            return
        keys = sorted(self._keys)
        if len(keys) >= self._wanted and self._round > 1:
            self._finish()
            return
        self._probe(self._siblings(keys))

    def _siblings(self, keys: list[bytes]) -> list[bytes]:
        """Texts before each sibling of every known key, at the first place where it differs from its neighbour."""
        texts: list[bytes] = []
        previous = self._after
        for index, key in enumerate(keys):
            place = _differs(previous, key)
            following = keys[index + 1] if index + 1 < len(keys) else self._until
            texts += _branches(key, place, following)
            texts += _branches(key, place + 1, following)
            previous = key
        return texts

    def _finish(self) -> None:
        self._found(spread(sorted(self._keys), self._wanted))


def _differs(a: bytes, b: bytes) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def _branches(key: bytes, place: int, following: bytes | None) -> list[bytes]:
    """Probe texts for the siblings of ``key`` at ``place``: the characters of the same kind that come later."""
    if place >= len(key):
        return []
    char = key[place]
    family = next((f for f in (DIGITS, UPPER, LOWER) if char in f), b"")
    stem = key[:place]
    texts = [stem + bytes((c,)) for c in family if c > char]
    if following is not None:
        texts = [text for text in texts if text < following]
    return texts


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
