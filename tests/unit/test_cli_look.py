"""``ls`` and ``du``: levels, streams, odd names, and a store behind them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.cli import ls as ls_module
from entrepot.cli import places
from entrepot.cli.app import run
from entrepot.cli.du import usage
from entrepot.model.entry import Info, Page, Row
from entrepot.model.errors import ForbiddenError, NotFoundError
from entrepot.model.location import Location
from entrepot.storage.base import Capabilities


class FakeStore:
    """A store over a dict of keys; remembers how far its listings were read."""

    caps = Capabilities(start_after=False)

    def __init__(self, location: Location, objects: dict[bytes, int], page: int = 2) -> None:
        self.location = location
        self.objects = objects
        self.page = page
        self.pages_read = 0

    def _below(self) -> list[Row]:
        cut = len(self.location.prefix)
        return [
            (k[cut:], 1_700_000_000 * 10**9, n)
            for k, n in sorted(self.objects.items())
            if k.startswith(self.location.prefix)
        ]

    def check(self) -> None:
        if self.location.bucket == "forbidden":
            raise ForbiddenError("bucket forbidden: access denied", hint="ask for the right to list it")

    def head(self, key: bytes) -> Info:
        whole = self.location.prefix + key
        if whole not in self.objects:
            raise NotFoundError(f"{whole!r}: not found")
        return Info(key, self.objects[whole], 1_700_000_000 * 10**9)

    def pages(self, after: bytes = b"", columns: str = "mtime") -> Iterator[Page]:
        rows = self._below()
        for start in range(0, len(rows) or 1, self.page):
            self.pages_read += 1
            yield Page(rows[start : start + self.page], last=start + self.page >= len(rows))

    def children(self, prefix: bytes) -> Iterator[tuple[list[Row], list[bytes]]]:
        seen: dict[bytes, Row | None] = {}
        for row in self._below():
            head, slash, _ = row[0].partition(b"/")
            seen[head + slash] = None if slash else row
        names = sorted(seen)
        for start in range(0, len(names), self.page):
            self.pages_read += 1
            part = names[start : start + self.page]
            yield [row for name in part if (row := seen[name])], [name for name in part if seen[name] is None]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[bytes, int]:
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("ENTREPOT_DEBUG", raising=False)
    found: dict[bytes, int] = {}

    def opened(location: Location) -> Any:
        return FakeStore(location, found)

    monkeypatch.setattr(places, "open_store", opened)
    monkeypatch.setattr("entrepot.cli.look.open_store", opened)
    return found


def test_one_level_with_sub_prefixes_first(objects: dict[bytes, int], capsys: pytest.CaptureFixture[str]) -> None:
    objects.update({b"a": 5, b"d/x": 1, b"d/y/z": 2, b"z/": 0, b"b\nc": 2048})
    assert run(["ls", "s3://b"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "         -  d/",
        "         -  z/",
        "       5 B  a",
        r"  2.00 KiB  $'b\nc'",
    ]
    assert run(["ls", "-b", "s3://b/d"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{'-':>15}  y/", f"{1:>15}  x"]


def test_long_recursive_json_and_raw(objects: dict[bytes, int], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    objects.update({b"a": 5, b"d/\xff": 1})
    assert run(["ls", "-r", "--json", "s3://b"]) == 0
    assert [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()] == [
        {"key": "a", "size": 5, "mtime": "2023-11-14T22:13:20Z"},
        {"key": "d/\\xff", "key_hex": "642fff", "size": 1, "mtime": "2023-11-14T22:13:20Z"},
    ]
    assert run(["ls", "--json", "s3://b"]) == 0
    assert json.loads(capfdbinary.readouterr().out.splitlines()[0]) == {"prefix": "d/"}
    assert run(["ls", "-r", "-0", "s3://b"]) == 0
    assert capfdbinary.readouterr().out == b"a\0d/\xff\0"
    assert run(["ls", "-l", "s3://b"]) == 0
    assert b"2023-11-1" in capfdbinary.readouterr().out


def test_a_huge_level_is_streamed(objects: dict[bytes, int], monkeypatch: pytest.MonkeyPatch) -> None:
    objects.update({b"%04d" % n: 1 for n in range(100)})
    monkeypatch.setattr(ls_module, "GATHER", 10)
    store = FakeStore(Location("s3", "b", b""), objects)

    class Look:
        def level(self) -> Iterator[ls_module.Level]:
            for rows, prefixes in store.children(b""):
                yield ls_module.Level(rows, prefixes)

    first = next(iter(ls_module._first_prefixes(Look())))  # type: ignore[arg-type]
    assert len(first.rows) == 12
    assert store.pages_read == 6


def test_a_single_object_and_nothing(objects: dict[bytes, int], capsys: pytest.CaptureFixture[str]) -> None:
    objects.update({b"d/photo.jpg": 7, b"e/1": 1})
    assert run(["ls", "s3://b/d/photo.jpg"]) == 0
    assert capsys.readouterr().out == "       7 B  photo.jpg\n"
    assert run(["du", "s3://b/d/photo.jpg", "-b"]) == 0
    assert capsys.readouterr().out.split() == ["1", "7", "total"]
    for name in ("ls", "du"):
        assert run([name, "s3://b/d/phot"]) == 3
        assert "s3://b/d/phot: nothing is there" in capsys.readouterr().err


def test_an_empty_bucket_is_no_fault_but_a_forbidden_one_is(
    objects: dict[bytes, int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ls", "s3://b"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["ls", "s3://forbidden"]) == 3
    assert capsys.readouterr().err.startswith("entrepot: bucket forbidden: access denied\nhint: ask")


def test_du_by_level(objects: dict[bytes, int], capsys: pytest.CaptureFixture[str]) -> None:
    objects.update({b"a": 1, b"d/1": 2, b"d/e/2": 3, b"d/e/f/3": 4, b"g/4": 5})
    assert run(["du", "--json", "--depth", "2", "s3://b"]) == 0
    assert [tuple(json.loads(line).values()) for line in capsys.readouterr().out.splitlines()] == [
        ("d/e/", 2, 7),
        ("d/", 3, 9),
        ("g/", 1, 5),
        (True, 5, 15),
    ]


@given(
    st.dictionaries(
        st.lists(st.sampled_from([b"a", b"b", b"c", b""]), min_size=1, max_size=4).map(b"/".join), st.integers(0, 99)
    ),
    st.integers(0, 3),
    st.integers(1, 5),
)
def test_du_is_what_counting_each_directory_gives(objects: dict[bytes, int], depth: int, page: int) -> None:
    rows: list[Row] = [(key, 0, size) for key, size in sorted(objects.items())]
    expected: dict[bytes, list[int]] = {b"": [0, 0]}
    for key, _, size in rows:
        parts = key.split(b"/")[:-1]
        for level in range(min(depth, len(parts)) + 1):
            name = b"".join(part + b"/" for part in parts[:level])
            expected.setdefault(name, [0, 0])
            if level or name == b"":
                expected[name][0] += 1
                expected[name][1] += size
    got = list(usage((rows[i : i + page] for i in range(0, len(rows), page)), depth))
    assert got[-1][0] == b""
    assert {name: [entries, size] for name, entries, size in got} == expected
    assert len(got) == len(expected)


def test_local_places(tmp_path: Path, capsys: pytest.CaptureFixture[str], objects: dict[bytes, int]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_bytes(b"123")
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "pipe")
    assert run(["ls", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "         -  sub/",
        "       5 B  f",
        "   symlink  link",
        "   special  pipe",
    ]
    assert run(["du", str(tmp_path), "-b", "-d1"]) == 0
    assert capsys.readouterr().out.split() == ["1", "3", "sub/", "2", "8", "total"]
    assert run(["ls", str(tmp_path / "f")]) == 0
    assert capsys.readouterr().out == "       5 B  f\n"
    assert run(["ls", str(tmp_path / "none")]) == 3
    assert "no such file or directory" in capsys.readouterr().err
