"""Nothing is opened or made outside the root, whatever keys and links say (cases 20 to 24)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from posix_parts import as_nobody, files_of, fill, open_directory

from entrepot.model.errors import ChangedError, NameNotPossibleError, PlaceError, StoreError, VanishedError
from entrepot.storage.posix import root as root_module
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.staging import Staging


@pytest.fixture
def place(tmp_path: Path) -> tuple[bytes, bytes]:
    """(root, a directory outside it)."""
    root, outside = os.fsencode(tmp_path / "root"), os.fsencode(tmp_path / "outside")
    os.mkdir(root)
    os.mkdir(outside)
    return root, outside


def write(root: bytes, key: bytes, data: bytes = b"new") -> None:
    with Root(root, True) as opened:
        staging = Staging(opened, "t")
        try:
            staging.write_small(key, data)
        finally:
            staging.close(remove=True)


@pytest.mark.parametrize("key", [b"../evil", b"a/../../evil", b"/etc/evil", b"..", b"a//b", b"x\0y", b"a/", b""])
def test_case_21_keys_that_leave_the_root_are_refused(place: tuple[bytes, bytes], key: bytes) -> None:
    root, outside = place
    fill(root, {b"a/there": b""})
    with pytest.raises(NameNotPossibleError):
        write(root, key)
    with Root(root) as opened, pytest.raises(NameNotPossibleError):
        opened.open_read(key)
    # Also on the short way, right after another file of the same directory.
    with Root(root) as opened:
        os.close(opened.open_read(b"a/there"))
        for bad in (b"a/..", b"a/.", b"a/", b"a/x\0"):
            with pytest.raises(NameNotPossibleError):
                opened.open_read(bad)
    assert not files_of(outside)
    assert set(files_of(os.path.dirname(root))) == {b"root/a/there"}


def test_case_22_links_inside_a_destination_are_not_followed(place: tuple[bytes, bytes]) -> None:
    root, outside = place
    os.symlink(outside, root + b"/out")
    fill(root, {b"deep/": b""})
    os.symlink(outside, root + b"/deep/out")
    for key in (b"out/evil", b"deep/out/evil", b"deep/out/more/evil"):
        with pytest.raises(NameNotPossibleError, match="symbolic link") as caught:
            write(root, key)
        assert "out" in caught.value.message
    assert os.listdir(outside) == []


def test_case_22_a_link_under_the_final_name_is_replaced_not_written_through(place: tuple[bytes, bytes]) -> None:
    root, outside = place
    fill(outside, {b"victim": b"old"})
    os.symlink(outside + b"/victim", root + b"/x")
    write(root, b"x")
    assert files_of(outside) == {b"victim": b"old"}
    assert not os.path.islink(root + b"/x")
    assert files_of(root) == {b"x": b"new"}


def test_case_22_a_directory_swapped_for_a_link_during_the_run_is_noticed(
    place: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = place
    now = [1000.0]
    monkeypatch.setattr(root_module, "monotonic", lambda: now[0])
    with Root(root) as opened:
        staging = Staging(opened, "t")
        staging.write_small(b"d/one", b"1")
        os.rename(root + b"/d", root + b"/d-moved")
        os.symlink(outside, root + b"/d")
        # At once: the directory known is used, which is still beneath the root.
        staging.write_small(b"d/two", b"2")
        now[0] += 1.1
        with pytest.raises(NameNotPossibleError, match="symbolic link"):
            staging.write_small(b"d/three", b"3")
        staging.close(remove=True)
    assert os.listdir(outside) == []
    assert files_of(root) == {b"d-moved/one": b"1", b"d-moved/two": b"2"}


def test_a_planted_staging_link_is_refused(place: tuple[bytes, bytes]) -> None:
    root, outside = place
    os.symlink(outside, root + b"/.entrepot-t")
    with pytest.raises(Exception, match=r"\.entrepot-t"):
        write(root, b"x")
    assert os.listdir(outside) == []


@pytest.mark.parametrize(
    ("first", "second"), [(b"x", b"x/y"), (b"x/y", b"x"), (b"d/x", b"d/x/y/z"), (b"d/x/y", b"d/x")]
)
def test_case_23_a_file_and_a_directory_of_one_name(place: tuple[bytes, bytes], first: bytes, second: bytes) -> None:
    root, _ = place
    write(root, first, b"first")
    with pytest.raises(NameNotPossibleError) as caught:
        write(root, second, b"second")
    assert caught.value.failure == "name"
    assert os.fsdecode(second) in caught.value.message
    assert files_of(root) == {first: b"first"}
    assert not [name for name in os.listdir(root) if name.startswith(b".entrepot")]


def test_case_24_long_names_fail_and_the_rest_goes_on(place: tuple[bytes, bytes]) -> None:
    root, _ = place
    for key in (b"n" * 256, b"d/" + b"n" * 256, b"/".join([b"p" * 250] * 17)):
        with pytest.raises(NameNotPossibleError):
            write(root, key)
    write(root, b"n" * 255)
    long = b"/".join([b"p" * 250] * 16)
    write(root, long)
    with Root(root) as opened:
        fd = opened.open_read(long)
        assert os.read(fd, 10) == b"new"
        os.close(fd)


def test_reading_does_not_follow_links_unless_asked(place: tuple[bytes, bytes]) -> None:
    root, outside = place
    fill(outside, {b"f": b"secret"})
    os.symlink(outside, root + b"/d")
    os.symlink(outside + b"/f", root + b"/f")
    with Root(root) as opened:
        with pytest.raises(VanishedError):
            opened.open_read(b"d/f")
        with pytest.raises(ChangedError):
            opened.open_read(b"f")
    with Root(root, follow=True) as opened:
        for key in (b"d/f", b"f"):
            fd = opened.open_read(key)
            assert os.read(fd, 10) == b"secret"
            os.close(fd)


def test_a_fifo_does_not_hang(place: tuple[bytes, bytes]) -> None:
    root, _ = place
    os.mkfifo(root + b"/f")
    began = time.monotonic()
    with Root(root) as opened:
        os.close(opened.open_read(b"f"))
    assert time.monotonic() - began < 1


def test_an_entry_of_the_root_is_not_taken_for_one_of_the_last_directory(place: tuple[bytes, bytes]) -> None:
    root, _ = place
    fill(root, {b"a/x": b"in a", b"ab": b"top", b"x": b"x", b"a/ab": b"in a"})
    with Root(root) as opened:
        for key in (b"a/x", b"ab", b"x", b"a/ab", b"ab"):
            fd = opened.open_read(key)
            with open(os.path.join(root, key), "rb") as file:
                assert os.read(fd, 10) == file.read()
            os.close(fd)


def test_many_directories_keep_few_descriptors(place: tuple[bytes, bytes]) -> None:
    root, _ = place
    keys = [b"%d/%d/%d/f" % (n % 7, n % 31, n) for n in range(600)]
    before = len(os.listdir("/proc/self/fd"))
    with Root(root) as opened:
        staging = Staging(opened, "t")
        for key in keys:
            staging.write_small(key, key)
        for key in keys[::-1] + keys[::7]:
            fd = opened.open_read(key)
            assert os.read(fd, 50) == key
            os.close(fd)
        assert len(os.listdir("/proc/self/fd")) - before < 140
        with pytest.raises(VanishedError):
            opened.open_read(b"1/1/none/f")
        with pytest.raises(NameNotPossibleError):
            staging.write_small(b"0/0/0/f/below", b"")
        staging.close(remove=True)
    assert files_of(root) == {key: key for key in keys}


def test_a_parent_removed_during_the_run_is_made_again(place: tuple[bytes, bytes]) -> None:
    root, _ = place
    with Root(root) as opened:
        staging = Staging(opened, "t")
        staging.write_small(b"d/e/one", b"1")
        os.unlink(root + b"/d/e/one")
        os.rmdir(root + b"/d/e")
        os.rmdir(root + b"/d")
        staging.write_small(b"d/e/two", b"2")
        staging.close(remove=True)
    assert files_of(root) == {b"d/e/two": b"2"}


def test_roots_that_cannot_be_used(place: tuple[bytes, bytes]) -> None:
    root, _ = place
    fill(root, {b"file": b""})
    with pytest.raises(PlaceError, match="no such directory"):
        Root(root + b"/none")
    with pytest.raises(PlaceError, match="not a directory"):
        Root(root + b"/file")
    with pytest.raises(PlaceError):
        Root(root + b"/file/below", True)
    with Root(root + b"/made/for/us", True):
        assert os.path.isdir(root + b"/made/for/us")


def test_forbidden_directories_have_their_class() -> None:
    with open_directory() as root:
        fill(root, {b"no/x": b"", b"read-only/x": b""})
        os.chmod(root + b"/no", 0)
        os.chmod(root + b"/read-only", 0o555)

        def attempt() -> list[str]:
            found = []
            with Root(root) as opened:
                staging = Staging(opened, "t")
                for work in (
                    lambda: opened.open_read(b"no/x"),
                    lambda: staging.write_small(b"no/y", b""),
                    lambda: staging.write_small(b"read-only/y", b""),
                    lambda: staging.write_small(b"read-only/sub/y", b""),
                ):
                    try:
                        work()
                    except StoreError as error:
                        found.append(error.failure.value)
                left = os.listdir(root + b"/.entrepot-t")
                staging.close(remove=True)
            return [*found, str(len(left))]

        assert as_nobody(attempt) == ["forbidden"] * 4 + ["0"]
        assert sorted(os.listdir(root)) == [b"no", b"read-only"]
