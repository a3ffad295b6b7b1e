"""``entrepot connection``: secrets never pass the command line, and never come out again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.cli import connection as module
from entrepot.cli.app import run
from entrepot.cli.connection import masked
from entrepot.service.connections import ConnectionStore

SECRET = "s3cr3t-wJalrXUtnFEMI"
BASE = ["connection", "add", "lab", "--provider", "minio", "--endpoint", "https://minio.example:9000"]


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("ENTREPOT_DEBUG", raising=False)


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return str(path)


def test_a_secret_from_a_file(secret_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*BASE, "--access-key", "AKIDEXAMPLE1", "--secret-file", secret_file, "--addressing", "path"]) == 0
    found = ConnectionStore().get("lab")
    assert (found.provider, found.endpoint, found.access_key) == ("minio", "https://minio.example:9000", "AKIDEXAMPLE1")
    assert found.secret_key.reveal() == SECRET
    assert found.addressing == "path"
    for words in (["show", "lab"], ["show", "lab", "--json"], ["list"], ["list", "--json"]):
        assert run(["connection", *words]) == 0
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert "AKIDEXAMPLE1" not in shown.out + shown.err
    assert "AKID…E1" in shown.out


def test_a_secret_file_that_others_can_read_is_remarked(secret_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(secret_file).chmod(0o644)
    assert run([*BASE, "--access-key", "AK", "--secret-file", secret_file]) == 0
    assert "can be read by others" in capsys.readouterr().err
    Path(secret_file).chmod(0o600)
    assert run([*BASE, "--access-key", "AK", "--secret-file", secret_file, "--replace"]) == 0
    assert "can be read by others" not in capsys.readouterr().err


def test_a_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*BASE, "--access-key", "AK", "--secret-env", "MY_SECRET", "--session-token-env", "MY_TOKEN"]
    assert run(words) == 2
    assert "MY_SECRET: the variable is not set" in capsys.readouterr().err
    monkeypatch.setenv("MY_SECRET", SECRET)
    monkeypatch.setenv("MY_TOKEN", "tok")
    assert run(words) == 0
    found = ConnectionStore().get("lab")
    assert (found.secret_key.reveal(), found.session_token.reveal()) == (SECRET, "tok")


@pytest.mark.parametrize("option", ["--secret-key", "--secret", "--session-token", "--sas", "--password", "--token"])
@pytest.mark.parametrize("joined", [True, False])
def test_a_secret_as_an_argument_is_refused_and_not_repeated(
    option: str, joined: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{option}={SECRET}"] if joined else [option, SECRET]
    assert run([*BASE, "--access-key", "AK", *words]) == 2
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
    assert "--secret-file" in shown.err
    assert ConnectionStore().names() == []


def test_a_secret_in_an_extra_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*BASE, "--option", f"client_secret={SECRET}"]) == 2
    assert SECRET not in capsys.readouterr().err
    assert run([*BASE, "--anonymous", "--option", "list=v1"]) == 0
    assert ConnectionStore().get("lab").options == {"list": "v1", "anonymous": "true"}


def test_asked_for_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run([*BASE, "--access-key", "AK"]) == 2
    assert "no secret key given, and there is no terminal" in capsys.readouterr().err
    asked: list[tuple[str, bool]] = []

    def prompt(text: str, hide_input: bool = False, err: bool = False) -> str:
        asked.append((text, hide_input))
        return "typed"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(module.click, "prompt", prompt)
    assert run(BASE) == 0
    assert asked == [("Access key", False), ("Secret key (not shown)", True)]
    assert ConnectionStore().get("lab").secret_key.reveal() == "typed"


@pytest.mark.parametrize("text", ["", "\n", "two\nlines\n", "x" * 70000])
def test_a_secret_file_that_is_none(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    assert run([*BASE, "--access-key", "AK", "--secret-file", str(path)]) == 2
    assert "expected one line" in capsys.readouterr().err


def test_names_are_not_overwritten_by_accident(secret_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*BASE, "--access-key", "AK", "--secret-file", secret_file]
    assert run(words) == 0
    assert run(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert run([*words, "--region", "eu-2", "--replace"]) == 0
    assert ConnectionStore().get("lab").region == "eu-2"
    assert run(["connection", "remove", "lab"]) == 0
    assert run(["connection", "show", "lab"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["connection", "add", "1x", "--anonymous"],
        ["connection", "add", "x", "--endpoint", "minio:9000", "--anonymous"],
        ["connection", "add", "x", "--provider", "nimbus", "--anonymous"],
        ["connection", "add", "x", "--ca-file", "/no/such", "--anonymous"],
        ["connection", "add", "x", "--anonymous", "--access-key", "AK"],
        ["connection", "add", "x", "--option", "novalue", "--anonymous"],
    ],
)
def test_wrong_settings(words: list[str]) -> None:
    assert run(words) == 2
    assert ConnectionStore().names() == []


def test_rotation_keeps_the_secrets(secret_file: str) -> None:
    assert run([*BASE, "--access-key", "AK", "--secret-file", secret_file]) == 0
    assert run(["connection", "rotate-key"]) == 0
    assert ConnectionStore().get("lab").secret_key.reveal() == SECRET


def test_masked() -> None:
    assert [masked(text) for text in ("", "short", "AKIDEXAMPLE1")] == ["", "…", "AKID…E1"]


def test_an_endpoint_that_does_not_answer_fails_at_the_right_step(
    secret_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["connection", "add", "gone", "--endpoint", f"http://127.0.0.1:{port}"]
    assert run([*words, "--access-key", "AK", "--secret-file", secret_file]) == 0
    capsys.readouterr()
    assert run(["connection", "test", "gone", "bucket", "--json"]) == 3
    checks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(c["name"], c["verdict"]) for c in checks] == [("resolve", "ok"), ("connect", "fail")]
    assert "refused" in checks[1]["text"].lower()
    assert checks[1]["hint"]
