"""Directory trees for tests: made from a dict, with odd names and sizes at the borders of parts; and compared.

A tree is ``{b"dir/name": b"content"}`` with bytes paths below the root, like the keys of a bucket.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping

Tree = dict[bytes, bytes]

ODD_NAMES: tuple[str, ...] = (
    "plain.txt",
    "with space",
    " leading and trailing ",
    "plus+and&and=",
    "percent%2Fsign",
    "hash#question?",
    "quotes'\"`",
    "back\\slash",
    "new\nline",
    "tab\there",
    "control\x01\x7f",
    "angle<xml>&amp;",
    "star*[a]{b}",
    "tilde~!@$^(),;:|",
    "-dash",
    "...",
    ".hidden",
    "é composed",
    unicodedata.normalize("NFD", "é decomposed"),
    "日本語",
    "emoji 😀",
    "right\u200fto left",
    "Case",
    "case",
    "a-b",
    "a.b",
    "a0",
    "a/b",
    "n" * 255,
)
"""Names that every byte-exact store and file system can hold (the control characters not in plain XML)."""

ORDER_NAMES: tuple[str, ...] = ("a!", "a-b", "a.txt", "a/b", "a/b/c", "a/é", "a0", "aa", "b", "\uffee", "😀")
"""Names whose order differs between a file system walk, byte order and UTF-16 order."""


def content(name: bytes, size: int) -> bytes:
    """Bytes that depend on name and place, so that mixed-up or shifted pieces are seen."""
    page = hashlib.shake_256(name).digest(1016)
    return b"".join(page + n.to_bytes(8, "big") for n in range(size // 1024 + 1))[:size]


def odd_tree(names: Iterable[str] = ODD_NAMES, size: int = 37) -> Tree:
    """One small file for each odd name."""
    keys = [name.encode("utf-8", "surrogateescape") for name in names]
    return {key: content(key, size + i) for i, key in enumerate(keys)}


def border_sizes(part: int) -> list[int]:
    """Sizes around zero, one part and several parts."""
    return [0, 1, part - 1, part, part + 1, 2 * part - 1, 2 * part, 2 * part + 1, 3 * part + 7]


def border_tree(part: int) -> Tree:
    """One file of each size of :func:`border_sizes`."""
    return {b"size-%09d" % n: content(b"size-%d" % n, n) for n in border_sizes(part)}


def many_tree(count: int, size: int = 100, per_directory: int = 100) -> Tree:
    """``count`` small files."""
    keys = [b"d%05d/f%07d" % (i // per_directory, i) for i in range(count)]
    return {key: content(key, size) for key in keys}


def write_tree(root: str | os.PathLike[str], tree: Mapping[bytes, bytes], *, mtime_ns: int = 0) -> None:
    """Write a tree below ``root`` (made when missing); the same ``mtime_ns`` for every file when not 0."""
    base = os.fsencode(root)
    os.makedirs(base, exist_ok=True)
    for name, data in tree.items():
        path = os.path.join(base, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        if mtime_ns:
            os.utime(path, ns=(mtime_ns, mtime_ns))


def read_tree(root: str | os.PathLike[str]) -> Tree:
    """All regular files below ``root``."""
    return {name: _read(path) for name, path in _files(os.fsencode(root))}


def names_below(root: str | os.PathLike[str]) -> list[bytes]:
    """Names of everything below ``root`` that is no directory, temporary files included."""
    base = os.fsencode(root)
    found = []
    for directory, _, files in os.walk(base):
        found += [os.path.relpath(os.path.join(directory, name), base) for name in files]
    return sorted(found)


def metadata(root: str | os.PathLike[str]) -> dict[bytes, tuple[int, int, int]]:
    """(mode, mtime in ns, size) of every regular file below ``root``."""
    found = {}
    for name, path in _files(os.fsencode(root)):
        info = os.lstat(path)
        found[name] = (stat.S_IMODE(info.st_mode), info.st_mtime_ns, info.st_size)
    return found


def difference(wanted: Mapping[bytes, bytes], found: Mapping[bytes, bytes]) -> str:
    """What differs, short enough for an assertion message; empty when nothing does."""
    lines = [f"missing {k!r}" for k in sorted(wanted.keys() - found.keys())]
    lines += [f"extra {k!r}" for k in sorted(found.keys() - wanted.keys())]
    for key in sorted(wanted.keys() & found.keys()):
        a, b = wanted[key], found[key]
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            lines.append(f"differs {key!r}: {len(a)} and {len(b)} bytes, first at {at}")
    more = [f"… and {len(lines) - 20} more"] if len(lines) > 20 else []
    return "\n".join(lines[:20] + more)


def assert_same(wanted: Mapping[bytes, bytes], found: Mapping[bytes, bytes]) -> None:
    """Fail with the difference."""
    text = difference(wanted, found)
    assert not text, text


def _files(base: bytes) -> Iterable[tuple[bytes, bytes]]:
    for directory, _, files in os.walk(base):
        for name in files:
            path = os.path.join(directory, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                yield os.path.relpath(path, base), path


def _read(path: bytes) -> bytes:
    with open(path, "rb") as f:
        return f.read()
