"""What a run imports: a small sync costs little because it loads little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import entrepot

TREE_OF_FILES = 10

SYNC = """
import sys
from entrepot.cli.app import run
code = run(sys.argv[1:])
print(code, *sorted(sys.modules), sep="\\n")
"""


@pytest.fixture
def loaded(tmp_path: Path) -> set[str]:
    """Modules in the process that conducted a whole sync into a new ledger."""
    (tmp_path / "from").mkdir()
    for number in range(TREE_OF_FILES):
        (tmp_path / "from" / f"file {number}").write_bytes(b"x" * number)
    done = subprocess.run(
        [sys.executable, "-c", SYNC, "sync", str(tmp_path / "from"), str(tmp_path / "to"), "--quiet"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(entrepot.__file__).parents[1]),
            "ENTREPOT_STATE_DIR": str(tmp_path / "state"),
            "ENTREPOT_CONFIG_DIR": str(tmp_path / "config"),
        },
        timeout=60,
        check=True,
    )
    code, *modules = done.stdout.splitlines()
    assert code == "0", done.stderr
    assert len(list((tmp_path / "to").iterdir())) == TREE_OF_FILES
    assert (tmp_path / "state" / "ledger.db").stat().st_size > 0
    return set(modules)


def test_a_local_sync_loads_the_ledger_and_nothing_heavy(loaded: set[str]) -> None:
    assert "entrepot.ledger.shards" in loaded
    assert loaded.isdisjoint({"sqlalchemy", "alembic", "entrepot.ledger.migrations.run"})


def test_a_local_sync_loads_no_library_that_it_does_not_use(loaded: set[str]) -> None:
    spared = {"csv", "difflib", "shutil", "mimetypes", "configparser", "http", "email", "ssl", "rich", "cryptography"}
    assert loaded & spared == set()


PREPARE = """
import sys, threading
from entrepot.model.task import TaskSpec
from entrepot.service.trade import transfer_trade
from entrepot.work.environment import WorkEnvironment
transfer_trade().prepare(TaskSpec("sync", *sys.argv[1:3], "{}"), WorkEnvironment())
print(threading.active_count(), *sorted(sys.modules), sep="\\n")
"""


def prepared(place: str) -> list[str]:
    """Number of threads and the modules of a process that is ready to fork runners for ``place``."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, "/tmp", place],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(entrepot.__file__).parents[1])},
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("place", "code", "other"),
    [
        ("s3://bucket/prefix", "entrepot.storage.s3.lane", "entrepot.storage.azure.store"),
        ("az://container/prefix", "entrepot.storage.azure.store", "entrepot.storage.s3.lane"),
        ("/tmp/somewhere", "entrepot.storage.posix.store", "entrepot.storage.s3.lane"),
    ],
)
def test_the_code_of_a_place_is_loaded_before_the_fork_and_starts_nothing(place: str, code: str, other: str) -> None:
    threads, *modules = prepared(place)
    assert threads == "1"
    assert code in modules
    assert other not in modules


def test_an_s3_place_needs_no_second_reader_of_replies() -> None:
    assert {"http.client", "email.utils", "configparser"}.isdisjoint(prepared("s3://bucket/prefix"))
