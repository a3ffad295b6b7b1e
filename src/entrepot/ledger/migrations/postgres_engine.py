"""How the migrations see PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler


class _Types(PGTypeCompiler):
    """Text as SQLite has it: of any length, and in the order of its bytes.

    That order is also the one that no update of the operating system changes under an index.
    """

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        return 'TEXT COLLATE "C"'

    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        return 'TEXT COLLATE "C"'


def make_engine(connect: Callable[[], Any], lock: str) -> Engine:
    """Every transaction begins with the statement ``lock``."""
    # What waited for the lock must see what its holder did.
    engine = create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=NullPool, isolation_level="READ COMMITTED"
    )
    engine.dialect.type_compiler_instance = _Types(engine.dialect)

    def begin(connection: Any) -> None:
        connection.exec_driver_sql(lock)

    event.listen(engine, "begin", begin)
    return engine
