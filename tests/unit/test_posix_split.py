"""Cuts for the first shards: ascending, inside the range, and roughly even."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from posix_parts import fill

from entrepot.model.errors import NotFoundError
from entrepot.storage.posix import split as split_module
from entrepot.storage.posix.split import boundaries
from entrepot.storage.posix.walk import walk


def counts(
    root: bytes, cuts: list[bytes], after: bytes = b"", until: bytes | None = None, escape: bool = False
) -> list[int]:
    bounds = [after, *cuts, until]
    return [
        sum(len(page.rows) for page in walk(root, after=low or b"", until=high, escape=escape))
        for low, high in itertools.pairwise(bounds)
    ]


def many(prefix: bytes, number: int) -> dict[bytes, bytes]:
    return {prefix + b"%04d" % n: b"" for n in range(number)}


SHAPES = {
    "flat": many(b"f", 2000),
    "even directories": {k: v for d in range(20) for k, v in many(b"d%02d/" % d, 100).items()},
    "one heavy directory": many(b"a/", 10) | many(b"m/", 1500) | many(b"z", 20),
    "a chain": many(b"x/y/z/f", 1200),
    "nested": {k: v for d in range(6) for e in range(10) for k, v in many(b"%d/%d/" % (d, e), 30).items()},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [2, 4, 8])
def test_ranges_are_roughly_even(tmp_path: Path, shape: str, n: int) -> None:
    root = os.fsencode(tmp_path)
    fill(root, SHAPES[shape])
    cuts = boundaries(root, n)
    assert len(cuts) == n - 1
    assert cuts == sorted(set(cuts))
    sizes = counts(root, cuts)
    assert sum(sizes) == len(SHAPES[shape])
    assert max(sizes) <= 2 * len(SHAPES[shape]) / n + 30


def test_cuts_lie_inside_the_range(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, SHAPES["even directories"])
    after, until = b"d04/0050", b"d09/0010"
    cuts = boundaries(root, 4, after, until)
    assert cuts
    assert all(after < cut < until for cut in cuts)
    sizes = counts(root, cuts, after, until)
    assert sum(sizes) == 49 + 400 + 11
    assert max(sizes) <= 230


def test_a_sample_stands_for_a_large_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_module, "_LOOK_MAX", 300)
    root = os.fsencode(tmp_path)
    fill(root, many(b"a/", 20) | many(b"b/", 3000) | many(b"c/", 20))
    cuts = boundaries(root, 4)
    assert any(cut.startswith(b"b/") for cut in cuts)
    assert sum(counts(root, cuts)) == 3040


def test_small_and_empty_trees(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    assert boundaries(root, 4) == []
    fill(root, {b"a": b"", b"b": b""})
    assert boundaries(root, 1) == []
    cuts = boundaries(root, 8)
    assert cuts == sorted(set(cuts))
    assert sum(counts(root, cuts)) == 2
    with pytest.raises(NotFoundError):
        boundaries(root + b"/none", 2)


def test_escaped_names_are_cut_by_their_keys(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, many(b"%2Fa/", 50) | many(b"b/%2F", 50) | many(b"b%252F", 50))
    cuts = boundaries(root, 3, escape=True)
    assert cuts == sorted(set(cuts))
    assert len(cuts) == 2
    assert sum(counts(root, cuts, escape=True)) == 150
    assert max(counts(root, cuts, escape=True)) <= 60
