"""``entrepot ledger``: what it says and how it exits, on a server's data directory and on this machine's."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest

from entrepot.cli.app import run
from entrepot.ledger.database import open_ledger
from entrepot.security import keyring
from ledger_parts import make_task, port_of


@pytest.fixture(autouse=True)
def _nothing_of_ours(monkeypatch, tmp_path):
    for name in ("ENTREPOT_DATA", "ENTREPOT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def data(tmp_path):
    found = tmp_path / "data"
    ledger = open_ledger(str(found / "ledger.db"))
    port_of(ledger, make_task(ledger, [b"m"])).lease(1)
    ledger.close()
    keyring.load_or_make(str(found / "keys.json"), os.urandom, 1.0)
    return found


@pytest.fixture
def said(capsys):
    """Runs a command; (exit code, stdout, stderr)."""

    def call(*words):
        capsys.readouterr()
        code = run(["ledger", *map(str, words)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def _change(data, sql):
    with closing(sqlite3.connect(data / "ledger.db")) as raw, raw:
        raw.execute(sql)


def test_check_says_that_all_is_well(said, data):
    code, out, err = said("check", "--data", data)
    assert (code, err) == (0, "")
    assert "is whole: schema" in out
    assert "1 tasks" in out


def test_check_tells_what_is_wrong_and_how_to_set_it_right(said, data):
    _change(data, "UPDATE task SET copied = 7")
    code, out, err = said("check", "--data", data)
    assert code == 1
    assert "copied 7, not 0" in out
    assert "entrepot ledger check --repair" in err
    code, out, err = said("check", "--data", data, "--repair", "--json")
    found = json.loads(out)
    assert (code, found["changed"], found["findings"]) == (0, 1, [])


def test_check_can_have_tasks_begin_anew(said, data):
    assert said("check", "--data", data, "--anew")[0] == 0
    with open_ledger(str(data / "ledger.db")).read() as c:
        assert c.value("SELECT state FROM task") == "PAUSED"


def test_check_of_postgresql(said, postgres_ledger):
    code, out, err = said("check", "--database-url", postgres_ledger)
    assert (code, err) == (0, "")
    assert "s3cret" not in out


def test_the_state_directory_of_this_machine(said, tmp_path):
    code, _, err = said("check")
    assert code == 2
    assert f"there is no ledger {tmp_path / 'state' / 'ledger.db'}" in err
    open_ledger(str(tmp_path / "state" / "ledger.db")).close()
    assert said("check")[0] == 0
    assert said("backup", tmp_path / "backup")[0] == 0
    assert os.listdir(tmp_path / "backup") == ["ledger.db"]
    code, _, err = said("backup", "--with-keys", tmp_path / "other")
    assert code == 2
    assert "only a server has keys" in err


def test_a_round_of_backup_and_restore(said, data, tmp_path):
    code, out, _ = said("backup", "--data", data, "--with-keys", tmp_path / "backup")
    assert code == 0
    assert "and its keys" in out
    _change(data, "DELETE FROM task")
    code, _, err = said("restore", "--data", data, tmp_path / "backup")
    assert code == 2
    assert "--replace keeps it" in err
    code, out, _ = said("restore", "--data", data, "--replace", tmp_path / "backup")
    assert code == 0
    assert "1 unfinished tasks wait" in out
    assert "is kept as" in out


def test_recover_a_damaged_one(said, data):
    assert said("recover", "--data", data)[0] == 2, "it is not damaged"
    with open(data / "ledger.db", "r+b") as file:
        file.write(bytes(100))
    code, out, err = said("check", "--data", data)
    assert (code, "file is not a database" in out, "entrepot ledger recover" in err) == (1, True, True)
    code, out, err = said("recover", "--data", data)
    assert (code, err) == (0, "")
    assert "rows were saved" in out
    assert said("check", "--data", data)[0] == 0


def test_recover_says_what_was_lost(said, data):
    with open(data / "ledger.db", "wb") as file:
        file.write(b"nothing of the kind" * 1000)
    code, out, _ = said("recover", "--data", data)
    assert code == 1
    assert "lost from task: 1 unreadable place" in out
