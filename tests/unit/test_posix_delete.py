"""Deleting only what was listed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from posix_parts import as_nobody, files_of, fill, open_directory

from entrepot.model.entry import Row
from entrepot.model.errors import ChangedError, ForbiddenError, NameNotPossibleError
from entrepot.storage.posix import delete as delete_module
from entrepot.storage.posix.delete import delete, delete_link
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.walk import walk


def rows(base: bytes, **options: bool) -> dict[bytes, Row]:
    return {row[0]: row for page in walk(base, **options) for row in page.rows}  # type: ignore[arg-type]


def test_a_listed_file_goes_and_its_directories_stay(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"a/b/c": b"1", b"a/d": b"2"})
    listed = rows(base)
    with Root(base) as root:
        assert delete(root, b"a/b/c", listed[b"a/b/c"])
        assert not delete(root, b"a/b/c", listed[b"a/b/c"])
        assert not delete(root, b"none/x", listed[b"a/b/c"])
        assert not delete(root, b"a/d/x", listed[b"a/b/c"])
    assert files_of(base) == {b"a/d": b"2"}
    assert os.path.isdir(base + b"/a/b")


def test_pruning_stops_at_what_is_still_used_and_at_the_root(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"a/b/c/f": b"1", b"a/g": b"2", b"z/f": b""})
    listed = rows(base)
    with Root(base) as root:
        assert delete(root, b"a/b/c/f", listed[b"a/b/c/f"], prune=True)
        assert os.listdir(base + b"/a") == [b"g"]
        assert delete(root, b"z/f", listed[b"z/f"], prune=True)
        assert delete(root, b"a/g", listed[b"a/g"], prune=True)
    assert os.listdir(base) == []


@pytest.mark.parametrize("times", [False, True])
def test_a_file_that_changed_stays(tmp_path: Path, times: bool) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"touched": b"1", b"grown": b"2", b"kept": b"3"})
    listed = rows(base, changed=times)
    os.utime(base + b"/touched", ns=(5, 5))
    before = os.stat(base + b"/grown")
    fill(base, {b"grown": b"22"})
    os.utime(base + b"/grown", ns=(before.st_atime_ns, before.st_mtime_ns))
    with Root(base) as root:
        for key in (b"touched", b"grown"):
            with pytest.raises(ChangedError):
                delete(root, key, listed[key])
        assert delete(root, b"kept", listed[b"kept"])
    assert set(files_of(base)) == {b"touched", b"grown"}


def test_links_and_directories_are_not_taken_for_files(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"real/f": b"1", b"dir/": b""})
    row = rows(base)[b"real/f"]
    os.symlink(b"real", base + b"/link")
    os.symlink(b"real/f", base + b"/file-link")
    with Root(base) as root:
        assert not delete(root, b"link/f", (b"link/f", row[1], row[2]))
        for key in (b"file-link", b"dir"):
            with pytest.raises(ChangedError):
                delete(root, key, (key, row[1], row[2]))
        with pytest.raises(NameNotPossibleError):
            delete(root, b"../x", row)
        assert delete_link(root, b"file-link")
        assert not delete_link(root, b"file-link")
        with pytest.raises(ChangedError):
            delete_link(root, b"real/f")
    assert files_of(base) == {b"real/f": b"1"}


def test_a_refused_delete_has_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_directory() as base:
        fill(base, {b"d/f": b"1"})
        os.chmod(base + b"/d", 0o755)
        row = rows(base)[b"d/f"]

        def attempt() -> bool:
            with Root(base) as root, pytest.raises(ForbiddenError):
                delete(root, b"d/f", row)
            return True

        assert as_nobody(attempt)

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(delete_module.os, "unlink", refuse)
        with Root(base) as root, pytest.raises(Exception, match="read-only"):
            delete(root, b"d/f", row)
        monkeypatch.undo()
        assert files_of(base) == {b"d/f": b"1"}
