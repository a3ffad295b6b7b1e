"""A second machine lends its cores: it gets ranges over HTTP, and what it does counts like all else."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parts.cli import SOURCE
from parts.entrepot_server import EntrepotServer
from parts.fake_s3 import ACCESS, SECRET, FakeS3
from parts.program import Program

OBJECTS = 2600


@pytest.fixture
def served(tmp_path: Path) -> Iterator[EntrepotServer]:
    server = EntrepotServer(tmp_path, "--processes", "1").start()
    yield server
    server.stop()


@pytest.fixture
def store(fake_s3: FakeS3, served: EntrepotServer) -> FakeS3:
    fake_s3.make_bucket("src")
    fake_s3.make_bucket("dst")
    for i in range(OBJECTS):
        fake_s3.put("src", b"d%02d/object %05d" % (i % 20, i), b"%05d" % i * 3)
    fake_s3.latency = 0.01
    served.connection("store", fake_s3.endpoint, ACCESS, SECRET)
    return fake_s3


def _helper(served: EntrepotServer, folder: Path, token: str) -> Program:
    env = {**os.environ, "PYTHONPATH": SOURCE, "ENTREPOT_TOKEN": token}
    command = [sys.executable, "-m", "entrepot", "runner", "--server", served.url, "--processes", "2", "--name", "help"]
    return Program(command, str(folder / f"runner-{time.monotonic_ns()}.log"), env=env, grace=20.0)


def _runner_token(served: EntrepotServer) -> str:
    served.made("/api/v1/users", {"name": "helper", "kind": "service", "grants": [{"role": "runner"}]})
    return str(served.made("/api/v1/tokens", {"user": "helper", "name": "machine"})["token"])


def _helped(served: EntrepotServer, task: str) -> int:
    """How many processes reported on the task."""
    import sqlite3

    with sqlite3.connect(f"file:{served.data / 'ledger.db'}?mode=ro", uri=True) as ledger:
        query = "SELECT count(*) FROM runner_stats WHERE task_id = ? AND stats LIKE '%\"requests.put\": %'"
        return int(ledger.execute(query, (task,)).fetchone()[0])


def test_another_machine_takes_its_share(served: EntrepotServer, store: FakeS3, tmp_path: Path) -> None:
    helper = _helper(served, tmp_path, _runner_token(served))
    try:
        task = served.sync("store:src", "store:dst", server_side=False, concurrency=2, report=True)
        found = served.wait(task, seconds=100)
        assert found["state"] == "SUCCEEDED", (found, helper.tail())
        assert found["totals"]["copied"]["entries"] == OBJECTS
        assert store.dump("dst") == store.dump("src")
        assert _helped(served, task) >= 2, helper.tail()
        rows = _report(served, task)
        assert rows == OBJECTS
    finally:
        helper.stop()
    assert "left after 1 task" in helper.tail()
    assert SECRET not in helper.tail()


def _report(served: EntrepotServer, task: str) -> int:
    import urllib.request

    from parts.entrepot_server import TOKEN

    request = urllib.request.Request(
        f"{served.url}/api/v1/tasks/{task}/report?format=jsonl", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return sum(1 for _ in reply)


def test_a_machine_that_dies_is_replaced(served: EntrepotServer, store: FakeS3, tmp_path: Path) -> None:
    helper = _helper(served, tmp_path, _runner_token(served))
    task = served.sync("store:src", "store:dst", server_side=False, concurrency=2)
    served.wait(task, lambda found: found["totals"]["copied"]["entries"] > OBJECTS // 4)
    os.killpg(helper.process.pid, signal.SIGKILL)
    found = served.wait(task, seconds=100)
    helper.stop()
    totals = found["totals"]
    # What it had copied beyond its last checkpoint is found equal by its heirs.
    assert (found["state"], totals["copied"]["entries"] + totals["equal"]["entries"]) == ("SUCCEEDED", OBJECTS)
    assert totals["total"]["entries"] == OBJECTS
    assert store.dump("dst") == store.dump("src")


def test_a_runner_may_nothing_but_work(served: EntrepotServer, store: FakeS3) -> None:
    token = _runner_token(served)
    assert served.ask("GET", "/api/v1/connections", token=token)[1].get("connections") in (None, [])
    assert served.ask("GET", "/api/v1/tasks", token=token)[1].get("tasks") in (None, [])
    task = served.sync("store:src", "store:dst")
    own = "0" * 26
    for verb, body in (("lease", {"limit": 1}), ("report", {}), ("release", {"shard_ids": []})):
        status, answer = served.ask("POST", f"/api/v1/runners/tasks/{task}/{own}:{verb}", body, token=token)
        assert status == 403, (verb, answer)
