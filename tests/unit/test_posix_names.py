"""Keys and paths: what is refused, what is escaped, and that nothing is lost (cases 18 to 21, 24)."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import NameNotPossibleError
from entrepot.storage.posix.names import from_name, from_path, is_utf8, show, to_path

BAD = [
    b"",
    b"/",
    b"/x",
    b"//",
    b"a//b",
    b"a/",
    b"d//",
    b".",
    b"..",
    b"../evil",
    b"a/../b",
    b"a/..",
    b"./a",
    b"a/./b",
    b"nul\0byte",
    b".entrepot-x",
    b"a/.entrepot-run/0",
]

segments = st.one_of(
    st.sampled_from([b"", b".", b"..", b".entrepot-", b".entrepot-1", b"%", b"%2F", b"%2E", b"%!", b"%!%FF"]),
    st.text("a%!2F0E5.\0/é", max_size=8).map(str.encode),
    st.binary(max_size=6),
    st.lists(st.sampled_from([b"%", b"25", b"2F", b"!", b"\xff", b"\xc3", b"\xa9", b"."]), max_size=6).map(b"".join),
)
keys = st.lists(segments, min_size=1, max_size=5).map(b"/".join).filter(bool)


@pytest.mark.parametrize("key", BAD)
def test_impossible_keys_are_refused(key: bytes) -> None:
    with pytest.raises(NameNotPossibleError) as caught:
        to_path(key)
    assert caught.value.failure == "name"
    assert show(key) in caught.value.message


@pytest.mark.parametrize(
    "key", [b"a", b"a/b", b".hidden", b"a/...", b"..a/b..", b"\xff\xfe/x", b"a\nb", b"%2F", "é".encode()]
)
def test_possible_keys_are_their_own_path(key: bytes) -> None:
    assert to_path(key) == key
    assert from_path(key) == key


def test_lengths() -> None:
    assert to_path(b"a" * 255) == b"a" * 255
    for escape in (False, True):
        with pytest.raises(NameNotPossibleError, match="256 bytes"):
            to_path(b"d/" + b"a" * 256, escape)
        with pytest.raises(NameNotPossibleError, match="too long"):
            to_path(b"/".join([b"a" * 200] * 21), escape)
    assert len(to_path(b"/".join([b"a" * 200] * 20))) == 4019


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (b"a//b", b"a/%2Fb"),
        (b"/x", b"%2Fx"),
        (b"d/", b"d%2F"),
        (b"d//", b"d/%2F"),
        (b"/", b"%2F"),
        (b"..", b"%2E%2E"),
        (b"a/./b", b"a/%2E/b"),
        (b"n\0", b"n%00"),
        (b"100%", b"100%"),
        (b"%2Fx", b"%252Fx"),
        (b"a%20b", b"a%20b"),
        (b"%E4%B8%AD", b"%E4%B8%AD"),
        (b".entrepot-x", b"%2Eentrepot-x"),
        (b"%!caf%E9", b"caf\xe9"),
        ("é".encode(), "é".encode()),
    ],
)
def test_escape_rule(key: bytes, path: bytes) -> None:
    assert to_path(key, True) == path
    assert from_path(path, True) == key


@given(keys)
def test_escape_is_reversible_and_safe(key: bytes) -> None:
    try:
        path = to_path(key, True)
    except NameNotPossibleError as error:
        assert "long" in error.message
        return
    assert from_path(path, True) == key
    assert os.path.normpath(path) == path
    assert not path.startswith((b"/", b"../"))
    assert path != b".."
    assert b"\0" not in path
    assert not any(part.startswith(b".entrepot-") for part in path.split(b"/"))


@given(st.lists(keys, min_size=2, max_size=2, unique=True))
def test_two_keys_never_share_a_path(pair: list[bytes]) -> None:
    paths = []
    for key in pair:
        try:
            paths.append(to_path(key, True))
        except NameNotPossibleError:
            return
    assert paths[0] != paths[1]


@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_file_name_has_a_key_or_is_refused(name: bytes) -> None:
    if name in (b".", b"..") or name.startswith(b".entrepot-"):
        return
    try:
        key = from_name(name, False)
    except NameNotPossibleError:
        assert b"%" in name
        return
    assert to_path(key, True) == name
    if b"%" not in name:
        assert is_utf8(key)


def test_hand_made_escapes_are_refused_not_guessed() -> None:
    for path in (b"a%2Fb", b"%2Ea", b"x%2Ey", b"%2F%2F%2Fa%2F%2F"):
        with pytest.raises(NameNotPossibleError):
            from_path(path, True)


def test_show_is_one_printable_line() -> None:
    assert show(b"a/b") == "a/b"
    for key in (b"a\nb", b"", b"\xff", "\u202e".encode(), b"\x1b[31m"):
        assert show(key).isprintable()
        assert show(key)
