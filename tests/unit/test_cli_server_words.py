"""The words that mean a server: when one is meant, what is said when none is, and that nobody pays who means none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from cli_fakes import FakeEngine, install

import entrepot
from entrepot.cli.app import program, run


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENTREPOT_SERVER", "ENTREPOT_TOKEN", "ENTREPOT_TOKEN_FILE", "ENTREPOT_CA_FILE", "ENTREPOT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    return install(monkeypatch)


NOWHERE = ["--server", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["schedule", "list"], "entrepot schedule list asks a server, and none is named", "schedule list …"),
        (["volume", "add", "v", "/data"], "entrepot volume add asks a server", "ENTREPOT_SERVER"),
        (["runners"], "entrepot runners asks a server", "--server URL"),
        (["usage"], "entrepot usage list asks a server", "--server URL"),
        (["task", "pause", "x"], "entrepot task pause asks a server", "task pause …"),
        (["tasks", "follow", "x"], "entrepot tasks follow asks a server", "tasks follow …"),
        (["connection", "browse", "x"], "entrepot connection browse asks a server", "connection browse …"),
        (["sync", "a", "b", "--detach"], "--detach is for a server's task", "--server URL"),
        (["sync", "a", "b", "--priority", "3"], "--priority is for a server's task", "--server URL"),
        (["verify", "a", "b", "--name", "n"], "--name is for a server's task", "--server URL"),
        ([*NOWHERE, "sync", "a", "b", "--processes", "3"], "--processes means nothing", "--local"),
        ([*NOWHERE, "verify", "a", "b", "--manifest", "m"], "--manifest means nothing", "--local"),
        ([*NOWHERE, "sync", "a:b", "c:d", "--list", "keys"], "--list keys: a server reads no file", "volume://"),
        ([*NOWHERE, "sync", "a:b", "c:d", "--report", "/none/r.csv"], "--report /none/r.csv: there is no", ""),
        ([*NOWHERE, "sync", "a:b", "c:d", "--report", "r.txt"], "r.txt: no such form", ".jsonl"),
        ([*NOWHERE, "cp", "a", "b"], "entrepot cp acts on this machine alone", "leave out --server"),
        ([*NOWHERE, "--local", "tasks"], "--server and --local exclude each other", ""),
        (["tasks", "list", "--server", "http://h"], "no such option: --server", "before the command"),
        (["--token", "ent_x", "tasks"], "--token: a secret on the command line", "--token-file"),
        (["--server", "port.example", "tasks"], "'port.example' is no address", "https://port.example"),
        ([*NOWHERE, "--token-file", "/none", "tasks"], "the token file /none cannot be read", ""),
        ([*NOWHERE, "connection", "add", "x", "--secret-key", "hush"], "--secret-key: a secret", "--secret-file"),
        ([*NOWHERE, "connection", "add", "x", "--access-key", "AK"], "no secret key given", "--secret-file"),
        ([*NOWHERE, "user", "set", "x"], "nothing to change is named", "see entrepot user set"),
        ([*NOWHERE, "audit", "verify", "--head", __file__], f"--head {__file__}: no head", "new file"),
        ([*NOWHERE, "schedul"], "no such command: schedul", "did you mean schedule?"),
    ],
)
def test_wrong_usage(
    words: list[str], message: str, hint: str, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err.splitlines()[0], shown.err
    assert hint in shown.err, shown.err
    assert not engine.requests


def test_a_server_in_the_environment_is_meant_where_it_can_be(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ENTREPOT_SERVER", "http://127.0.0.1:1")
    assert run(["tasks"]) == 3
    assert "nothing listens there" in capsys.readouterr().err
    assert run(["ls", str(tmp_path)]) == 0
    assert run(["--local", "sync", "/a", "/b", "-q"]) == 0
    assert engine.requests[0].source == "/a"
    assert run(["--local", "schedule", "list"]) == 2


def test_the_runner_takes_the_server_of_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    context = program.make_context("entrepot", ["--server", "http://h:1", "--token-file", "f", "runner"])
    runner = program.get_command(context, "runner")
    assert runner is not None
    monkeypatch.setattr(runner, "callback", lambda **values: seen.update(values) or 0)
    assert run(["--server", "http://h:1", "--token-file", "f", "runner"]) == 0
    assert (seen["server"], seen["token_file"]) == ("http://h:1", "f")


def _every() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(program, info_name="entrepot")
    context.params["server"] = "http://h"

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            for word in command.list_commands(context):
                below = command.get_command(context, word)
                assert below is not None
                yield from walk(f"{name} {word}", below)

    local = {"cp", "ls", "du", "doctor", "runner", "keys", "ledger", "up", "completion"}
    for word in program.list_commands(context):
        if word not in local:
            found = program.get_command(context, word)
            assert found is not None
            yield from walk(word, found)


@pytest.mark.parametrize("name", [name for name, _ in _every()])
def test_every_word_for_a_server_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*NOWHERE, *name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: entrepot {name}")
    assert max(len(line) for line in text.splitlines()) <= 110


def test_every_command_but_a_few_speaks_json() -> None:
    quiet = {
        "tasks report", "tasks delete", "connection remove", "schedule pause", "schedule resume", "schedule remove",
        "volume remove", "user remove", "token revoke", "access-key revoke", "webhook pause", "webhook resume",
        "webhook remove", "usage drop-quota", "audit export",
    }  # fmt: skip
    for name, command in _every():
        if not isinstance(command, click.Group):
            options = {opt for param in command.params for opt in param.opts}
            assert ("--json" in options) is (name not in quiet), name


def test_sync_has_the_same_options_here_and_there() -> None:
    from entrepot.cli.sync import command as here

    there = dict(_every())["sync"]
    shown = [{p.opts[0] for p in command.params if not getattr(p, "hidden", False)} for command in (here, there)]
    assert shown[0] - shown[1] == {"--processes", "--state-dir"}
    assert shown[1] - shown[0] == {"--name", "--scope", "--priority", "--resource-spec", "--not-before", "--detach"}


def test_options_as_a_request_has_them() -> None:
    from entrepot.cli.remote.syncoptions import request_options

    command = dict(_every())["sync"]
    words = [
        "a:b", "c:d", "--include", "*.jpg", "--exclude", "*", "--delete", "--delete-max-count", "5", "--bandwidth",
        "08:00-18:00=1M,2M", "--modified-after", "2026-01-02T03:04:05Z", "--preserve", "mtime", "--no-server-side",
        "--list", "volume://v/keys", "--report", "r.csv", "--resource-spec", "4Core_8GiB", "--compare", "auto",
    ]  # fmt: skip
    context = command.make_context("sync", words)
    found = request_options(context, context.params)
    assert found == {
        "filters": ("+ *.jpg", "- *"), "delete": "destination", "delete_max_count": 5, "bandwidth": 2 << 20,
        "bandwidth_windows": ("08:00-18:00=1048576",), "modified_after": "2026-01-02T03:04:05Z",
        "preserve": ("mtime",), "server_side": False, "list": "volume://v/keys", "report": True,
        "resource_spec": "4Core_8GiB",
    }  # fmt: skip
    from entrepot.control.syncoptions import read
    from entrepot.sdk.requests.syncs import options_out

    del found["list"]
    assert read(options_out(found)).options.delete_max_count == 5


@pytest.mark.parametrize("words", [["--help"], ["tasks"], ["ls", "."], ["sync", "from", "to", "-q"]])
def test_nobody_pays_for_a_server_who_means_none(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    code = (
        "import sys\nfrom entrepot.cli.app import run\n"
        f"code = run({words!r})\n"
        "found = [m for m in sys.modules if m.startswith(('httpx', 'entrepot.sdk', 'entrepot.cli.remote'))]\n"
        "print(code, found, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(entrepot.__file__).parents[1])},
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "0 []", done.stderr
