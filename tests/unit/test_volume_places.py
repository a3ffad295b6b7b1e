"""Places in volumes: parsed, opened beneath their root, shown by name, never left by a link."""

from __future__ import annotations

import os

import pytest

from entrepot.model.errors import PlaceError, UsageError
from entrepot.model.location import parse_location
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec
from entrepot.service import oneshot
from entrepot.storage.posix.volume import inside
from entrepot.work import places
from entrepot.work.environment import WorkEnvironment


def _environment(root, **more):
    return WorkEnvironment(volume={"data": str(root)}.get, state_dir=str(root.parent / "state"), **more)


def _spec(source, destination, **options):
    return TaskSpec("sync", source, destination, SyncOptions(**options).to_json())


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("volume://data", "data", b""),
        ("volume://data/", "data", b""),
        ("volume://data/a/b", "data", b"a/b/"),
        ("VOLUME://data//a///b/", "data", b"a/b/"),
        ("volume://d.1-x_Y/ü ", "d.1-x_Y", "ü /".encode()),
    ],
)
def test_a_volume_is_parsed_and_shown(text, bucket, prefix):
    found = parse_location(text)
    assert (found.scheme, found.bucket, found.prefix, found.is_file) == ("volume", bucket, prefix, False)
    assert parse_location(str(found)) == found


@pytest.mark.parametrize(
    "text", ["volume://", "volume:///etc", "volume://../x", "volume://a/../b", "volume://a/./b", "volume://a\n/b"]
)
def test_what_is_no_place_in_a_volume_is_refused(text):
    with pytest.raises(UsageError):
        parse_location(text)


def test_no_volume_of_that_name(tmp_path):
    with pytest.raises(UsageError, match="no volume named 'other'"):
        places.preflight(_spec("volume://other/x", "volume://data/y"), _environment(tmp_path))


def test_messages_name_the_volume_and_not_its_path(tmp_path):
    root = tmp_path / "secret-root"
    root.mkdir()
    (root / "file").write_text("x")
    for source in ("volume://data/missing", "volume://data/file"):
        with pytest.raises(PlaceError) as caught:
            places.preflight(_spec(source, "volume://data/out"), _environment(root))
        assert "volume://data" in caught.value.message
        assert "secret-root" not in caught.value.message + caught.value.hint
        assert "/proc" not in caught.value.message


def test_a_link_in_the_way_is_not_followed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "door").symlink_to(outside)
    (root / "here").mkdir()
    for text in ("volume://data/door", "volume://data/door/below"):
        with pytest.raises(PlaceError, match="door is not a directory"):
            places.open_place(text, _environment(root), create=True)
    assert sorted(os.listdir(outside)) == ["secret"]


def test_links_are_not_followed_when_asked_to(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="not followed"):
        places.preflight(_spec("volume://data/a", "volume://data/b", symlinks="follow"), _environment(tmp_path))


def test_a_directory_that_was_swapped_for_a_link_stays_what_it_was(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    (root / "a" / "mine").write_text("x")
    outside.mkdir()
    place = inside(parse_location("volume://data/a"), str(root))
    os.rename(root / "a", root / "b")
    (root / "a").symlink_to(outside)
    assert os.listdir(place.prefix) == [b"mine"]


def test_two_names_of_one_place_overlap(tmp_path):
    (tmp_path / "a" / "in").mkdir(parents=True)
    with pytest.raises(Exception, match="lies inside"):
        places.preflight(_spec("volume://data/a", "volume://data/a/in/new"), _environment(tmp_path))


def test_a_sync_between_places_of_a_volume(tmp_path):
    root = tmp_path / "root"
    (root / "a" / "deep").mkdir(parents=True)
    (root / "a" / "deep" / "file").write_text("hello")
    os.symlink("/etc/passwd", root / "a" / "link")
    request = oneshot.TaskRequest(
        "sync",
        "volume://data/a",
        "volume://data/new/b",
        SyncOptions(),
        1,
        str(tmp_path / "state"),
        volumes={"data": str(root)}.get,
    )
    shot = oneshot.run(request, lambda shot: None)
    assert (str(shot.state), shot.totals.copied) == ("SUCCEEDED", 1)
    assert (root / "new" / "b" / "deep" / "file").read_text() == "hello"
    assert sorted(os.listdir(root / "new" / "b")) == ["deep"]
