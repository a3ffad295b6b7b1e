"""Key lists of any length: read once, sorted on disk, and looked up by range without holding them in memory.

A list is text (one key a line), keys separated by NUL, or CSV (by its suffix ``.csv``: the column ``key``, else the
only or first one). The sorted form is a file of unique keys, each ended by NUL, beside an index of where every 512th
begins; it lies under the state directory by the list's version, for all processes of a run and for later runs.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from entrepot.model.errors import UsageError
from entrepot.storage.posix.spill import Spill

BLOCK = 512
"""Keys between two marks of the index."""
LONGEST = 4096
"""Bytes of the longest key that is taken: no store and no file system has longer ones."""
KEEP_SECONDS = 7 * 86400.0
_RUN = 200_000
_CHUNK = 1 << 20
_PEEK = 64 << 10
_MARK = struct.Struct("<Q")
_BOM = b"\xef\xbb\xbf"
_COLUMNS = ("key", "path", "name")


class KeyFile:
    """A sorted list. Iterators of ``within`` may be many at once."""

    def __init__(self, keys: int, marks: int, count: int) -> None:
        self._keys = keys
        self._size = os.fstat(keys).st_size
        self._marks = mmap.mmap(marks, 0, prot=mmap.PROT_READ) if os.fstat(marks).st_size else b""
        os.close(marks)
        self.count = count

    def within(self, low: bytes, high: bytes | None) -> Iterator[bytes]:
        """The keys with low < key <= high, ascending."""
        for key in self._from(self._block_before(low)):
            if high is not None and key > high:
                return
            if key > low:
                yield key

    def cuts(self, pieces: int) -> list[bytes]:
        """Ascending keys that cut the list into about equal pieces."""
        blocks = len(self._marks) // _MARK.size
        places = {blocks * i // pieces for i in range(1, pieces)} - {0}
        return sorted(self._first_of(block) for block in places)

    def close(self) -> None:
        """Close the files."""
        os.close(self._keys)
        if isinstance(self._marks, mmap.mmap):
            self._marks.close()

    def _offset(self, block: int) -> int:
        offset: int = _MARK.unpack_from(self._marks, block * _MARK.size)[0]
        return offset

    def _first_of(self, block: int) -> bytes:
        return os.pread(self._keys, LONGEST + 1, self._offset(block)).partition(b"\0")[0]

    def _block_before(self, low: bytes) -> int:
        """Offset of the last block that begins at or below ``low``."""
        first, last = 0, len(self._marks) // _MARK.size
        while last - first > 1:
            middle = (first + last) // 2
            if self._first_of(middle) <= low:
                first = middle
            else:
                last = middle
        return self._offset(first) if last else self._size

    def _from(self, offset: int) -> Iterator[bytes]:
        rest = b""
        while offset < self._size:
            piece = os.pread(self._keys, _PEEK, offset)
            if not piece:
                raise EOFError("a sorted key list was cut short")
            offset += len(piece)
            *whole, rest = (rest + piece).split(b"\0")
            yield from whole


def open_keys(path: str, state_dir: str) -> KeyFile:
    """The list in ``path``, sorted (now, or by an earlier call). Raises UsageError that names the line."""
    if not state_dir:
        return _sorted_unnamed(path)
    folder = os.path.join(state_dir, "lists")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    name = os.path.join(folder, _version(path))
    if not os.path.exists(f"{name}.keys"):
        _forget_old(folder)
        _sort_into(path, name)
    os.utime(f"{name}.keys")
    keys = os.open(f"{name}.keys", os.O_RDONLY | os.O_CLOEXEC)
    marks = os.open(f"{name}.marks", os.O_RDONLY | os.O_CLOEXEC)
    with open(f"{name}.count", encoding="ascii") as file:
        return KeyFile(keys, marks, int(file.read()))


def _sort_into(path: str, name: str) -> None:
    own = f"{name}.{os.getpid()}"
    made = [f"{own}.{part}" for part in ("marks", "count", "keys")]
    try:
        with open(made[2], "wb") as keys, open(made[0], "wb") as marks:
            count = _sort(path, keys, marks)
        with open(made[1], "w", encoding="ascii") as file:
            file.write(str(count))
        for each in made:  # the keys last: they say that the rest is there
            os.replace(each, name + each.removeprefix(own))
    except BaseException:
        for each in made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each)
        raise


def _sorted_unnamed(path: str) -> KeyFile:
    with tempfile.TemporaryFile() as keys, tempfile.TemporaryFile() as marks:
        count = _sort(path, keys, marks)
        keys.flush()
        marks.flush()
        return KeyFile(os.dup(keys.fileno()), os.dup(marks.fileno()), count)


def _sort(path: str, keys: IO[bytes], marks: IO[bytes]) -> int:
    spill = Spill(_RUN)
    try:
        for key in _read(path):
            spill.add(key)
        count = offset = 0
        former = b""
        for key in spill:
            if key == former:
                continue
            if count % BLOCK == 0:
                marks.write(_MARK.pack(offset))
            keys.write(key)
            keys.write(b"\0")
            offset += len(key) + 1
            count += 1
            former = key
        return count
    finally:
        spill.close()


def _version(path: str) -> str:
    try:
        about = os.stat(path)
    except OSError as error:
        raise UsageError(f"key list {path}: {error.strerror}") from None
    text = f"{os.path.realpath(path)}\0{about.st_dev}\0{about.st_ino}\0{about.st_size}\0{about.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


def _forget_old(folder: str) -> None:
    limit = time.time() - KEEP_SECONDS
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime < limit:
                os.unlink(entry.path)


def _read(path: str) -> Iterator[bytes]:
    """The keys as they stand in the file, with doubles, without empty ones."""
    try:
        with open(path, "rb") as file:
            if path.lower().endswith(".csv"):
                yield from _csv_keys(path, file)
            elif b"\0" in file.read(_PEEK):
                file.seek(0)
                yield from _separated(path, file, b"\0")
            else:
                file.seek(0)
                yield from _separated(path, file, b"\n")
    except OSError as error:
        raise UsageError(f"key list {path}: {error.strerror}") from None


def _separated(path: str, file: IO[bytes], separator: bytes) -> Iterator[bytes]:
    rest = file.read(_CHUNK).removeprefix(_BOM)
    done = 0
    while rest:
        *whole, rest = rest.split(separator)
        for number, key in enumerate(whole, done + 1):
            if key := _stripped(key, separator):
                yield _checked(path, number, key)
        done += len(whole)
        if len(rest) > LONGEST + 1:
            _checked(path, done + 1, rest)
        piece = file.read(_CHUNK)
        if not piece:
            break
        rest += piece
    if key := _stripped(rest, separator):
        yield _checked(path, done + 1, key)


def _stripped(key: bytes, separator: bytes) -> bytes:
    return key.removesuffix(b"\r") if separator == b"\n" else key


def _csv_keys(path: str, file: IO[bytes]) -> Iterator[bytes]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, strict=True)
    column = -1
    try:
        for row in reader:
            if column < 0:
                column, is_head = _column(row)
                if is_head:
                    continue
            if not any(row):
                continue
            if len(row) <= column:
                raise _wrong(path, reader.line_num, f"there is no column {column + 1}")
            if key := row[column]:
                yield _checked(path, reader.line_num, key.encode("utf-8", "surrogateescape"))
    except csv.Error as error:
        raise _wrong(path, reader.line_num, str(error)) from None


def _column(first: list[str]) -> tuple[int, bool]:
    """(which column holds keys, whether the first row is a head)."""
    names = [name.strip().lower() for name in first]
    for wanted in _COLUMNS:
        if wanted in names:
            return names.index(wanted), True
    return 0, False


def _checked(path: str, number: int, key: bytes) -> bytes:
    if len(key) > LONGEST:
        raise _wrong(path, number, f"a key of more than {LONGEST:,} bytes")
    if b"\0" in key:
        raise _wrong(path, number, "a NUL character")
    return key


def _wrong(path: str, number: int, what: str) -> UsageError:
    return UsageError(
        f"key list {path}, line {number:,}: {what}",
        hint="one key a line, keys separated by NUL, or CSV with a column named key",
    )
