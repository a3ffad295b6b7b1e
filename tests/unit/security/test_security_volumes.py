"""Volumes: names and paths that could lead out, roots that are replaced, and connections that reach into the server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.connection import Connection
from entrepot.model.errors import PlaceError, RequestError, UsageError
from entrepot.security.volumes import (
    VolumePath,
    check_connection,
    check_name,
    clean_path,
    open_root,
    parse,
    resolve,
    within,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("volume://data", VolumePath("data", "")),
        ("volume://data/", VolumePath("data", "")),
        ("volume://data/a/b", VolumePath("data", "a/b")),
        ("volume://data//a/./b/", None),
        ("volume://data/a//b/./c/", VolumePath("data", "a/b/c")),
        ("volume://data/%2e%2e/x", VolumePath("data", "%2e%2e/x")),
        ("volume://data/...", VolumePath("data", "...")),
        ("volume://data/..a", VolumePath("data", "..a")),
        ("volume://d-1/ä b", VolumePath("d-1", "ä b")),
    ],
)
def test_places_have_one_spelling(text: str, expected: VolumePath | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="absolute"):
            parse(text)
        return
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "data/a", "file:///etc", "volume:/data", "volume://", "volume:///etc/passwd", "volume://../x",
        "volume://Data/x", "volume://da_ta/x", "volume://-a/x", "volume://a-/x", "volume://" + "a" * 64,
        "volume://data/..", "volume://data/../x", "volume://data/a/../../x", "volume://data/a/..", "volume://data/a\0b",
        "volume://data/" + "a" * 300, "volume://data/" + "a/" * 3000, "volume://data@evil/x", "volume://d\u0430ta/x",
    ],
)  # fmt: skip
def test_places_that_could_lead_out_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@given(st.text(max_size=60))
def test_a_clean_path_never_leaves_its_root(text: str) -> None:
    try:
        path = clean_path(text)
    except (UsageError, UnicodeEncodeError):
        return
    assert within(os.path.normpath(os.path.join("/root", path)), "/root")
    assert clean_path(path) == path


def test_a_place_resolves_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "v" / "a").mkdir(parents=True)
    root = open_root(str(tmp_path / "v"))
    assert resolve("volume://data/a/new/file", {"data": root}) == f"{root}/a/new/file"
    assert resolve("volume://data", {"data": root}) == root
    with pytest.raises(PlaceError, match="no volume 'other'"):
        resolve("volume://other/a", {"data": root})


def test_links_that_lead_out_are_refused_and_links_inside_are_not(tmp_path: Path) -> None:
    volume, outside = tmp_path / "v", tmp_path / "outside"
    (volume / "a").mkdir(parents=True)
    outside.mkdir()
    (volume / "out").symlink_to(outside)
    (volume / "up").symlink_to("..")
    (volume / "in").symlink_to("a")
    roots = {"data": open_root(str(volume))}
    assert resolve("volume://data/in/x", roots).endswith("/v/in/x")
    for path in ("out", "out/x", "up/outside/x", "up"):
        with pytest.raises(PlaceError, match="leads out"):
            resolve(f"volume://data/{path}", roots)


def test_a_root_that_is_a_link_is_pinned_and_one_that_becomes_a_link_is_refused(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    root = open_root(str(tmp_path / "link"))
    assert root == os.path.realpath(real)
    real.rename(tmp_path / "moved")
    real.symlink_to("/etc")
    with pytest.raises(PlaceError, match="replaced by a link"):
        resolve("volume://data/passwd", {"data": root})


def test_a_neighbour_with_a_longer_name_is_outside(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v2").mkdir()
    (tmp_path / "v" / "side").symlink_to(tmp_path / "v2")
    with pytest.raises(PlaceError):
        resolve("volume://data/side", {"data": open_root(str(tmp_path / "v"))})


@pytest.mark.parametrize(
    "path", ["/", "/proc", "/etc", "/etc/ssl", "/sys", "/dev", "relative", "", "/none/such", "/tmp\0/x", "~"]
)
def test_directories_that_are_no_volumes_are_refused(path: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_root(path)
    assert caught.value.field == "path"


def test_the_servers_own_data_is_no_volume(tmp_path: Path) -> None:
    data = tmp_path / "srv" / "data"
    (data / "deep").mkdir(parents=True)
    (tmp_path / "srv" / "other").mkdir()
    (tmp_path / "srv" / "link").symlink_to(data)
    for path in (data, data / "deep", tmp_path / "srv", tmp_path / "srv" / "link"):
        with pytest.raises(RequestError, match="own data"):
            open_root(str(path), outside=str(data))
    assert open_root(str(tmp_path / "srv" / "other"), outside=str(data)).endswith("other")


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a/b", "..", "a" * 64, "a-", "a\n"])
def test_names_that_no_volume_has(name: str) -> None:
    with pytest.raises(RequestError):
        check_name(name)


@pytest.mark.parametrize(
    ("connection", "field"),
    [
        (Connection("c", "s3", profile="default"), "profile"),
        (Connection("c", "s3", ca_file="/etc/ssl/ca.pem"), "ca_file"),
        (Connection("c", "sftp", options={"key_file": "/root/.ssh/id_rsa"}), "options.key_file"),
        (Connection("c", "sftp", options={"known_hosts": "/dev/null"}), "options.known_hosts"),
        (Connection("c", "gcs", options={"token_file": "/x"}), "options.token_file"),
        (Connection("c", "gcs", options={"token": "cloud"}), "options.token"),
        (Connection("c", "gcs"), "options.token"),
        (Connection("c", "azure"), "access_key"),
    ],
)
def test_connections_do_not_borrow_files_or_identities_of_the_server(connection: Connection, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_connection(connection)
    assert caught.value.field == field


def test_plain_connections_are_fine() -> None:
    check_connection(Connection("c", "s3", endpoint="https://h", access_key="AK", options={"list": "v1"}))
    check_connection(Connection("c", "gcs", options={"token": "anon"}))
