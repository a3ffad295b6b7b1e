"""One connection to the ledger's database: statements of plain SQL, and the begin and end of transactions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from .dialect import Database, LedgerError

Row = SimpleNamespace
"""A row of an answer: its columns are attributes."""

_NOTHING: Mapping[str, Any] = {}


class Connection:
    """Statements inside one transaction. How to write them is said in ``dialect``.

    ``kind`` says which database it is ("sqlite", "postgresql").
    """

    def __init__(self, raw: Any, database: Database) -> None:
        self.kind = database.kind
        self._raw = raw
        self._render = database.render
        self._alone = database.alone

    def execute(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> list[Row]:
        """Run one statement; all rows that it answers."""
        cursor = self._raw.execute(self._render(sql), params)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [Row(**dict(zip(names, values, strict=True))) for values in cursor]

    def first(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> Row | None:
        """The first row, if any."""
        rows = self.execute(sql, params)
        return rows[0] if rows else None

    def value(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> Any:
        """The first column of the first row; None without rows."""
        found = self._raw.execute(self._render(sql), params).fetchone()
        return found[0] if found else None

    def column(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> list[Any]:
        """The first column of all rows: for many of them."""
        return [values[0] for values in self._raw.execute(self._render(sql), params)]

    def change(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> int:
        """Run a statement that changes rows; how many it changed."""
        count: int = self._raw.execute(self._render(sql), params).rowcount
        return count

    def executemany(self, sql: str, params: Iterable[Mapping[str, Any]]) -> None:
        """Run one statement that changes rows for each set of parameters."""
        self._raw.cursor().executemany(self._render(sql), params)

    def alone(self, name: str) -> None:
        """From here to its end this transaction runs without any other that says the same name.

        For decisions on what is not there, which no row can be locked for ("no such task yet: create it").
        """
        if self._alone:
            self._raw.execute(self._render(self._alone), {"name": name})


class Session:
    """One connection that is made when it is needed, and made anew when it was lost."""

    __slots__ = ("_connection", "_database", "_raw")

    def __init__(self, database: Database, raw: Any = None) -> None:
        self._database = database
        self._raw = raw
        self._connection = Connection(raw, database)

    def begin(self, statement: str) -> Connection:
        """Start a transaction. Raises LedgerError."""
        database = self._database
        try:
            if self._raw is not None:
                try:
                    self._raw.execute(statement)
                    return self._connection
                except database.failures as error:
                    if not database.lost(self._raw, error):
                        raise
                    # Lost since the last transaction: nothing is lost with it.
                    self.close()
            self._raw = database.connect(again=True)
            self._connection = Connection(self._raw, database)
            self._raw.execute(statement)
        except database.failures as error:
            raise database.explain(error) from error
        return self._connection

    def commit(self) -> None:
        """End the transaction: all of it is durable. Raises LedgerError, and nothing is kept then."""
        database = self._database
        try:
            database.commit(self._raw)
        except database.failures as error:
            explained = database.explain(error)
            if database.lost(self._raw, error):
                self.close()
                raise LedgerError(
                    f"{explained}, in the middle of a commit",
                    hint="nobody knows whether the change was kept: look before it is made again",
                ) from error
            self.rollback()
            raise explained from error

    def rollback(self) -> None:
        """End the transaction: nothing of it is kept."""
        database = self._database
        try:
            if database.open_transaction(self._raw):
                self._raw.execute("ROLLBACK")
        except database.failures:
            self.close()

    def explained(self, error: BaseException) -> BaseException:
        """What a failure inside a transaction is for the caller."""
        return self._database.explain(error) if isinstance(error, self._database.failures) else error

    def close(self) -> None:
        """Hang up; the next transaction connects again."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()
