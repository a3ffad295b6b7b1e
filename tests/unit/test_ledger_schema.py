"""Opening the ledger: one schema however it came about, and quickly."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy import inspect

from entrepot.ledger import dialect
from entrepot.ledger.database import Ledger, LedgerError, open_ledger
from entrepot.ledger.migrations.run import upgrade
from entrepot.ledger.schema import HEAD
from entrepot.model.errors import UsageError


def _statements(path):
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        return {(kind, name): " ".join(sql.split()) for kind, name, sql in rows if name != "alembic_version"}


def test_a_new_file_has_the_schema_that_migrations_lead_to(tmp_path):
    open_ledger(str(tmp_path / "made.db")).close()
    migrated = Ledger(dialect.connect(f"sqlite:///{tmp_path}/migrated.db"), "migrated")
    with migrated.write() as connection:
        upgrade(connection, "migrated")
    migrated.close()
    made = _statements(tmp_path / "made.db")
    assert len(made) > 10
    assert made == _statements(tmp_path / "migrated.db")
    with sqlite3.connect(tmp_path / "migrated.db") as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


def test_an_empty_database_with_other_tables_is_migrated(tmp_path):
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE stranger (x)")
    with open_ledger(str(path)).read() as connection:
        assert inspect(connection).has_table("task")


def test_a_known_schema_is_opened_without_the_migration_tool(tmp_path):
    path = str(tmp_path / "ledger.db")
    open_ledger(path).close()
    code = (
        "import sys; from entrepot.ledger.database import open_ledger;"
        f"open_ledger({path!r}).close(); print('alembic' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_runners_do_not_import_the_database():
    code = (
        "import sys, entrepot.runner.process, entrepot.fleet.local, entrepot.service.oneshot;"
        "print([m for m in sys.modules if m.startswith('sqlalchemy')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "ledger.db"
    open_ledger(str(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UsageError, match="does not know"):
        open_ledger(str(path))


def test_a_damaged_file_is_named_with_a_way_out(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db") as caught:
        open_ledger(str(path))
    assert "move the file away" in caught.value.hint


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be opened"):
        open_ledger(str(tmp_path / "file" / "ledger.db"))


def test_the_ledger_is_private_and_durable(tmp_path):
    path = tmp_path / "state" / "ledger.db"
    ledger = open_ledger(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with ledger.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    ledger.close()


def test_a_failed_transaction_leaves_nothing(tmp_path):
    ledger = open_ledger(str(tmp_path / "ledger.db"))
    with pytest.raises(ZeroDivisionError), ledger.write() as connection:
        connection.exec_driver_sql("INSERT INTO event (task_id, at, kind, text) VALUES ('t', 0, 'k', '')")
        raise ZeroDivisionError
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM event").scalar() == 0
    ledger.close()
