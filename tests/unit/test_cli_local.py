"""The commands over the real engine, between directories: sync, cp, verify, tasks, doctor; no network."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from entrepot.cli.app import run


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENTREPOT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("ENTREPOT_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("src/a", "src/d/b", "src/d/e/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_sync_then_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync", "src", "dst", "--json", "--processes", "1"]) == 0
    assert lines(capsys)[-1]["copied"] == {"entries": 3, "bytes": 21}
    assert tree(place / "dst") == tree(place / "src")
    assert run(["sync", "src/", "dst", "--json", "--processes", "1"]) == 0
    again = lines(capsys)[-1]
    assert (again["copied"]["entries"], again["equal"]["entries"]) == (0, 3)
    assert run(["sync", "dst", "dst/d", "--processes", "1"]) == 4
    assert run(["sync", "none", "dst", "--processes", "1"]) == 3


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("copy", "copy"), ("new/", "new/a"), ("there", "there/a"), (".", "a"), ("./x/y", "x/y"), ("src/d", "src/d/a"),
    ],
)  # fmt: skip
def test_cp_of_one_file(place: Path, target: str, found: str) -> None:
    (place / "there").mkdir()
    assert run(["cp", "src/a", target, "-q"]) == 0
    assert (place / found).read_bytes() == b"src/a"
    assert not [name for name in os.listdir(place) if name.startswith(".entrepot")]


def test_cp_overwrites_and_keeps_the_time(place: Path) -> None:
    os.utime(place / "src/a", ns=(10**18, 10**18))
    (place / "b").write_bytes(b"older and longer")
    assert run(["cp", "src/a", "b", "-q"]) == 0
    assert (place / "b").read_bytes() == b"src/a"
    assert (place / "b").stat().st_mtime_ns == 10**18


def test_cp_of_a_large_file_under_another_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = os.urandom(1 << 20) * 20
    (place / "large").write_bytes(data)
    assert run(["cp", "large", "other", "--json"]) == 0
    assert lines(capsys)[-1]["copied"] == {"entries": 1, "bytes": len(data)}
    assert (place / "other").read_bytes() == data


def test_cp_of_a_link_copies_what_it_names(place: Path) -> None:
    (place / "link").symlink_to("src/a")
    assert run(["cp", "link", "out/", "-q"]) == 0
    assert (place / "out/link").read_bytes() == b"src/a"


def test_cp_of_a_directory_is_a_sync_that_copies_all(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(["cp", "src", "dst", "--json", "--processes", "1"]) == 0
        assert lines(capsys)[-1]["copied"]["entries"] == 3
    assert tree(place / "dst") == tree(place / "src")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["src/a", "src/"], 4, "source and destination are the same"),
        (["src/a", "./src/d/../a"], 4, "source and destination are the same"),
        (["none", "x"], 3, "no such file or directory"),
        (["pipe", "x"], 3, "neither a file nor a directory"),
        (["src/a", "x", "--include", "*"], 2, "filters mean nothing for one object"),
    ],
)
def test_cp_refuses(place: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(place / "pipe")
    assert run(["cp", *words]) == code
    assert message in capsys.readouterr().err
    assert (place / "src/a").read_bytes() == b"src/a"


def test_verify_tells_a_difference(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync", "src", "dst", "-q", "--processes", "1"]) == 0
    assert run(["verify", "src", "dst", "--processes", "1"]) == 0
    assert "Verified" in capsys.readouterr().out
    (place / "dst/d/b").write_bytes(b"src/d/B")
    os.utime(place / "dst/d/b", ns=(0, (place / "src/d/b").stat().st_mtime_ns))
    assert run(["verify", "src", "dst", "--processes", "1"]) == 1
    shown = capsys.readouterr()
    assert "d/b" in shown.out
    assert "1 entry differs" in shown.err


def test_a_manifest_is_signed_and_an_altered_one_is_noticed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from entrepot.model.errors import UsageError
    from entrepot.service.manifest import check_manifest

    assert run(["sync", "src", "dst", "-q", "--processes", "1"]) == 0
    assert run(["verify", "src", "dst", "-q", "--manifest", "m.jsonl", "--processes", "1"]) == 0
    tail = check_manifest("m.jsonl")
    assert (tail["entries"], tail["outcomes"]) == (3, {"equal": 3})
    head, *rows, _ = [json.loads(line) for line in (place / "m.jsonl").read_text().splitlines()]
    assert head["source"] == str(place / "src")
    assert [row["key"] for row in rows] == ["a", "d/b", "d/e/c"]
    assert run(["verify", "--check-manifest", "m.jsonl"]) == 0
    assert "3 entries (3 equal), digest and signature hold" in capsys.readouterr().out
    (place / "m.jsonl").write_text((place / "m.jsonl").read_text().replace('"d/b"', '"d/c"'))
    with pytest.raises(UsageError, match="altered"):
        check_manifest("m.jsonl")
    assert run(["verify", "--check-manifest", "m.jsonl"]) == 2
    assert run(["verify", "--check-manifest", "none"]) == 2
    assert not (place / "state/segments").exists() or not os.listdir(place / "state/segments")
    assert run(["verify", "src", "dst", "--manifest", "none/m"]) == 2


def test_a_report_names_every_entry(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "dst" / "a").mkdir(parents=True)
    assert run(["sync", "src", "dst", "--report", "r.jsonl", "--processes", "1"]) == 1
    assert f"report: {place}/r.jsonl" in capsys.readouterr().out
    rows = [json.loads(line) for line in (place / "r.jsonl").read_text().splitlines()]
    assert {row["key"]: row["outcome"] for row in rows} == {"a": "failed", "d/b": "copied", "d/e/c": "copied"}
    assert run(["sync", "src", "dst", "-q", "--report", "r.csv", "--processes", "1"]) == 1
    assert (place / "r.csv").read_text().count("equal") == 2


def test_tasks_list_show_failures_and_cancel(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks"]) == 0
    assert capsys.readouterr().err == "no tasks yet\n"
    assert run(["sync", "src", "dst", "--json", "--processes", "1", "--min-size", "1"]) == 0
    task_id = lines(capsys)[-1]["task_id"]
    assert run(["tasks", "list", "--json"]) == 0
    (listed,) = lines(capsys)
    assert (listed["task_id"], listed["state"], listed["running"]) == (task_id, "SUCCEEDED", False)
    assert listed["source"] == str(place / "src"), "a relative path would mean something else elsewhere"
    assert run(["tasks"]) == 0
    assert task_id in capsys.readouterr().out
    assert run(["tasks", "show", task_id]) == 0
    shown = capsys.readouterr().out
    assert "option       min-size = 1" in shown
    assert "SUCCEEDED" in shown
    assert run(["tasks", "show", task_id, "--json"]) == 0
    assert lines(capsys)[-1]["options"] == {"min_size": 1}
    assert run(["tasks", "failures", task_id]) == 0
    assert capsys.readouterr().out == ""
    assert run(["tasks", "cancel", task_id]) == 0
    assert "has ended already: succeeded" in capsys.readouterr().err
    assert run(["tasks", "show", "nonsense"]) == 2


def test_failures_can_be_tried_again_by_list(place: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (place / "dst" / "a").mkdir(parents=True)
    assert run(["sync", "src", "dst", "--json", "--processes", "1"]) == 1
    report = json.loads(capfdbinary.readouterr().out)
    assert (report["failed"]["entries"], report["copied"]["entries"]) == (1, 2)
    assert run(["tasks", "failures", report["task_id"], "--json"]) == 0
    failure = json.loads(capfdbinary.readouterr().out)
    assert (failure["key"], failure["class"]) == ("a", "name")
    assert run(["tasks", "failures", report["task_id"], "-0"]) == 0
    keys = capfdbinary.readouterr().out
    assert keys == b"a\0"
    (place / "keys").write_bytes(keys)
    (place / "dst" / "a").rmdir()
    assert run(["sync", "src", "dst", "--list", "keys", "--json", "--processes", "1"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["copied"]["entries"] == 1


def test_doctor(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    assert "not there yet" in capsys.readouterr().out
    assert run(["sync", "src", "dst", "-q", "--processes", "1"]) == 0
    assert run(["doctor", "--json"]) == 0
    found = {check["name"]: check for check in lines(capsys)}
    for name in ("python", "kernel", "cores", "open files", "its file system", "its free space", "ledger schema"):
        assert found[name]["verdict"] in {"ok", "warn"}, found[name]
    assert found["ledger integrity"]["text"].endswith("1 tasks")
    assert found["stopped tasks"]["text"] == "none"


def test_doctor_finds_damage_and_leftovers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync", "src", "dst", "-q", "--processes", "1"]) == 0
    from entrepot.storage.posix.names import STAGING_PREFIX

    left = place / "dst" / (os.fsdecode(STAGING_PREFIX) + "lost")
    left.mkdir()
    with sqlite3.connect(place / "state/ledger.db") as raw:
        raw.execute("UPDATE task SET state = 'RUNNING', finished = NULL, owner_pid = 0")
    assert run(["doctor", "--json", "--offline"]) == 0
    found = {check["name"]: check for check in lines(capsys)}
    assert found["stopped tasks"]["verdict"] == "warn"
    assert found["staging leftovers"]["text"] == str(left)
    (place / "state/ledger.db").write_bytes(b"no database at all" * 1000)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (place / "state" / name).unlink(missing_ok=True)
    assert run(["doctor", "--json", "--offline"]) == 2
    found = {check["name"]: check for check in lines(capsys)}
    assert found["ledger"]["verdict"] == "fail"
    assert "move the file away" in found["ledger"]["hint"]


def test_doctor_reports_a_connection_that_cannot_be_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["connection", "add", "lab", "--endpoint", "http://127.0.0.1:9", "--access-key", "AK", "--secret-env", "S"]
    os.environ["S"] = "secret"
    assert run(words) == 0
    del os.environ["S"]
    (place / "config/connections.key").unlink()
    capsys.readouterr()
    assert run(["doctor", "--json"]) == 2
    found = {check["name"]: check for check in lines(capsys)}
    assert found["lab"]["verdict"] == "fail"
    assert "another key" in found["lab"]["text"]
