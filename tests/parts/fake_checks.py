"""Checksums as S3 knows them, computed without the code under test."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable

import crc32c as _crc32c

ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")


def _crc64_tables() -> list[list[int]]:
    poly = 0x9A6C9329AC4BC9B5  # the NVMe polynomial, bit-reflected
    first = []
    for i in range(256):
        value = i
        for _ in range(8):
            value = (value >> 1) ^ poly if value & 1 else value >> 1
        first.append(value)
    tables = [first]
    for _ in range(7):
        last = tables[-1]
        tables.append([(v >> 8) ^ first[v & 255] for v in last])
    return tables


_T: list[list[int]] = []


def crc64nvme(data: bytes) -> int:
    """CRC-64/NVME, eight bytes a step (a few MiB/s: enough for tests)."""
    if not _T:
        _T.extend(_crc64_tables())
    t0, t1, t2, t3, t4, t5, t6, t7 = _T
    crc = 0xFFFFFFFFFFFFFFFF
    whole = len(data) & ~7
    for (word,) in _words(data, whole):
        crc ^= word
        crc = (
            t7[crc & 255]
            ^ t6[(crc >> 8) & 255]
            ^ t5[(crc >> 16) & 255]
            ^ t4[(crc >> 24) & 255]
            ^ t3[(crc >> 32) & 255]
            ^ t2[(crc >> 40) & 255]
            ^ t1[(crc >> 48) & 255]
            ^ t0[crc >> 56]
        )
    for byte in data[whole:]:
        crc = (crc >> 8) ^ t0[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFFFFFFFFFF


def _words(data: bytes, whole: int):  # type: ignore[no-untyped-def]
    import struct

    return struct.iter_unpack("<Q", memoryview(data)[:whole])


def _digest(algorithm: str, data: bytes) -> bytes:
    if algorithm == "crc32":
        return zlib.crc32(data).to_bytes(4, "big")
    if algorithm == "crc32c":
        return int(_crc32c.crc32c(data)).to_bytes(4, "big")
    if algorithm == "crc64nvme":
        return crc64nvme(data).to_bytes(8, "big")
    return hashlib.new(algorithm, data).digest()


def checksum(algorithm: str, data: bytes) -> str:
    """The base64 form that S3 sends."""
    return base64.b64encode(_digest(algorithm, data)).decode()


def composite(algorithm: str, parts: list[str]) -> str:
    """The checksum of checksums of a multipart object: ``base64-N``."""
    joined = b"".join(base64.b64decode(p) for p in parts)
    return f"{checksum(algorithm, joined)}-{len(parts)}"


def md5_base64(data: bytes) -> str:
    """The Content-MD5 form."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


Qetag = Callable[[bytes], str]


def qiniu_etag(data: bytes) -> str:
    """The hash that Qiniu sends as ETag: SHA-1 of 4 MiB blocks."""
    step = 4 << 20
    blocks = [hashlib.sha1(data[at : at + step]).digest() for at in range(0, len(data), step)] or [
        hashlib.sha1(b"").digest()
    ]
    raw = b"\x16" + blocks[0] if len(blocks) == 1 else b"\x96" + hashlib.sha1(b"".join(blocks)).digest()
    return base64.urlsafe_b64encode(raw).decode()
