"""The command line against a server: every noun through a real socket, what it prints, and how it exits."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entrepot.cli.app import run
from entrepot.ledger import journal, tasks
from entrepot.model.shard import Failure
from entrepot.model.task import TaskState
from parts.api_server import Server, control_over, listening

ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


@dataclass
class Said:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Desk:
    """A person at a command line, with a server."""

    server: Server
    url: str
    token_file: Path
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str, code: int = 0, token: Path | None = None) -> Said:
        self.capsys.readouterr()
        done = run(["--server", self.url, "--token-file", str(token or self.token_file), *words])
        shown = self.capsys.readouterr()
        assert done == code, (words, shown.out, shown.err)
        return Said(done, shown.out, shown.err)

    def end(self, task_id: str, state: TaskState, *, failed: int = 0, reason: str = "") -> None:
        """Do as the scheduler would."""
        entries = [Failure(b"key %d" % number, "timeout", "no answer", 3, 10) for number in range(failed)]
        with self.server.control.pool.write() as c:
            if entries:
                journal.add_failures(c, task_id, "scan", entries, 0)
                c.change("UPDATE task SET failed = :n, total = :n WHERE id = :id", {"n": failed, "id": task_id})
            tasks.transition(c, task_id, TaskState.SCANNING)
            tasks.transition(c, task_id, state, reason)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("ENTREPOT_SERVER", "ENTREPOT_TOKEN", "ENTREPOT_TOKEN_FILE", "ENTREPOT_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        server = Server(*control_over(str(tmp_path / "ledger.db"), tmp_path / "data"))
        stack.callback(server.close)
        url = stack.enter_context(listening(server))
        token_file = tmp_path / "token"
        token_file.write_text(server.user()[1] + "\n")
        yield Desk(server, url, token_file, tmp_path, capsys)


@pytest.fixture
def places(desk: Desk) -> list[str]:
    for name in ("from", "to"):
        (desk.folder / name).mkdir()
        desk("volume", "add", name, str(desk.folder / name))
    return ["volume://from/", "volume://to/"]


@pytest.fixture
def detached(desk: Desk, places: list[str]) -> Callable[..., str]:
    return lambda *words: desk("sync", *places, "--detach", "-q", *words).out.strip()


def test_a_detached_sync_prints_its_id_alone(desk: Desk, places: list[str]) -> None:
    done = desk("sync", *places, "--detach", "--name", "nightly", "--exclude", "*.tmp", "--not-before", "2099-01-01")
    assert ID.fullmatch(done.out.strip())
    assert f"--server {desk.url} --token-file {desk.token_file} task follow {done.out.strip()}" in done.err
    shown = desk("task", "show", done.out.strip()).out
    assert "nightly" in shown and 'filters = ["- *.tmp"]' in shown and "not before   2099-01-01" in shown
    made = desk("sync", *places, "--detach", "--json").json[0]
    assert made["state"] == "QUEUED" and list(made)[:3] == ["task_id", "state", "total"]


@pytest.mark.parametrize(
    ("state", "failed", "reason", "code", "text"),
    [
        (TaskState.SUCCEEDED, 0, "", 0, "Done"),
        (TaskState.FAILED, 2, "", 1, "2 entries failed"),
        (TaskState.FAILED, 0, "bucket b: not found", 3, "bucket b: not found"),
        (TaskState.CANCELLED, 0, "", 130, "was cancelled"),
        (TaskState.REVIEW, 0, "refused to delete 5 of 6", 4, "task approve"),
    ],
)
def test_following_ends_as_the_task_does(
    desk: Desk, detached: Callable[..., str], state: TaskState, failed: int, reason: str, code: int, text: str
) -> None:
    task_id = detached()
    desk.end(task_id, state, failed=failed, reason=reason)
    done = desk("task", "follow", task_id, code=code)
    assert text in done.out + done.err
    last = desk("task", "follow", task_id, "--json", code=code).json[-1]
    assert (last["task_id"], last["state"], last["failed"]["entries"]) == (task_id, str(state), failed)
    assert set(last) == {
        "task_id", "state", "total", "copied", "equal", "deleted", "skipped", "failed", "seconds", "requests",
        "peak_rss_bytes", "resumed",
    }  # fmt: skip
    assert desk("task", "follow", task_id, "-q", code=code).out == ""


def test_failures_are_shown_and_listed(desk: Desk, detached: Callable[..., str]) -> None:
    task_id = detached()
    desk.end(task_id, TaskState.FAILED, failed=5)
    done = desk("task", "follow", task_id, code=1)
    assert "5 timeout:" in done.out and "key 4: no answer" in done.out and "and 2 more" in done.out
    assert f"task failures {task_id}" in done.err
    listed = desk("task", "failures", task_id, "--json").json
    assert listed[0] == {"key": "key 4", "size": 10, "class": "timeout", "message": "no answer", "attempts": 3}
    assert len(desk("task", "failures", task_id).out.splitlines()) == 5
    assert desk("task", "failures", task_id, "--class", "forbidden").out == ""


def test_orders(desk: Desk, detached: Callable[..., str]) -> None:
    one, two = detached(), detached()
    assert desk("task", "pause", one, two).err.count("is paused") == 2
    assert desk("task", "resume", one, "--json").json[0]["state"] == "QUEUED"
    assert "is cancelled" in desk("task", "cancel", two).err
    assert "cannot be paused" in desk("task", "pause", two, code=2).err
    desk("task", "retry", two)
    desk.end(two, TaskState.REVIEW, reason="too many deletes")
    assert "is approved" in desk("task", "approve", two, "--reason", "fine").err
    desk("task", "cancel", one, two)
    desk("task", "delete", one)
    assert "there is no task" in desk("task", "show", one, code=3).err


def test_a_list_of_tasks(desk: Desk, detached: Callable[..., str]) -> None:
    assert "no tasks yet" in desk("tasks").err
    ids = [detached("--name", f"n{number}") for number in range(3)]
    done = desk("task", "list", "-n", "2")
    assert re.findall(r"^\S{26}", done.out, re.MULTILINE) == ids[:0:-1] and "2 of 3" in done.err
    assert [one["id"] for one in desk("task", "list", "--text", "n1", "--json").json] == [ids[1]]
    assert "no such tasks" in desk("task", "list", "--state", "failed").err
    assert not desk("task", "list", "--until", "2020-01-01").out


def test_a_report(desk: Desk, detached: Callable[..., str]) -> None:
    task_id = detached("--report", "ignored.csv")
    reports = Path(desk.server.control.state_dir) / "reports"
    reports.mkdir(exist_ok=True)
    row = {"key": "k", "outcome": "copied", "size": 1, "proof": "", "note": "", "key_hex": ""}
    (reports / f"{task_id}.jsonl").write_text(json.dumps(row) + "\n")
    desk.end(task_id, TaskState.SUCCEEDED)
    target = desk.folder / "r.csv"
    desk("task", "report", task_id, str(target))
    assert target.read_text().startswith("key,outcome")
    followed = desk.folder / "f.jsonl"
    assert str(followed) in desk("task", "follow", task_id, "--report", str(followed)).out
    assert json.loads(followed.read_text())["key"] == "k"


def test_schedules(desk: Desk, places: list[str]) -> None:
    done = desk("schedule", "add", "nightly", *places, "--cron", "0 2 * * *", "--zone", "Europe/Berlin", "--delete")
    assert "schedule nightly stored" in done.err and "next run 20" in done.err
    shown = desk("schedule", "show", "nightly").out
    assert "0 2 * * * (Europe/Berlin)" in shown and 'delete = "destination"' in shown
    assert "paused" in desk("schedule", "pause", "nightly").err
    assert "paused" in desk("schedule", "list").out
    assert "next run" in desk("schedule", "resume", "nightly").err
    task_id = desk("schedule", "run", "nightly").out.strip()
    assert desk("task", "show", task_id, "--json").json[0]["schedule_id"]
    desk("schedule", "add", "nightly", *places, "--cron", "@daily", "--scope", "team")
    assert "2 of them are named nightly" in desk("schedule", "show", "nightly", code=2).err
    for one in desk("schedule", "list", "--json").json:
        desk("schedule", "remove", one["id"])
    assert "there is no schedule named nightly" in desk("schedule", "run", "nightly", code=3).err
    assert "cron" in desk("schedule", "add", "x", *places, "--cron", "never", code=2).err


def test_connections_hold_no_secret_in_the_open(desk: Desk) -> None:
    secret = desk.folder / "secret"
    secret.write_text("hush-hush\n")
    secret.chmod(0o600)
    add = ["connection", "add", "lab", "--provider", "minio", "--endpoint", "http://127.0.0.1:1", "--access-key",
           "AKIDEXAMPLE1", "--secret-file", str(secret), "--disable-ssl"]  # fmt: skip
    assert "connection test lab BUCKET" in desk(*add).err
    assert "--replace" in desk(*add, code=2).err
    desk(*add, "--replace", "--max-tasks", "3")
    for words in (["list"], ["list", "--json"], ["show", "lab"], ["show", "lab", "--json"]):
        done = desk("connection", *words)
        assert "minio" in done.out
        assert "hush" not in done.out + done.err and "AKIDEXAMPLE1" not in done.out
    done = desk("connection", "test", "lab", code=3)
    assert "fail" in done.out
    desk("connection", "remove", "lab")
    assert "no connections yet" in desk("connection", "list").err


def test_volumes(desk: Desk, places: list[str]) -> None:
    assert "volume://from/" in desk("volume", "list").out
    assert desk("volume", "list", "--json").json[0]["path"] == str(desk.folder / "from")
    assert "closed" in desk("volume", "remove", "from").err
    assert "there is no volume 'from'" in desk("sync", *places, code=2).err


def test_a_token_is_shown_once(desk: Desk) -> None:
    desk("user", "add", "robot", "--role", "reader", "--role", "editor@team/a", "--service")
    done = desk("token", "create", "--user", "robot", "--name", "ci", "--role", "reader", "--expires-days", "3")
    token = done.out.strip()
    assert token.startswith("ent_") and "not shown again" in done.err and token not in done.err
    mine = desk.folder / "mine"
    mine.write_text(token)
    assert "robot" in desk("user", "me", token=mine).out
    refused = desk("volume", "add", "v", "/", code=3, token=mine)
    assert "user me" in refused.err
    kept = desk.folder / "kept"
    done = desk("token", "create", "--out", str(kept))
    assert done.out == "" and kept.read_text().startswith("ent_")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "it exists" in desk("token", "create", "--out", str(kept), code=2).err
    listed = desk("token", "list", "--all").out
    assert "ci" in listed and token not in listed
    token_id = next(one["id"] for one in desk("token", "list", "--user", "robot", "--json").json)
    desk("token", "revoke", token_id)
    assert "was not accepted" in desk("user", "me", token=mine, code=3).err
    keys = desk("access-key", "create", "--json").json[0]
    assert keys["secret_key"] not in ("", "***")
    assert keys["access_key"] in desk("access-key", "list").out
    desk("access-key", "revoke", keys["access_key"])


def test_users(desk: Desk) -> None:
    desk("user", "add", "eve", "--role", "editor@team")
    assert "shut out" in desk("user", "set", "eve", "--disable").err
    assert "reader" in desk("user", "set", "eve", "--enable", "--role", "reader").err
    assert re.search(r"^eve .* in .* reader$", desk("user", "list").out, re.MULTILINE)
    assert desk("user", "show", "eve", "--json").json[0]["grants"] == [{"role": "reader", "scope": ""}]
    desk("user", "remove", "eve")
    assert "role" in desk("user", "add", "eve", "--role", "king", code=2).err


def test_webhooks(desk: Desk) -> None:
    done = desk("webhook", "add", "chat", "http://127.0.0.1:1/hook", "--state", "failed")
    assert len(done.out.strip()) >= 16 and "not shown again" in done.err
    assert "FAILED" in desk("webhook", "list").out
    desk("webhook", "test", "chat")
    assert "pending" in desk("webhook", "deliveries", "chat").out
    desk("webhook", "pause", "chat")
    assert "paused" in desk("webhook", "show", "chat").out
    desk("webhook", "resume", "chat")
    desk("webhook", "remove", "chat")


def test_audit_and_usage(desk: Desk) -> None:
    desk("user", "add", "eve")
    assert "eve" in desk("audit", "list", "--text", "eve").out
    head = desk.folder / "head"
    assert "the chain holds" in desk("audit", "verify", "--head", str(head)).out
    assert json.loads(head.read_text())["head"] >= 1
    desk("audit", "verify", "--head", str(head))
    head.write_text(json.dumps({"head": 1, "head_hash": "0" * 64}))
    assert "tampered" in desk("audit", "verify", "--head", str(head), code=4).err
    desk("audit", "export", str(desk.folder / "a.jsonl"))
    assert (desk.folder / "a.jsonl").read_text().count("\n") >= 1
    desk("usage", "set-quota", "max_running", "3", "--scope", "team")
    assert "team" in desk("usage", "quotas").out
    desk("usage", "drop-quota", "max_running", "--scope", "team")
    assert "no quotas" in desk("usage", "quotas").err
    assert "nothing was moved" in desk("usage").err
    assert "no machines" in desk("runners").err


def test_refusals_say_what_to_do(desk: Desk, places: list[str]) -> None:
    assert "source: only stored connections" in desk("sync", "./here", places[1], code=2).err
    assert "26 letters" in desk("task", "show", "abc", code=2).err
    nobody = desk.folder / "nobody"
    nobody.write_text("ent_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n")
    done = desk("tasks", code=3, token=nobody)
    assert "the token was not accepted" in done.err and "--token-file" in done.err
    nobody.write_text("")
    assert "no token was given" in desk("tasks", code=3, token=nobody).err
    secure = desk.url.replace("http://", "https://")
    assert run(["--server", secure, "tasks"]) == 3
    assert "does not speak TLS" in desk.capsys.readouterr().err
