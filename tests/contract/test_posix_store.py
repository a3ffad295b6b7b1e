"""A directory as a store: the calls for control, opened by location as everything else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrepot.model.errors import (
    ChangedError,
    InternalError,
    NameNotPossibleError,
    NotFoundError,
    StoreError,
)
from entrepot.model.location import parse_location
from entrepot.storage.base import Store
from entrepot.storage.posix.store import PosixStore
from entrepot.storage.registry import open_store

TREE = {b"a-b": b"1", b"a/b": b"22", b"a/c/d": b"333", b"a0": b"", "é".encode(): b"5", b"z\nz": b"6"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(parse_location(str(tmp_path / "root")))
    for key, data in TREE.items():
        store.write(key, data)
    return store


def test_the_location_and_what_it_can_do(store: Store, tmp_path: Path) -> None:
    assert isinstance(store, PosixStore)
    assert str(store.location) == str(tmp_path / "root")
    assert store.location.is_file
    assert store.caps.start_after
    assert store.caps.lists_mtime
    store.check()


def test_writes_read_back_and_leave_nothing_else(store: Store, tmp_path: Path) -> None:
    for key, data in TREE.items():
        assert store.read(key) == data
    assert sorted(os.listdir(tmp_path / "root")) == ["a", "a-b", "a0", "z\nz", "é"]
    store.write(b"a/b", b"new")
    assert store.read(b"a/b") == b"new"


def test_head(store: Store) -> None:
    info = store.head(b"a/c/d")
    assert (info.key, info.size) == (b"a/c/d", 3)
    assert info.mtime_ns == os.stat(os.fsencode(str(store.location)) + b"/a/c/d").st_mtime_ns
    for key in (b"none", b"a", b"a/b/below"):
        with pytest.raises(NotFoundError):
            store.head(key)


def test_pages(store: Store) -> None:
    pages = list(store.pages())
    assert pages[-1].last
    rows = [row for page in pages for row in page.rows]
    assert [row[0] for row in rows] == sorted(TREE)
    assert {row[0]: row[2] for row in rows} == {key: len(data) for key, data in TREE.items()}
    after = [row[0] for page in store.pages(after=b"a/b") for row in page.rows]
    assert after == [key for key in sorted(TREE) if key > b"a/b"]


def test_children(store: Store) -> None:
    def level(prefix: bytes) -> tuple[list[bytes], list[bytes]]:
        rows, names = [], []
        for some, more in store.children(prefix):
            rows += [row[0] for row in some]
            names += more
        return rows, names

    assert level(b"") == ([b"a-b", b"a0", b"z\nz", "é".encode()], [b"a/"])
    assert level(b"a/") == ([b"a/b"], [b"a/c/"])
    with pytest.raises(NotFoundError):
        level(b"none/")
    with pytest.raises(NameNotPossibleError):
        level(b"a")


def test_one_directory_has_one_identity(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    kind, path = store.identity()
    assert (kind, path) == ("file", os.fsencode(root.resolve()) + b"/")
    (tmp_path / "link").symlink_to(root)
    for alias in (f"{root}/", f"{root}/a/..", f"file://{root}", str(tmp_path / "link")):
        assert open_store(parse_location(alias)).identity() == (kind, path)
    inner = open_store(parse_location(str(tmp_path / "link" / "a"))).identity()
    assert inner[1].startswith(path)
    assert open_store(parse_location("/")).identity() == ("file", b"/")


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file", "file/below"):
        with pytest.raises(NotFoundError) as caught:
            open_store(parse_location(str(tmp_path / name))).check()
        assert name.split("/")[0] in caught.value.message
        assert not (tmp_path / "none").exists()
        for call in (
            lambda store: store.head(b"x"),
            lambda store: store.read(b"x"),
            lambda store: list(store.children(b"")),
        ):
            with pytest.raises(NotFoundError):
                call(open_store(parse_location(str(tmp_path / name))))


def test_nothing_is_written_through_links_or_outside(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "root" / "out").symlink_to(outside)
    for key in (b"out/x", b"../x", b"a//x", b"/x", b"a/"):
        with pytest.raises(StoreError) as caught:
            store.write(key, b"x")
        assert caught.value.failure == "name"
    assert not list(outside.iterdir())
    assert not (tmp_path / "x").exists()


def test_a_directory_is_no_object(store: Store) -> None:
    for key in (b"none", b"a/none/x"):
        with pytest.raises(NotFoundError):
            store.read(key)
    with pytest.raises(ChangedError):
        store.read(b"a")


def test_what_file_systems_do_not_have(store: Store) -> None:
    assert list(store.uploads(b"")) == []
    store.abort_upload(b"a", "x")
    with pytest.raises(NotFoundError):
        store.upload_parts(b"a", "x")
    with pytest.raises(InternalError):
        store.lane(None, None)
    assert store.can_server_copy_from(store)
