"""The root of the command line: a quick start, errors as one line and a hint, exit codes, completion."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_fakes import FakeEngine, install

from entrepot import __version__
from entrepot.cli.app import run
from entrepot.model import errors

HEAVY = (
    "sqlalchemy",
    "alembic",
    "rich",
    "cryptography",
    "ssl",
    "asyncio",
    "crc32c",
    "http",
    "logging",
)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("ENTREPOT_DEBUG", raising=False)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    return install(monkeypatch)


def python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    import entrepot

    path = str(Path(entrepot.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environ},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["sync", "--help"], ["cp", "--help"], ["nonsense"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    done = python(
        "import sys\nfrom entrepot.cli.app import run\n"
        f"run({words!r})\nprint([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_help_is_quick() -> None:
    def once() -> float:
        started = time.perf_counter()
        done = python("from entrepot.__main__ import main\nmain(['--help'])")
        assert done.returncode == 0
        return time.perf_counter() - started

    assert min(once() for _ in range(5)) < 0.2


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"entrepot {__version__}\n"
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("sync", "cp", "ls", "du", "verify", "connection", "doctor", "tasks", "completion"):
        assert f"\n  {name} " in text
    assert "130 interrupted" in text


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    from entrepot.cli.app import program

    for name in program.list_commands(None):  # type: ignore[arg-type]
        assert run([name, "--help"]) == 0, name
        text = capsys.readouterr().out
        assert text.startswith(f"Usage: entrepot {name}")
        assert max(len(line) for line in text.splitlines()) <= 110


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["snyc"], "no such command: snyc", "did you mean sync?"),
        (["frobnicate"], "no such command: frobnicate", "see entrepot --help"),
        (["sync", "a", "b", "--delte"], "no such option: --delte", "did you mean --delete?"),
        (["sync", "a"], "DESTINATION is missing", "see entrepot sync --help"),
        (["sync", "a", "b", "c"], "got unexpected extra argument (c)", "see entrepot sync --help"),
        (
            ["sync", "a", "b", "--compare", "hash"],
            "--compare: 'hash' is not one of",
            "see entrepot sync --help",
        ),
        (["sync", "a", "b", "--min-size", "4X"], "--min-size: '4X' is no size", "see entrepot sync --help"),
        (["sync", "a", "b", "--list"], "option '--list' requires an argument", "see entrepot sync --help"),
        (["sync", "s4://a", "b"], "s4://a: unknown scheme s4://", "did you mean s3://a?"),
        (["sync", "a", "gopher://b/c"], "gopher://b/c: unknown scheme gopher://", "known schemes: "),
        (["sync", "s3:/a/b", "b"], "s3:/a/b: a slash is missing", "did you mean s3://a/b?"),
        (["sync", "https://h/b", "b"], "https://h/b: an endpoint is not a place", "connection add"),
        (["sync", "s3://", "b"], "s3://: no bucket named", "write s3://BUCKET/prefix"),
        (["connection", "ad"], "no such command: connection ad", "did you mean add?"),
    ],
)
def test_wrong_usage(
    words: list[str], message: str, hint: str, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0].startswith(f"entrepot: {message}"), lines
    assert lines[1].startswith(f"hint: {hint}") or hint in lines[1], lines
    assert len(lines) == 2
    assert engine.requests == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.PlaceError("x"), 3),
        (errors.GuardError("x"), 4),
        (errors.InternalError("x"), 5),
        (errors.NotFoundError("x"), 3),
        (errors.ForbiddenError("x"), 3),
        (errors.StoreTimeoutError("x"), 3),
        (errors.ThrottledError("x"), 3),
        (errors.NameNotPossibleError("x"), 4),
        (errors.CorruptError("x"), 1),
        (errors.UnexpectedReplyError("x"), 5),
        (RuntimeError("x"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_of_errors(
    fault: BaseException, code: int, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.fault = fault
    assert run(["sync", "/a", "/b"]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "entrepot: " in shown.err
    assert shown.out == ""


def test_a_hint_and_no_traceback_unless_debugging(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.fault = errors.PlaceError("bucket b: not found\x1b[2J", hint="check the name")
    assert run(["sync", "/a", "/b"]) == 3
    assert capsys.readouterr().err == "entrepot: bucket b: not found\\e[2J\nhint: check the name\n"
    monkeypatch.setenv("ENTREPOT_DEBUG", "1")
    with pytest.raises(errors.PlaceError):
        run(["sync", "/a", "/b"])


def shell(command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    import entrepot

    path = str(Path(entrepot.__file__).parents[1])
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; entrepot() {{ "{sys.executable}" -m entrepot "$@"; }}; {command}'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        timeout=60,
        check=False,
    )


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    for number in range(6000):
        (tmp_path / f"{'x' * 60}{number}").touch()
    for command in (
        "entrepot ls -r . | head -n 1",
        "entrepot ls -r --json . | head -n 1",
        "entrepot ls -0 . | head -c 9",
    ):
        done = shell(f"{command} >/dev/null", tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_an_output_that_is_full_or_closed(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    done = shell("entrepot ls . >/dev/full", tmp_path)
    assert done.returncode == 5
    assert done.stderr.startswith("entrepot: No space left on device where the output goes\nhint: ")
    done = shell("entrepot ls . >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_noun_alone_shows_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["connection"]):
        assert run(words) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("Usage: entrepot")
        assert "Commands:\n" in shown.err


def test_singular_and_plural_are_both_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["task", "list"]) == 0
    assert run(["connections", "list"]) == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert f"_ENTREPOT_COMPLETE={shell}_complete" in text
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_completion_knows_commands_options_and_connections(tmp_path: Path) -> None:
    from entrepot.model.connection import Connection
    from entrepot.service.connections import ConnectionStore

    store = ConnectionStore(str(tmp_path / "c"))
    store.add(Connection("lab", "s3"))
    store.add(Connection("depot", "s3"))

    def complete(words: str, index: int) -> list[str]:
        done = python(
            "from entrepot.__main__ import main\nmain([])",
            _ENTREPOT_COMPLETE="bash_complete",
            COMP_WORDS=words,
            COMP_CWORD=str(index),
            ENTREPOT_CONFIG_DIR=store.directory,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert complete("entrepot s", 1) == ["plain,sync", "plain,schedule"]
    assert "plain,--delete-max-count" in complete("entrepot sync --delete", 2)
    assert complete("entrepot sync la", 2) == ["plain,lab:"]
    assert complete("entrepot sync /tm", 2) == ["file,/tm"]
    assert complete("entrepot connection show d", 3) == ["plain,depot"]
