"""The file store of connections: round trip, secrecy at rest, binding, rotation, damage, concurrency."""

from __future__ import annotations

import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret
from entrepot.service.connections import ConnectionStore, check, config_directory

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def sample(name: str = "lab", secret: str = SECRET) -> Connection:
    return Connection(
        name,
        "minio",
        endpoint="https://store.example:9000",
        region="eu-1",
        access_key="AKIDEXAMPLE",
        secret_key=Secret(secret),
        session_token=Secret("token-1"),
        addressing="path",
        options={"list": "v1"},
    )


@pytest.fixture
def store(tmp_path: Path) -> ConnectionStore:
    return ConnectionStore(str(tmp_path / "config"))


def test_a_connection_comes_back_as_it_was_stored(store: ConnectionStore) -> None:
    store.add(sample())
    again = ConnectionStore(store.directory)
    assert again.get("lab") == sample()
    assert again("lab").secret_key.reveal() == SECRET
    assert again.names() == ["lab"]
    assert "lab" in again and "other" not in again


def test_files_are_private_and_hold_no_secret(store: ConnectionStore) -> None:
    before = os.umask(0)
    try:
        store.add(sample())
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(store.directory).st_mode) == 0o700
    for name in os.listdir(store.directory):
        path = Path(store.directory, name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, name
        assert SECRET.encode() not in path.read_bytes()
    assert sorted(os.listdir(store.directory)) == ["connections.json", "connections.key", "connections.lock"]


def test_describe_shows_no_secret_and_needs_no_key(store: ConnectionStore) -> None:
    store.add(sample())
    os.unlink(os.path.join(store.directory, "connections.key"))
    shown, held = store.describe("lab")
    assert held == ("secret_key", "session_token")
    assert not shown.secret_key
    assert shown.access_key == "AKIDEXAMPLE"


def test_a_secret_moved_to_another_connection_does_not_decrypt(store: ConnectionStore) -> None:
    store.add(sample())
    store.add(sample("other", "different"))
    content = json.loads(Path(store.path).read_text())
    content["connections"]["other"]["secrets"] = content["connections"]["lab"]["secrets"]
    Path(store.path).write_text(json.dumps(content))
    with pytest.raises(UsageError, match="does not decrypt") as caught:
        store.get("other")
    assert SECRET not in str(caught.value)
    assert "--replace" in caught.value.hint


def test_a_secret_moved_to_another_field_does_not_decrypt(store: ConnectionStore) -> None:
    store.add(sample())
    content = json.loads(Path(store.path).read_text())
    secrets = content["connections"]["lab"]["secrets"]
    secrets["session_token"] = secrets["secret_key"]
    Path(store.path).write_text(json.dumps(content))
    with pytest.raises(UsageError, match="session_token of connection 'lab' does not decrypt"):
        store.get("lab")


def test_every_flipped_bit_of_a_secret_is_noticed(store: ConnectionStore) -> None:
    store.add(replace(sample(), secret_key=Secret("x"), session_token=Secret("")))
    original = json.loads(Path(store.path).read_text())
    sealed = original["connections"]["lab"]["secrets"]["secret_key"]
    head, body = sealed.rsplit(".", 1)
    for place in range(0, len(body) - 2, 3):
        other = "A" if body[place] != "A" else "B"
        original["connections"]["lab"]["secrets"]["secret_key"] = f"{head}.{body[:place]}{other}{body[place + 1 :]}"
        Path(store.path).write_text(json.dumps(original))
        with pytest.raises(UsageError):
            store.get("lab")


def test_the_files_of_the_first_version_are_still_read(store: ConnectionStore) -> None:
    os.makedirs(store.directory)
    key, nonce = bytes(range(32)), bytes(12)
    sealed = AESGCM(key).encrypt(nonce, SECRET.encode(), b"lab\0secret_key")
    text = "v1:ab12cd34:" + base64.b64encode(nonce + sealed).decode()
    file = Path(store.directory, "connections.key")
    file.write_text(json.dumps({"current": "ab12cd34", "keys": {"ab12cd34": base64.b64encode(key).decode()}}))
    file.chmod(0o600)
    row = {"provider": "minio", "access_key": "AK", "secrets": {"secret_key": text}}
    Path(store.path).write_text(json.dumps({"version": 1, "connections": {"lab": row}}))
    assert store.get("lab").secret_key.reveal() == SECRET
    assert store.rotate_key() == 1
    assert store.get("lab").secret_key.reveal() == SECRET


def test_rotation_changes_the_key_and_keeps_the_secrets(store: ConnectionStore) -> None:
    store.add(sample())
    store.add(Connection("open", "s3"))
    key = Path(store.directory, "connections.key")
    old_key, old_file = json.loads(key.read_text()), Path(store.path).read_bytes()
    assert store.rotate_key() == 2
    new_key = json.loads(key.read_text())
    assert list(new_key["keys"]) == [new_key["current"]] != list(old_key["keys"])
    assert store.get("lab") == sample()
    Path(store.path).write_bytes(old_file)
    with pytest.raises(UsageError, match="another key"):
        store.get("lab")


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_rotation_stopped_anywhere_loses_no_secret(
    store: ConnectionStore, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    import entrepot.service.connections as module

    store.add(sample())
    whole = module._replace_file
    calls = []

    def stopped(path: str, data: bytes) -> None:
        if len(calls) == stop_after - 1:
            raise KeyboardInterrupt
        calls.append(path)
        whole(path, data)

    monkeypatch.setattr(module, "_replace_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        store.rotate_key()
    monkeypatch.undo()
    assert store.get("lab") == sample()
    assert store.rotate_key() == 1
    assert store.get("lab") == sample()


def test_a_key_that_others_can_read_is_not_used(store: ConnectionStore) -> None:
    store.add(sample())
    os.chmod(os.path.join(store.directory, "connections.key"), 0o640)
    with pytest.raises(UsageError, match="0640") as caught:
        store.get("lab")
    assert "chmod 600" in caught.value.hint


def test_a_lost_key_is_explained(store: ConnectionStore) -> None:
    store.add(sample())
    os.unlink(os.path.join(store.directory, "connections.key"))
    with pytest.raises(UsageError, match="another key") as caught:
        store.get("lab")
    assert "connection add lab --replace" in caught.value.hint


def test_a_taken_name_is_refused_unless_replaced(store: ConnectionStore) -> None:
    store.add(sample())
    with pytest.raises(UsageError, match="exists already"):
        store.add(sample(secret="second"))
    assert store.get("lab").secret_key.reveal() == SECRET
    store.add(sample(secret="second"), overwrite=True)
    assert store.get("lab").secret_key.reveal() == "second"


def test_unknown_names_are_met_with_a_suggestion(store: ConnectionStore) -> None:
    with pytest.raises(UsageError) as caught:
        store.get("lab")
    assert "connection add lab" in caught.value.hint
    store.add(sample())
    for call in (store.get, store.describe, store.remove):
        with pytest.raises(UsageError, match="no connection named 'lba'") as caught:
            call("lba")
        assert caught.value.hint == "did you mean 'lab'?"


def test_remove_forgets(store: ConnectionStore) -> None:
    store.add(sample())
    store.remove("lab")
    assert store.names() == []
    assert b"secrets" not in Path(store.path).read_bytes()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": "x", "connections": {}}'])
def test_a_damaged_file_is_named(store: ConnectionStore, text: str) -> None:
    os.makedirs(store.directory)
    Path(store.path).write_text(text)
    with pytest.raises(UsageError, match=r"connections\.json is damaged"):
        store.names()


def test_a_newer_file_is_left_alone(store: ConnectionStore) -> None:
    os.makedirs(store.directory)
    Path(store.path).write_text('{"version": 2, "connections": {}}')
    with pytest.raises(UsageError, match="newer version"):
        store.add(sample())


@pytest.mark.parametrize("name", ["", "1lab", "a b", "a/b", "a:b", "läb", "a" * 64, "lab\n"])
def test_names_that_cannot_be_typed_as_a_location_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name for a connection"):
        check(Connection(name, "s3"))


@pytest.mark.parametrize(
    "endpoint",
    [
        "store.example:9000",
        "ftp://store",
        "https://",
        "http://h:99999",
        "https://h?x=1",
        "https://h#x",
        "//h",
    ],
)
def test_endpoints_that_cannot_work_are_refused(endpoint: str) -> None:
    with pytest.raises(UsageError):
        check(Connection("lab", "s3", endpoint=endpoint))


def test_a_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        check(Connection("lab", "s3", endpoint=f"https://user:{'hunter2'}@host"))
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_writers_at_the_same_time_lose_nothing(store: ConnectionStore) -> None:
    names = [f"c{i}" for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: ConnectionStore(store.directory).add(sample(name, name)), names))
    assert store.names() == sorted(names)
    assert {n: store.get(n).secret_key.reveal() for n in names} == {n: n for n in names}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(secret=st.text(min_size=1, alphabet=st.characters(codec="utf-8")))
def test_any_secret_survives(store: ConnectionStore, secret: str) -> None:
    store.add(sample("lab", secret), overwrite=True)
    assert store.get("lab").secret_key.reveal() == secret


def test_the_directory_follows_the_environment() -> None:
    assert config_directory({"ENTREPOT_CONFIG_DIR": "/a/b"}) == "/a/b"
    assert config_directory({"XDG_CONFIG_HOME": "/x"}) == "/x/entrepot"
    assert config_directory({}).endswith("/.config/entrepot")
