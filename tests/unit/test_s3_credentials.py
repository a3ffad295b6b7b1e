"""Where keys come from: connections, variables, AWS files and processes; and that they never show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from entrepot.model.connection import Connection
from entrepot.model.errors import PlaceError, UsageError
from entrepot.model.location import parse_location
from entrepot.model.secret import Secret
from entrepot.storage.environment import connection_for
from entrepot.storage.s3.credentials import CredentialSource, credential_source
from entrepot.storage.s3.target import Credentials

KEYS = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}


def environment(text: str, tmp_path: Path, **more: str) -> Connection:
    return connection_for(parse_location(text), {"HOME": str(tmp_path), **more})


def keys_of(connection: Connection, **env: str) -> Credentials:
    return credential_source(connection, env)(False)


def test_variables(tmp_path: Path) -> None:
    found = environment("s3://b/", tmp_path, **KEYS, AWS_SESSION_TOKEN="T", AWS_REGION="eu-west-1")
    assert (found.provider, found.endpoint, found.region) == ("s3", "", "eu-west-1")
    keys = keys_of(found)
    assert (keys.access_key, keys.secret_key.reveal(), keys.session_token.reveal()) == ("AK", "SK", "T")


def test_endpoints(tmp_path: Path) -> None:
    plain = environment("s3://b/", tmp_path, **KEYS, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert (plain.provider, plain.endpoint) == ("generic", "http://127.0.0.1:9")
    both = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:10"}
    assert environment("s3://b/", tmp_path, **KEYS, **both).endpoint == "http://127.0.0.1:10"
    vendor = {"AWS_ENDPOINT_URL": "https://oss-cn-beijing.aliyuncs.com"}
    assert environment("s3://b/", tmp_path, **KEYS, **vendor).provider == "oss"
    assert environment("cos://b/", tmp_path, **KEYS).provider == "cos"


def test_a_scheme_prefers_its_own_variables(tmp_path: Path) -> None:
    own = {"OSS_ACCESS_KEY_ID": "OAK", "OSS_SECRET_ACCESS_KEY": "OSK", "OSS_REGION": "cn-beijing"}
    env = {**KEYS, **own, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_SESSION_TOKEN": "T"}
    found = environment("oss://b/", tmp_path, **env)
    assert (found.access_key, found.region, found.endpoint) == ("OAK", "cn-beijing", "")
    assert not found.session_token  # never mixed with the keys of another family
    assert environment("s3://b/", tmp_path, **env).access_key == "AK"


def write_files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = d%s\n"
        "[work]\naws_access_key_id=W\naws_secret_access_key=w\naws_session_token=t\n"
    )
    (tmp_path / "config").write_text(
        "[default]\nregion = us-west-2\n"
        "[profile work]\nregion = eu-west-2\nendpoint_url = http://127.0.0.1:11\n"
        "s3 =\n    addressing_style = path\n"
        "[profile local]\nservices = here\naws_access_key_id = L\naws_secret_access_key = l\n"
        "[services here]\ns3 =\n  endpoint_url = http://127.0.0.1:12\n"
        "[profile empty]\nregion = x\n"
    )
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }


def test_profile_files(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    found = environment("s3://b/", tmp_path, **files)
    assert (found.profile, found.region) == ("default", "us-west-2")
    assert keys_of(found, **files).secret_key.reveal() == "d%s"
    work = environment("s3://b/", tmp_path, **files, AWS_PROFILE="work")
    assert (work.region, work.endpoint, work.addressing) == ("eu-west-2", "http://127.0.0.1:11", "path")
    assert keys_of(work, **files).session_token.reveal() == "t"
    local = environment("s3://b/", tmp_path, **files, AWS_PROFILE="local")
    assert local.endpoint == "http://127.0.0.1:12"
    assert keys_of(local, **files).access_key == "L"


def test_variables_win_over_files(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    found = environment("s3://b/", tmp_path, **files, **KEYS, AWS_PROFILE="work", AWS_REGION="r")
    assert (found.access_key, found.profile, found.region) == ("AK", "", "r")


@pytest.mark.parametrize(("name", "text"), [("nobody", "no AWS profile"), ("empty", "has no keys")])
def test_profiles_without_keys(tmp_path: Path, name: str, text: str) -> None:
    files = write_files(tmp_path)
    with pytest.raises(UsageError, match=text):
        keys_of(environment("s3://b/", tmp_path, **files, AWS_PROFILE=name), **files)


def test_damaged_files_say_so_without_showing_a_line(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("aws_secret_access_key = hunter2\n")
    with pytest.raises(UsageError, match="is damaged") as caught:
        environment("s3://b/", tmp_path, AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"))
    assert "hunter2" not in str(caught.value) + caught.value.hint


def process(tmp_path: Path, program: str) -> dict[str, str]:
    (tmp_path / "p.py").write_text(program)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {tmp_path / 'p.py'}\n")
    return {"AWS_CONFIG_FILE": str(tmp_path / "config")}


def test_credential_process(tmp_path: Path) -> None:
    said = {
        "Version": 1, "AccessKeyId": "P", "SecretAccessKey": "p", "SessionToken": "t",
        "Expiration": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    files = process(tmp_path, f"print({json.dumps(said)!r})")
    keys = keys_of(environment("s3://b/", tmp_path, **files), **files)
    assert (keys.access_key, keys.expires) == ("P", 1893456000.0)


@pytest.mark.parametrize(
    "program", ["print('hunter2')", "import sys; sys.exit('hunter2')", "print('{\"Version\": 2}')", "print('[]')"]
)
def test_credential_process_that_fails_shows_nothing_of_it(tmp_path: Path, program: str) -> None:
    files = process(tmp_path, program)
    with pytest.raises(PlaceError, match="credential_process") as caught:
        keys_of(environment("s3://b/", tmp_path, **files), **files)
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_no_credentials_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PlaceError) as caught:
        environment("s3://b/", tmp_path)
    assert "no credentials" in str(caught.value)
    for word in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "entrepot connection add"):
        assert word in caught.value.hint


@pytest.mark.parametrize("name", list(KEYS))
def test_half_a_pair_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"no (access|secret) key"):
        environment("s3://b/", tmp_path, **{name: "X"})


def test_a_stored_connection_never_takes_keys_of_the_environment() -> None:
    with pytest.raises(PlaceError, match="no credentials for connection 'mine'"):
        credential_source(Connection("mine", "s3"), {**KEYS})


def test_anonymous_only_when_asked(tmp_path: Path) -> None:
    found = environment("s3://b/", tmp_path, AWS_NO_SIGN_REQUEST="true")
    assert keys_of(found).access_key == ""
    assert keys_of(Connection("pub", "s3", options={"anonymous": "yes"})).access_key == ""


def test_fresh_keys_when_asked_or_about_to_expire() -> None:
    now, made = 1000.0, []

    def load() -> Credentials:
        made.append(1)
        return Credentials(f"K{len(made)}", Secret("s"), expires=now + 600)

    source = CredentialSource(load, clock=lambda: now)
    assert [source(False).access_key, source(False).access_key] == ["K1", "K1"]
    assert source(True).access_key == "K2"
    now += 500
    assert source(False).access_key == "K3"


def test_nothing_prints_a_secret(tmp_path: Path) -> None:
    found = environment("s3://b/", tmp_path, AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="hunter2")
    source = credential_source(found, {})
    assert "hunter2" not in f"{found!r} {source!r} {source(False)!r}"


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        environment("az://b/", tmp_path, **KEYS)
