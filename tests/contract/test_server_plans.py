"""A real server: schedules run by themselves, webhooks are told, and ``kill -9`` of all of it loses neither."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from entrepot.ledger.database import open_ledger
from plan_parts import Receiver, until

TOKEN = "a-token-for-the-tests-of-plans-1"
ENDS = ("SUCCEEDED", "FAILED", "CANCELLED")


class Running:
    """``entrepot up`` over one data directory; it can be killed and begun again."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[str] | None = None
        self.client = httpx.Client()

    def start(self) -> None:
        environ = {**os.environ, "ENTREPOT_ADMIN_TOKEN": TOKEN, "ENTREPOT_EGRESS_ALLOW": "loopback"}
        words = [sys.executable, "-m", "entrepot", "up", "--data", str(self.data), "--port", "0", "--json"]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=environ)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = httpx.Client(base_url=json.loads(line)["url"], headers=headers, timeout=30)

    def kill(self) -> None:
        """All of it at once, as a power cut would."""
        assert self._process is not None
        tree = psutil.Process(self._process.pid)
        everyone = [*tree.children(recursive=True), tree]
        self._process.kill()
        self._process.wait(20)
        psutil.wait_procs(everyone, 20)
        self.client.close()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self.client.close()

    def sql(self, statement: str) -> list[Any]:
        """Into the ledger, past the server."""
        ledger = open_ledger(str(self.data / "ledger.db"))
        try:
            with ledger.write() as c:
                return c.execute(statement)
        finally:
            ledger.close()

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.client.post(f"/api/v1/{path}", json=body)
        assert answer.is_success, answer.text
        return dict(answer.json())

    def get(self, path: str) -> dict[str, Any]:
        return dict(self.client.get(f"/api/v1/{path}").raise_for_status().json())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    made.start()
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        made.post("volumes", {"name": name, "path": str(tmp_path / name)})
    for number in range(20):
        (tmp_path / "in" / f"f{number}").write_bytes(b"x" * number)
    yield made
    made.stop()


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    with ExitStack() as stack:
        yield lambda *answers: stack.enter_context(Receiver(list(answers) or [204]))


def _schedule(running: Running, **more: Any) -> dict[str, Any]:
    request = {"source": "volume://in/", "destination": "volume://out/x"}
    return running.post("schedules", {"name": "s", "cron": "0 0 1 1 *", "request": request, **more})


def _tasks(running: Running) -> list[dict[str, Any]]:
    return list(running.get("tasks")["tasks"])


def test_a_schedule_runs_by_itself_and_its_end_is_told(
    running: Running, receiver: Callable[..., Receiver], tmp_path: Path
) -> None:
    there = receiver(500, 204)
    running.post("webhooks", {"name": "w", "url": there.url()})
    made = _schedule(running)
    assert _tasks(running) == []
    running.sql("UPDATE schedule SET next_due = now() - 7200")
    until(lambda: [task for task in _tasks(running) if task["state"] in ENDS])
    [task] = _tasks(running)
    assert (task["state"], task["schedule_id"], task["totals"]["copied"]["entries"]) == ("SUCCEEDED", made["id"], 20)
    assert sorted(os.listdir(tmp_path / "out" / "x")) == sorted(f"f{number}" for number in range(20))
    until(lambda: there.received)
    running.sql("UPDATE delivery SET next_try = now()")
    until(lambda: len(there.received) >= 2)
    first, second = there.received[:2]
    assert first.body == second.body
    told = json.loads(first.body)["task"]
    assert told == {name: running.get(f"tasks/{task['id']}")[name] for name in told}
    shown = running.get(f"schedules/{made['id']}")
    assert (shown["runs"], shown["last_task"], shown["last_error"]) == (1, task["id"], "")
    [day] = running.get("usage")["usage"]
    assert (day["tasks"], day["entries"], day["bytes"]) == (1, 20, sum(range(20)))
    assert running.post("audit:verify", {})["good"]


def test_case_68_killed_with_schedules_and_deliveries_it_makes_up_for_both(
    running: Running, receiver: Callable[..., Receiver]
) -> None:
    there = receiver(503, 204)
    running.post("webhooks", {"name": "w", "url": there.url()})
    made = _schedule(running)
    ran = running.post(f"schedules/{made['id']}:run")
    until(lambda: running.get(f"tasks/{ran['last_task']}")["state"] in ENDS)
    until(lambda: there.received)
    running.kill()
    # Down for three runs, with news that nobody took yet.
    running.sql("UPDATE schedule SET cron = '0 * * * *', next_due = now() - 3 * 3600")
    running.sql("UPDATE delivery SET next_try = now()")
    running.start()
    until(lambda: len(_tasks(running)) == 2 and all(task["state"] in ENDS for task in _tasks(running)))
    until(lambda: len({got.headers["X-Entrepot-Event"] for got in there.received}) == 2)
    assert running.get(f"schedules/{made['id']}")["runs"] == 2
    assert len(_tasks(running)) == 2
    [hook] = running.get("webhooks")["webhooks"]
    until(
        lambda: (
            [one["state"] for one in running.get(f"webhooks/{hook['id']}/deliveries")["deliveries"]]
            == ["delivered", "delivered"]
        )
    )
    assert running.post("audit:verify", {})["good"]
