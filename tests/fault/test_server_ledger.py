"""A whole server whose ledger is backed up while it works, damaged, refused, recovered and restored (case 73)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from entrepot.ledger import checking, swap
from entrepot.ledger.database import LedgerError
from parts.cli import SOURCE
from parts.entrepot_server import EntrepotServer
from serve_parts import wait_until

FILES = 300


@pytest.fixture
def server(tmp_path):
    (tmp_path / "here" / "source").mkdir(parents=True)
    for number in range(FILES):
        (tmp_path / "here" / "source" / f"f{number:04d}").write_bytes(b"%d" % number * 20_000)
    (tmp_path / "up").mkdir()
    found = EntrepotServer(tmp_path / "up")
    found.start()
    found.volume("here", tmp_path / "here")
    yield found
    found.stop()


def _entrepot(server, *words):
    env = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
    command = [sys.executable, "-m", "entrepot", *words, "--data", str(server.data), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=env | {"PYTHONPATH": SOURCE}
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def _kill(server):
    """Everything of it at once."""
    server.program.process.kill()
    server.program.process.wait(20)

    def idle():
        try:
            swap.require_idle(str(server.data / "ledger.db"))
        except LedgerError:
            return False
        return True

    wait_until(idle, 20, "its processes outlive it")
    server.stop()


def _goes_on(server, task_id, here):
    """The task waits, says why, and ends well when it is resumed."""
    server.start()
    task = server.task(task_id)
    assert task["state"] == "PAUSED"
    status, _ = server.ask("POST", f"/api/v1/tasks/{task_id}:resume")
    assert status == 200
    assert server.wait(task_id)["state"] == "SUCCEEDED"
    assert sorted(os.listdir(here / "target")) == sorted(os.listdir(here / "source"))
    for number in range(0, FILES, 50):
        name = f"f{number:04d}"
        assert (here / "target" / name).read_bytes() == (here / "source" / name).read_bytes()
    return task["reason"]


def test_case_73_a_server_lives_through_damage_and_a_restored_backup(server, tmp_path):
    ledger = str(server.data / "ledger.db")
    task_id = server.sync("volume://here/source", "volume://here/target", bandwidth=8_000_000)
    server.wait(task_id, lambda task: task["totals"]["copied"]["entries"] > 10)

    code, _, err = _entrepot(server, "ledger", "backup", str(tmp_path / "backup"), "--with-keys")
    assert (code, err) == (0, "")
    code, found, _ = _entrepot(server, "ledger", "check")
    assert (code, found["findings"]) == (0, []), "also while it works"
    code, _, err = _entrepot(server, "ledger", "recover", "--force")
    assert code == 5
    assert "in use by another process" in err
    assert "stop the server" in err
    assert server.task(task_id)["state"] in {"SCANNING", "RUNNING"}, "nothing was disturbed"

    _kill(server)
    with closing(sqlite3.connect(ledger)) as raw:
        # What is in the log would heal the file.
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    with open(ledger, "r+b") as file:
        file.write(bytes(100))
    code, _, err = _entrepot(server, "up", "--port", "0")
    assert code != 0
    assert "file is not a database" in err
    assert "entrepot ledger recover" in err
    assert "Traceback" not in err

    code, found, err = _entrepot(server, "ledger", "recover")
    assert (code, err, found["waiting"]) == (0, "", 1)
    assert checking.check(ledger).findings == ()
    assert "damaged" in _goes_on(server, task_id, tmp_path / "here")

    _kill(server)
    code, found, err = _entrepot(server, "ledger", "restore", str(tmp_path / "backup"), "--replace")
    assert (code, err, found["waiting"], found["keys"]) == (0, "", 1, True)
    assert "restored from the backup of" in _goes_on(server, task_id, tmp_path / "here")
