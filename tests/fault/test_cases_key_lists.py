"""Case 80: key lists and manifests of any length, with CRLF, BOM, quotes and doubles, do what a listing would."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.model.errors import UsageError
from entrepot.transfer.keyfile import BLOCK, LONGEST, open_keys
from parts.fake_s3 import FakeS3
from parts.lab import Lab
from parts.trees import assert_same, read_tree

KEYS = st.lists(st.text(st.characters(blacklist_characters="\0\r\n", blacklist_categories=("Cs",)), min_size=1,
                        max_size=12), min_size=1, max_size=40)  # fmt: skip


def _forms(keys: list[str]) -> dict[str, bytes]:
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["size", "Key", "etag"])
    writer.writerows([i, key, "x,y"] for i, key in enumerate(keys))
    lines = [key.encode() for key in keys]
    return {
        "unix.txt": b"\n".join(lines) + b"\n",
        "open.txt": b"\n".join(lines),
        "dos.txt": b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n",
        "gaps.txt": b"\n\n" + b"\n\n\r\n".join(lines) + b"\n\n",
        "nul": b"\0".join(lines) + b"\0",
        "table.csv": b"\xef\xbb\xbf" + table.getvalue().encode(),
    }


def _all(path: Path, state: Path) -> list[bytes]:
    keys = open_keys(str(path), str(state))
    try:
        found = list(keys.within(b"", None))
        assert keys.count == len(found)
        return found
    finally:
        keys.close()


@given(KEYS)
@settings(max_examples=60, deadline=None)
def test_case_80_every_form_gives_the_same_keys(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    place = tmp_path_factory.mktemp("lists")
    # A mark of byte order is no part of the first key.
    keys = [key for key in keys if not key.startswith("\ufeff")] or ["a"]
    for name, data in _forms(keys).items():
        (place / name).write_bytes(data)
        assert _all(place / name, place) == sorted({key.encode() for key in keys}), name


@given(st.sets(st.binary(min_size=1, max_size=6).filter(lambda key: b"\0" not in key), min_size=1, max_size=3000),
       st.binary(max_size=4), st.none() | st.binary(max_size=4))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_ranges_hold_what_lies_between(
    tmp_path_factory: pytest.TempPathFactory, keys: set[bytes], low: bytes, high: bytes | None
) -> None:
    place = tmp_path_factory.mktemp("ranges")
    (place / "keys").write_bytes(b"\0".join(keys) + b"\0")
    found = open_keys(str(place / "keys"), "")
    assert list(found.within(low, high)) == [k for k in sorted(keys) if k > low and (high is None or k <= high)]
    cuts = found.cuts(4)
    assert cuts == sorted(set(cuts))
    assert set(cuts) <= keys
    assert len(cuts) >= min(3, (len(keys) - 1) // BLOCK)
    found.close()


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("long.txt", b"good\n" * 3 + b"x" * (LONGEST + 1) + b"\n", 4),
        ("endless.txt", b"good\n" + b"x" * (3 << 20), 2),
        ("nul.txt", b"good\n" * 20_000 + b"a\0b\n", 20_001),
        ("open.csv", b'key\ngood\n"never closed\nmore\n', 4),
        ("short.csv", b"size,key\n1,a\n2\n", 3),
    ],
)
def test_case_80_what_is_wrong_is_named_by_its_line(tmp_path: Path, name: str, data: bytes, line: int) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=rf"{name}, line {line:,}:"):
        open_keys(str(tmp_path / name), str(tmp_path / "state"))
    assert not [found for found in os.listdir(tmp_path / "state" / "lists") if not found.endswith(".txt")]


def test_case_80_a_list_changed_on_disk_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"a\nb\n")
    assert _all(path, tmp_path) == [b"a", b"b"]
    path.write_bytes(b"c\nd\ne\n")
    assert _all(path, tmp_path) == [b"c", b"d", b"e"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_case_80_a_list_of_everything_does_what_a_listing_does(
    store: FakeS3, lab: Lab, tmp_path: Path, processes: str
) -> None:
    tree = {f"d{i % 7}/object {i}, “{i}”".encode(): os.urandom(i % 50) for i in range(1600)}
    for key, data in tree.items():
        store.put("src", key, data)
    doubled = [key.decode() for key in tree] + [key.decode() for key in list(tree)[::3]]
    forms = _forms(doubled)
    for name in ("dos.txt", "table.csv"):
        (tmp_path / name).write_bytes(forms[name])
        out = tmp_path / f"out-{name}"
        words = ("--list", str(tmp_path / name), "--processes", processes)
        lab.sync("s3://src", out, *words, server=store, copied=len(tree), total=len(tree))
        assert_same(tree, read_tree(out))
        lab.sync("s3://src", out, *words, server=store, equal=len(tree))
        lab.sync("s3://src", out, server=store, equal=len(tree))


MANY = """
import resource, sys
from entrepot.transfer.keyfile import open_keys
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
keys = open_keys(sys.argv[1], sys.argv[2])
last = b""
seen = 0
for key in keys.within(b"", None):
    assert key > last
    last = key
    seen += 1
assert seen == keys.count == int(sys.argv[3]), (seen, keys.count)
assert sum(1 for _ in keys.within(b"0500000", b"0500999")) == 999
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("count", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.soak)])
def test_case_80_a_long_list_needs_no_more_memory(tmp_path: Path, count: int) -> None:
    path = tmp_path / "keys.txt"
    with open(path, "wb") as file:
        for start in range(0, count, 10_000):
            # Out of order, and every tenth one twice.
            numbers = [(start + i) * 7 % count for i in range(10_000)]
            file.write(b"".join(b"%07d\r\n" % n for n in numbers))
            file.write(b"".join(b"%07d\r\n" % n for n in numbers[::10]))
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(path), str(tmp_path / "state"), str(count)],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 90 << 10  # KiB; the keys alone would take 60 MB and more as objects
