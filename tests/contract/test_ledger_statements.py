"""Every statement that the ledger has is understood by both databases."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sqlite3

import psycopg
import pytest

import entrepot.ledger
from entrepot.ledger import dialect
from entrepot.ledger.database import open_ledger

_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s")
_ONE_DATABASE = re.compile(r"_(SQLITE|POSTGRESQL)$|sqlite_master|pg_|MATCH")


def _statements():
    """Constants that are whole statements; those with holes are filled in elsewhere."""
    for module in pkgutil.iter_modules(entrepot.ledger.__path__):
        if module.ispkg or module.name in {"sqlite", "postgres"}:
            continue
        for name, value in vars(importlib.import_module(f"entrepot.ledger.{module.name}")).items():
            whole = isinstance(value, str) and _STATEMENT.match(value) and "{" not in value
            if whole and not _ONE_DATABASE.search(name) and not _ONE_DATABASE.search(value):
                yield pytest.param(value, id=f"{module.name}.{name}")


STATEMENTS = list(_statements())


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("ledger") / "ledger.db")
    open_ledger(path).close()
    raw = sqlite3.connect(path)
    yield raw
    raw.close()


@pytest.fixture(scope="module")
def postgresql(postgres):
    url = postgres.new_ledger()
    raw = psycopg.connect(url, autocommit=True)
    yield raw
    raw.close()
    postgres.drop(url)


def test_there_are_statements():
    assert len(STATEMENTS) > 100


@pytest.mark.parametrize("sql", STATEMENTS)
def test_sqlite_understands(sqlite, sql):
    names = re.findall(r"(?<!:):([a-z_][a-z_0-9]*)", sql)
    sqlite.execute(f"EXPLAIN {dialect.for_sqlite(sql)}", dict.fromkeys(names)).close()


@pytest.mark.parametrize("sql", STATEMENTS)
def test_postgresql_understands(postgresql, sql):
    names: list[str] = []

    def numbered(found):
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    plain = re.sub(r"%\(([a-z_0-9]+)\)s", numbered, dialect.for_postgresql(sql)).replace("%%", "%")
    try:
        postgresql.execute(f"PREPARE tried AS {plain}")
    except (psycopg.errors.IndeterminateDatatype, psycopg.errors.AmbiguousParameter) as error:
        # The driver says of numbers which type they have; text has none of its own.
        assert "text" not in str(error.diag.message_detail)
        return
    postgresql.execute("DEALLOCATE tried")
