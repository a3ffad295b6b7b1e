"""Bring a ledger's schema up to the newest revision. Imported only when it is not there yet."""

from __future__ import annotations

import os
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from entrepot.ledger.dialect import BUSY_SECONDS, SQLITE
from entrepot.model.errors import UsageError


def upgrade(url: str, name: str) -> None:
    """Apply what is missing, in one transaction. Raises what the database's own driver raises."""
    try:
        with _engine(url).begin() as connection:
            _apply(connection)
    except CommandError as error:
        raise UsageError(
            f"the ledger {name} has a schema that this version does not know ({error})",
            hint="it was written by a newer version: use that one, or choose another ENTREPOT_STATE_DIR",
        ) from error
    except DBAPIError as error:
        raise (error.orig or error) from error


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite:"):
        return create_engine(url, poolclass=NullPool)
    # The driver's own habit of beginning late would leave table changes outside the transaction.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Any) -> None:
    connection.exec_driver_sql(SQLITE.begin_writing)


def _apply(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", os.path.dirname(os.path.abspath(__file__)))
    script = ScriptDirectory.from_config(config)

    def steps(revision: tuple[str, ...], _context: MigrationContext) -> list[RevisionStep]:
        return script._upgrade_revs("head", revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()
