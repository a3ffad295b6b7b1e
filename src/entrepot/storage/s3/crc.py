"""CRC-32C: over bytes, over regions of files, and put together from the parts of an object."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable

from entrepot.model.errors import ChangedError
from entrepot.storage.base import Buffer, FileRegion
from entrepot.storage.crc32c import crc32c

PIECE = 256 << 10
_POLYNOMIAL = 0x82F63B78
_TOP = 1 << 31


class Crc32c:
    """A running CRC-32C in the manner of hashlib; ``expected`` is what it should come to."""

    __slots__ = ("expected", "value")

    def __init__(self, expected: int = 0) -> None:
        self.value = 0
        self.expected = expected

    def update(self, data: Buffer) -> None:
        """Eat ``data``."""
        self.value = crc32c(data, self.value)


def of_bytes(data: Buffer) -> int:
    """The CRC-32C of ``data``."""
    return int(crc32c(data))


def of_region(region: FileRegion, subject: str) -> int:
    """The CRC-32C of a region of a file, read in pieces that stay in the processor's cache."""
    value, offset, left = 0, region.offset, region.length
    view = memoryview(bytearray(min(PIECE, max(1, left))))
    while left:
        count = os.preadv(region.fd, [view[: min(left, PIECE)]], offset)
        if not count:
            raise ChangedError(f"{subject}: the source file became shorter while it was read", subject=subject)
        value = crc32c(view[:count], value)
        offset += count
        left -= count
    return int(value)


def to_text(value: int) -> str:
    """As S3 writes it in headers: base64 of the big-endian bytes."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def from_text(text: bytes | str) -> int | None:
    """The reverse of :func:`to_text`; None for anything else (such as a checksum of checksums, ``…-3``)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def combine(first: int, second: int, second_length: int) -> int:
    """The CRC of two pieces one after the other, from the CRC of each and the length of the second."""
    return _times(_shift(second_length), first) ^ second


def combine_all(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC of pieces in order, each as (crc, length)."""
    value = 0
    for crc, length in parts:
        value = combine(value, crc, length)
    return value


def _times(a: int, b: int) -> int:
    """The product of two polynomials modulo the CRC's (bits reflected: the highest bit is x to the 0)."""
    product, bit = 0, _TOP
    while True:
        if a & bit:
            product ^= b
            if not a & (bit - 1):
                return product
        bit >>= 1
        if not bit:
            return product
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1


def _powers() -> list[int]:
    """x to the power 2^k, k = 0..63."""
    power = _TOP >> 1
    found = [power]
    for _ in range(63):
        power = _times(power, power)
        found.append(power)
    return found


_POWERS = _powers()


def _shift(length: int) -> int:
    """x to the power 8 * length."""
    result, k, bits = _TOP, 3, length
    while bits:
        if bits & 1:
            result = _times(_POWERS[k], result)
        bits >>= 1
        k += 1
    return result
