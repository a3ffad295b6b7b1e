"""Bring a ledger's schema up to the newest revision. Imported only when it is not there yet."""

from __future__ import annotations

import os

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from entrepot.ledger.dialect import Database
from entrepot.model.errors import UsageError


def upgrade(database: Database, to: str = "head") -> None:
    """Apply what is missing, in one transaction that keeps other upgrades out. Raises LedgerError, UsageError."""
    try:
        with database.engine().begin() as connection:
            _apply(connection, to)
    except CommandError as error:
        raise UsageError(
            f"the ledger {database.name} has a schema that this version does not know ({error})",
            hint=f"it was written by a newer version or by another program: {database.way_out}",
        ) from error
    except DBAPIError as error:
        if isinstance(error.orig, database.failures):
            raise database.explain(error.orig) from error
        raise


def _apply(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", os.path.dirname(os.path.abspath(__file__)))
    script = ScriptDirectory.from_config(config)

    def steps(revision: tuple[str, ...], _context: MigrationContext) -> list[RevisionStep]:
        return script._upgrade_revs(to, revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, script, fn=steps) as environment:
        # Another program's version table further down the search path is none of ours.
        schema = inspect(connection).default_schema_name if connection.dialect.name == "postgresql" else None
        environment.configure(connection=connection, transactional_ddl=True, version_table_schema=schema)
        environment.run_migrations()
