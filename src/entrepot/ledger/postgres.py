"""A ledger in a PostgreSQL database: how to connect, what its failures mean, what differs from SQLite.

Writing transactions are READ COMMITTED: nothing fails because someone else was faster, everyone waits at the rows
that he reads ``FOR UPDATE`` and then sees them as the other one left them. Reading ones are REPEATABLE READ, READ
ONLY: all their statements see the same moment, as in SQLite, and such a transaction never fails for others' sake.
SERIALIZABLE would make the locks needless, but every writer would have to be ready to begin anew at any time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from entrepot.model.errors import UsageError

from .dialect import BUSY_SECONDS, LedgerError, for_postgresql

try:
    import psycopg
except ImportError:
    raise UsageError(
        "a ledger in PostgreSQL needs the library psycopg, which is not installed",
        hint="pip install 'entrepot[server]'",
    ) from None
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from .postgres_types import adapt

if TYPE_CHECKING:
    from sqlalchemy import Engine

OLDEST = 120000
"""The oldest server that is served: 12."""
PATIENCE = 5.0
"""How long (seconds) to try to connect again: a server that restarts is back by then."""

_DEFAULTS = {
    "connect_timeout": "10",
    "fallback_application_name": "entrepot",
    "client_encoding": "UTF8",
    # Of several hosts the one that can be written to, also after a failover.
    "target_session_attrs": "read-write",
    # A host that vanished without a word is noticed within a minute.
    "keepalives_idle": "20",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "50000",
}

# Only where the administrator set none. A process that vanished in a transaction must not hold its rows for ever.
_LIMITS = """SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN '{busy}s' ELSE '{idle}s' END, false)
    FROM pg_settings WHERE name IN ('lock_timeout', 'idle_in_transaction_session_timeout') AND setting = '0'"""
_LIMITS = _LIMITS.format(busy=int(BUSY_SECONDS), idle=int(BUSY_SECONDS) * 4)

_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('entrepot ' || current_schema() || ' ' || {name}, 0))"

_GONE = ("08", "57P0")
"""SQLSTATEs of a server that ended the connection."""

_HINTS = {
    "40001": "another transaction was faster: the same again will do",
    "40P01": "another transaction was faster: the same again will do",
    "55P03": f"another transaction held the rows for {BUSY_SECONDS:.0f} s: the same again may do; "
    "pg_stat_activity shows who it is",
    "53100": "make room on the database server",
    "53300": "raise max_connections of the server, or use fewer processes",
    "25006": "the server is a standby: name the primary",
    "42501": "let the user make tables: CREATE SCHEMA entrepot AUTHORIZATION <user>, "
    "and add ?options=-csearch_path%3Dentrepot to the address",
    "3F000": "create the schema that search_path names",
}
_AGAIN = ("40001", "40P01", "55P03", "53300")


class PostgresDatabase:
    """The database at a URL. Raises UsageError when it is none."""

    kind = "postgresql"
    failures: type[Exception] = psycopg.Error
    one_writer = False
    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    begin_writing = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
    stamped = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'alembic_version'"
    alone = _ALONE.format(name=":name")
    way_out = "give this one a database or a schema of its own"
    render = staticmethod(for_postgresql)

    def __init__(self, place: str) -> None:
        self._settings = _settings(place)
        self._secret = str(self._settings.get("password") or "")
        self.name = _name(self._settings)

    def __repr__(self) -> str:
        return f"PostgresDatabase({self.name})"

    def connect(self, *, again: bool) -> psycopg.Connection[Any]:
        """A connection in which nothing begins by itself."""
        try:
            raw = self._connect(PATIENCE if again else 0.0)
        except psycopg.Error as error:
            if again:
                raise
            raise UsageError(
                f"the ledger {self.name} cannot be opened: {self._cause(error)}",
                hint="check address, user and password, and that the server runs",
            ) from error
        try:
            self._check(raw)
            adapt(raw)
            raw.execute(_LIMITS)
        except BaseException:
            raw.close()
            raise
        return raw

    def _connect(self, patience: float) -> psycopg.Connection[Any]:
        end = time.monotonic() + patience
        while True:
            try:
                return psycopg.connect(**self._settings, autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def _check(self, raw: psycopg.Connection[Any]) -> None:
        if raw.info.server_version < OLDEST:
            raise UsageError(
                f"the ledger {self.name} is kept by PostgreSQL {raw.info.server_version // 10000}",
                hint=f"use PostgreSQL {OLDEST // 10000} or newer",
            )
        encoding = raw.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise UsageError(
                f"the ledger {self.name} cannot keep every name: its encoding is {encoding}",
                hint="CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            )

    def lost(self, raw: psycopg.Connection[Any], error: Exception) -> bool:
        """By what the server said at last, or by its silence."""
        return raw.closed or (getattr(error, "sqlstate", None) or "").startswith(_GONE)

    def commit(self, raw: psycopg.Connection[Any]) -> None:
        """PostgreSQL answers the commit of a failed transaction by quietly rolling it back."""
        if raw.execute("COMMIT").statusmessage == "ROLLBACK":
            raise psycopg.errors.InFailedSqlTransaction("a statement had failed before, so nothing was kept")

    def open_transaction(self, raw: psycopg.Connection[Any]) -> bool:
        """As the driver keeps count."""
        return raw.info.transaction_status is not TransactionStatus.IDLE

    def explain(self, error: Exception) -> LedgerError:
        """By SQLSTATE; a connection that was lost has none."""
        code = getattr(error, "sqlstate", None) or ""
        cause = self._cause(error)
        if code.startswith(_GONE) or (not code and isinstance(error, psycopg.OperationalError)):
            return LedgerError(
                f"the ledger {self.name} is out of reach: {cause}",
                hint="the next transaction connects again; what was committed is kept",
                retryable=True,
            )
        hint = _HINTS.get(code, "the work done so far is kept; run again when the cause is gone")
        return LedgerError(f"the ledger {self.name} failed: {cause}", hint=hint, retryable=code in _AGAIN)

    def _cause(self, error: Exception) -> str:
        said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        text = " ".join(said.split())
        return text.replace(self._secret, "***") if self._secret else text

    def make(self, connection: Any) -> bool:
        """The migrations make the tables."""
        return False

    def engine(self) -> Engine:
        """Made from a connection of ours: no library but the driver learns the password."""
        from .migrations.postgres_engine import make_engine

        return make_engine(self._migrating, _ALONE.format(name="'schema'"))

    def _migrating(self) -> psycopg.Connection[Any]:
        raw = self.connect(again=False)
        raw.autocommit = False
        return raw


def _settings(place: str) -> dict[str, Any]:
    try:
        found = conninfo_to_dict(place)
    except psycopg.Error:
        found = {}
    # Unescaped characters in a password move pieces of it to where names are.
    names = [str(found.get(name) or "") for name in ("host", "hostaddr", "dbname", "user")]
    ports = str(found.get("port") or "").replace(",", "")
    if not found or any("@" in name for name in names[:3]) or not (ports.isdigit() or not ports):
        # Not even the parser's words: they quote the address.
        raise UsageError(
            "the address of the ledger is no URL of a PostgreSQL database",
            hint="postgresql://user:password@host:5432/database, with %40 for @, %2F for /, %3A for : in the password",
        )
    return {**_DEFAULTS, **found}


def _name(settings: dict[str, Any]) -> str:
    user = f"{settings['user']}@" if settings.get("user") else ""
    port = f":{settings['port']}" if settings.get("port") else ""
    return f"postgresql://{user}{settings.get('host') or ''}{port}/{settings.get('dbname') or ''}"
