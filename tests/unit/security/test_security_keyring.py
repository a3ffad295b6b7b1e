"""Sealed secrets: round trips, binding, tampering, rotation, lost keys, and a key file that stays private."""

from __future__ import annotations

import json
import os
import stat
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import InternalError, UsageError
from entrepot.model.secret import Secret
from entrepot.security.keyring import (
    BrokenSealError,
    KeyFile,
    KeyFileError,
    Keyring,
    LostKeyError,
    load,
    load_or_make,
    retire,
    rotate,
    write_private,
)

RING = Keyring.new(os.urandom, 1.0)
PLACE = "connection/c1/secret_key"


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"), max_size=30))
def test_what_is_sealed_opens_at_its_place_only(secret: str, place: str) -> None:
    sealed = RING.seal(Secret(secret), place, os.urandom)
    assert sealed.startswith(f"v1.{RING.current}.") and sealed.isascii()
    assert RING.open(sealed, place).reveal() == secret
    with pytest.raises(BrokenSealError, match="does not decrypt"):
        RING.open(sealed, place + "x")


@given(st.binary())
def test_bytes_can_be_sealed_too(secret: bytes) -> None:
    assert RING.open_bytes(RING.seal(secret, PLACE, os.urandom), PLACE) == secret


def test_bytes_that_are_no_text_do_not_open_as_text() -> None:
    with pytest.raises(BrokenSealError):
        RING.open(RING.seal(b"\xff\xfe", PLACE, os.urandom), PLACE)


@given(st.data())
def test_every_changed_character_is_noticed(data: st.DataObject) -> None:
    sealed = RING.seal(Secret("hunter2"), PLACE, os.urandom)
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.sampled_from("Ab0_-.:=+/ é\n"))
    changed = sealed[:place] + other + sealed[place + 1 :]
    if changed != sealed:
        with pytest.raises((BrokenSealError, LostKeyError)):
            RING.open(changed, PLACE)
    with pytest.raises((BrokenSealError, LostKeyError)):
        RING.open(sealed[:place], PLACE)
    with pytest.raises((BrokenSealError, LostKeyError)):
        RING.open(sealed + other, PLACE)


def test_the_same_secret_never_looks_the_same() -> None:
    assert len({RING.seal(Secret("x"), PLACE, os.urandom) for _ in range(50)}) == 50


def test_a_text_under_another_key_cannot_pose_as_one_of_ours() -> None:
    other = Keyring.new(os.urandom, 1.0)
    sealed = other.seal(Secret("x"), PLACE, os.urandom)
    with pytest.raises(LostKeyError) as caught:
        RING.open(sealed, PLACE)
    assert caught.value.key_id == other.current and PLACE in str(caught.value) and "restore" in caught.value.hint
    with pytest.raises(BrokenSealError):
        RING.open(sealed.replace(other.current, RING.current), PLACE)


def test_the_form_of_the_connection_files_still_opens() -> None:
    nonce = os.urandom(12)
    raw = nonce + AESGCM(RING.keys[RING.current]).encrypt(nonce, b"old", b"lab\0secret_key")
    sealed = f"v1:{RING.current}:{b64encode(raw).decode()}"
    assert RING.open(sealed, "lab\0secret_key").reveal() == "old"
    assert RING.is_stale(sealed)
    again = RING.reseal(sealed, "lab\0secret_key", os.urandom)
    assert again.startswith("v1.") and RING.open(again, "lab\0secret_key").reveal() == "old"
    with pytest.raises(BrokenSealError):
        RING.open(sealed, "other\0secret_key")


def test_the_newest_key_seals_and_all_open() -> None:
    old = RING.seal(Secret("x"), PLACE, os.urandom)
    ring = Keyring.new(os.urandom, 2.0, RING)
    assert ring.open(old, PLACE).reveal() == "x"
    assert ring.is_stale(old)
    new = ring.reseal(old, PLACE, os.urandom)
    assert not ring.is_stale(new) and ring.reseal(new, PLACE, os.urandom) == new
    assert ring.only_current().open(new, PLACE).reveal() == "x"
    with pytest.raises(LostKeyError):
        ring.only_current().open(old, PLACE)


def test_keys_are_not_shown() -> None:
    assert RING.current in repr(RING)
    assert "keys=" not in repr(RING) and repr(RING.keys[RING.current]) not in repr(RING)


def test_derived_keys_differ_by_purpose_and_key_and_are_hkdf() -> None:
    ring = Keyring.new(os.urandom, 2.0, RING)
    tokens, pages = ring.derive("task-token"), ring.derive("page-token")
    assert set(tokens) == set(ring.keys)
    assert len({*tokens.values(), *pages.values(), *ring.keys.values()}) == 6
    for key_id, key in ring.keys.items():
        assert tokens[key_id] == HKDF(SHA256(), 32, None, b"entrepot/task-token").derive(key)


# -- the file


def test_a_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = os.umask(0)
    try:
        ring = load_or_make(str(path), os.urandom, 12.5)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ring.created[ring.current] == 12
    assert load_or_make(str(path), os.urandom, 99.0) == ring == load(str(path))
    assert os.listdir(tmp_path) == ["keys.json"]


def test_all_who_make_it_at_once_get_the_same_ring(tmp_path: Path) -> None:
    path = str(tmp_path / "keys.json")
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: load_or_make(path, os.urandom, 1.0), range(32)))
    assert len({ring.current for ring in rings}) == 1
    assert os.listdir(tmp_path) == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    load_or_make(str(path), os.urandom, 1.0)
    path.chmod(mode)
    for use in (load, lambda p: load_or_make(p, os.urandom, 1.0), lambda p: rotate(p, os.urandom, 1.0)):
        with pytest.raises(KeyFileError, match=f"mode {mode:04o}") as caught:
            use(str(path))
        assert "chmod 600" in caught.value.hint


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="does not exist"):
        load(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"current": "a", "keys": {}}',
        '{"current": "a", "keys": {"a": "AAAA"}}',
        '{"current": "a", "keys": {"a": 7}}',
        json.dumps({"current": "a b", "keys": {"a b": b64encode(bytes(32)).decode()}}),
        json.dumps({"current": ["a"], "keys": {"a": b64encode(bytes(32)).decode()}}),
    ],
)
def test_a_damaged_file_is_said_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    write_private(str(path), content.encode())
    with pytest.raises(KeyFileError, match="damaged"):
        load(str(path))


def test_the_key_file_of_older_versions_is_read(tmp_path: Path) -> None:
    path = tmp_path / "connections.key"
    write_private(str(path), json.dumps({"current": "ab12", "keys": {"ab12": b64encode(bytes(32)).decode()}}).encode())
    ring = load(str(path))
    assert ring.current == "ab12" and ring.created["ab12"] == 0


def test_rotation_adds_a_key_and_retiring_takes_keys_away(tmp_path: Path) -> None:
    path = str(tmp_path / "keys.json")
    first = load_or_make(path, os.urandom, 1.0)
    sealed = first.seal(Secret("x"), PLACE, os.urandom)
    second = rotate(path, os.urandom, 2.0)
    third = rotate(path, os.urandom, 3.0)
    assert list(load(path).keys) == [first.current, second.current, third.current]
    assert third.current not in second.keys
    assert load(path).open(sealed, PLACE).reveal() == "x"
    kept = retire(path, lambda key_id: key_id == first.current)
    assert set(kept.keys) == {first.current, third.current} == set(load(path).keys)
    assert set(retire(path, lambda _: False).keys) == {third.current}
    with pytest.raises(LostKeyError):
        load(path).open(sealed, PLACE)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_rotation_is_seen_by_those_who_are_running(tmp_path: Path) -> None:
    path = str(tmp_path / "keys.json")
    first = load_or_make(path, os.urandom, 1.0)
    file = KeyFile(path)
    assert file.ring == first and file.ring is file.ring
    second = rotate(path, os.urandom, 2.0)
    sealed = second.seal(Secret("x"), PLACE, os.urandom)
    assert file.ring.current == second.current
    assert file.ring.open(sealed, PLACE).reveal() == "x"
    write_private(path, b"damaged")
    assert file.ring == second, "what cannot be used changes nothing"
    os.unlink(path)
    assert file.ring == second
    with pytest.raises(KeyFileError):
        KeyFile(path)


def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    path = str(tmp_path / "keys.json")
    load_or_make(path, os.urandom, 1.0)
    with ThreadPoolExecutor(8) as pool:
        made = {ring.current for ring in pool.map(lambda i: rotate(path, os.urandom, i), range(16))}
    assert len(made) == 16 and made < set(load(path).keys)


def test_a_file_that_cannot_be_written_is_said_so_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "directory"
    target.mkdir()
    with pytest.raises(InternalError, match="could not be written"):
        write_private(str(target), b"x")
    assert os.listdir(tmp_path) == ["directory"]
    assert issubclass(KeyFileError, UsageError)
