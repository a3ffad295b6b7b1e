"""Opening the ledger: one schema however it came about, and quickly."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entrepot.ledger import dialect, migrations, schema
from entrepot.ledger.database import LedgerError, open_ledger
from entrepot.ledger.migrations.run import upgrade
from entrepot.ledger.schema import HEAD
from entrepot.ledger.sqlite import SqliteFile
from entrepot.model.errors import UsageError


def _statements(path):
    with sqlite3.connect(path) as raw:
        rows = raw.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        plain = {(kind, name): re.sub(r"\s+|(?<=\()(?=\S)|(?=\))", " ", sql) for kind, name, sql in rows}
        return {key: " ".join(sql.replace(" ,", ",").split()) for key, sql in plain.items()}


def _shape(path):
    """Columns and indexes of every table, as SQLite understood them."""
    with sqlite3.connect(path) as raw:
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: raw.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
        indexes = {name: {row[1:] for row in raw.execute(f"PRAGMA index_list({name})")} for name in names}
        parts = {
            index[0]: raw.execute(f"PRAGMA index_xinfo({index[0]})").fetchall()
            for found in indexes.values()
            for index in found
        }
    return columns, indexes, parts


def test_a_new_file_has_the_schema_that_migrations_lead_to(tmp_path):
    open_ledger(str(tmp_path / "made.db")).close()
    upgrade(SqliteFile(str(tmp_path / "migrated.db")))
    made = _statements(tmp_path / "made.db")
    assert len(made) > 10
    assert made == _statements(tmp_path / "migrated.db")
    assert _shape(tmp_path / "made.db") == _shape(tmp_path / "migrated.db")
    with sqlite3.connect(tmp_path / "migrated.db") as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


def test_what_goes_with_a_task_is_every_table_that_names_one(tmp_path):
    open_ledger(str(tmp_path / "ledger.db")).close()
    columns, _, _ = _shape(tmp_path / "ledger.db")
    naming = {name for name, found in columns.items() if "task_id" in {row[1] for row in found}}
    assert naming == {*schema.CHILDREN, *schema.STAYING}


def test_the_head_is_the_newest_migration():
    folder = Path(migrations.__file__).parent / "versions"
    assert max(path.name for path in folder.glob("r*.py")).startswith(f"r{HEAD}_")


def test_a_ledger_without_its_stamp_is_not_made_again(tmp_path):
    path = tmp_path / "ledger.db"
    open_ledger(str(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM alembic_version")
    with pytest.raises(LedgerError, match="already exists"):
        open_ledger(str(path))


@pytest.mark.parametrize("place", ["mysql://me:secret@host/db", "sqlite:////x://y"])
def test_an_address_of_another_database_is_refused_without_its_password(place):
    with pytest.raises(UsageError, match="cannot be kept in") as caught:
        open_ledger(place)
    assert "secret" not in str(caught.value)


def test_statements_are_written_once_for_both_databases():
    sql = (
        "SELECT low::text FROM shard WHERE id = :id AND at < now() AND 7 % 4 = 3 LIMIT :limit_2 FOR UPDATE SKIP LOCKED"
    )
    assert dialect.for_sqlite(sql).endswith("LIMIT :limit_2")
    assert "julianday" in dialect.for_sqlite(sql)
    theirs = dialect.for_postgresql(sql)
    assert theirs.startswith("SELECT low::text FROM shard WHERE id = %(id)s AND at < cast(extract(epoch")
    assert theirs.endswith("7 %% 4 = 3 LIMIT %(limit_2)s FOR UPDATE SKIP LOCKED")


def test_the_clock_of_the_database_is_unix_time(tmp_path):
    with open_ledger(str(tmp_path / "ledger.db")).read() as connection:
        assert abs(connection.value("SELECT now()") - time.time()) < 1


def test_an_empty_database_with_other_tables_is_migrated(tmp_path):
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE stranger (x)")
    with open_ledger(str(path)).read() as connection:
        assert connection.value("SELECT count(*) FROM sqlite_master WHERE name = 'task'") == 1


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
        assert connection.value("PRAGMA journal_mode") == "wal"
        assert connection.value("PRAGMA synchronous") == 2
    ledger.close()


def test_a_failed_transaction_leaves_nothing(tmp_path):
    ledger = open_ledger(str(tmp_path / "ledger.db"))
    with pytest.raises(ZeroDivisionError), ledger.write() as connection:
        connection.execute("INSERT INTO event (task_id, at, kind, text) VALUES ('t', 0, 'k', '')")
        raise ZeroDivisionError
    with ledger.read() as connection:
        assert connection.value("SELECT count(*) FROM event") == 0
    ledger.close()
