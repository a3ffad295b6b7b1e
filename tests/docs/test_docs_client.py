"""The page about asking a server: every command and option is there, and what it shows is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_parts import blocks, codes, text, verbs

from parts.cli import SOURCE, Cli
from parts.entrepot_server import TOKEN, EntrepotServer

PAGE = text("docs/client.md")
HERE, THERE = verbs(), verbs("http://server.example")
OF_THE_ROOT = ("--server", "--token-file", "--ca-file", "--local")


@pytest.mark.parametrize("name", sorted(THERE))
def test_every_command_for_a_server_is_told(name: str) -> None:
    noun, _, verb = name.partition(" ")
    told = f"entrepot {name}" in PAGE or (noun == "connection" and f"`{verb}`" in PAGE)
    assert told or (name in {"token", "user", "webhook", "access-key", "audit", "usage"})


@pytest.mark.parametrize("name", sorted(THERE))
def test_every_option_for_a_server_is_told(name: str) -> None:
    told = {word for code in codes(PAGE) for word in re.findall(r"--?[a-z0-9][a-z0-9-]*", code)}
    noun, _, _ = name.partition(" ")
    # The page leads to those that are told elsewhere.
    elsewhere = "sync" if name == "schedule add" else name if noun in {"sync", "verify", "connection"} else ""
    known = HERE[elsewhere].flags if elsewhere in HERE else set()
    missing = {opt for opt in THERE[name].flags if opt.startswith("--")} - told - known - {"--help"}
    assert not missing


def test_the_options_of_the_root_are_told() -> None:
    from entrepot.cli.app import program

    named = {opt for param in program.params for opt in param.opts if not getattr(param, "hidden", False)}
    assert named - {"--version", "--help"} == set(OF_THE_ROOT)
    assert all(any(code.startswith(name) for code in codes(PAGE)) for name in OF_THE_ROOT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EntrepotServer]:
    running = EntrepotServer(tmp_path).start()
    for name in ("photos", "archive"):
        (tmp_path / name).mkdir()
        running.volume(name, tmp_path / name)
    for number in range(8):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(b"x" * 100_000)
    (tmp_path / "photos" / "notes.tmp").write_bytes(b"x")
    yield running
    running.stop()


_FREE = re.compile(
    r"[0-9A-HJKMNP-TV-Z]{26}|https?://\S+|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|[\d.,]+ (?:[KMG]iB(?:/s)?|s|objects/s)"
)


def _shape(words: str) -> list[str]:
    return [_FREE.sub("…", line) for line in words.splitlines()]


def test_the_consoles_show_what_is_printed(server: EntrepotServer, cli: Cli) -> None:
    env = {"ENTREPOT_SERVER": server.url, "ENTREPOT_TOKEN": TOKEN}
    seen = 0
    for block in blocks(PAGE, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            if not shown.strip():
                continue
            done = cli(*shlex.split(command)[1:], env=env, json=False)
            assert done.code == 0, done.text
            printed = _shape(done.out + done.err)
            assert [line for line in _shape(shown) if line not in printed] == [], done.text
            seen += 1
    assert seen == 3


@pytest.mark.parametrize("number", range(2))
def test_the_python_of_the_page_runs(server: EntrepotServer, tmp_path: Path, number: int) -> None:
    script = tmp_path / f"page{number}.py"
    script.write_text(blocks(PAGE, "python")[number])
    env = {**os.environ, "PYTHONPATH": SOURCE, "ENTREPOT_SERVER": server.url, "ENTREPOT_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, str(script)], env=env, cwd=tmp_path, timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCEEDED" in done.stdout
    if number == 0:
        assert (tmp_path / "report.csv").read_text().count("copied") == 8
