"""Spare buffers: bodies of parts are of one size, and clearing megabytes of new memory for each is dear."""

from __future__ import annotations

from entrepot.storage.base import Buffer

SPARE_FROM = 1 << 20
SPARE_MAX = 8


class Spare:
    """Keeps a few large buffers that were given back."""

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A buffer of exactly ``size`` bytes; what it holds is of no meaning."""
        kept = self._kept
        for index, buffer in enumerate(kept):
            if len(buffer) == size:
                return kept.pop(index)
        return bytearray(size)

    def give(self, body: Buffer) -> None:
        """``body`` is not needed any more by anyone."""
        if isinstance(body, bytearray) and len(body) >= SPARE_FROM:
            if len(self._kept) >= SPARE_MAX:
                self._kept.pop(0)
            self._kept.append(body)
