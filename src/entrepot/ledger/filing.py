"""How a server files a task: whose it is, which API family it came by, where it stands in the queue."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from .database import Connection, Row

_COUNT = """INSERT INTO task_count (scope, family, type, state, tasks)
    VALUES (:scope, :family, :type, :state, :change)
    ON CONFLICT (scope, family, type, state) DO UPDATE SET tasks = task_count.tasks + excluded.tasks"""


@dataclass(slots=True, frozen=True)
class Filing:
    """The server's view of a task. A run of the command line has none (``family`` "").

    ``scope`` is a slash path (of an API family's resource, or of a space); ``type`` the family's own word for
    the kind; ``request`` what the family must echo, as JSON without secrets; ``source_connection`` and
    ``destination_connection`` are ids of stored connections; higher ``priority`` goes first; ``not_before`` is
    Unix time; ``parent`` is the task that this one is a leg of.
    """

    name: str = ""
    scope: str = ""
    family: str = ""
    type: str = ""
    creator: str = ""
    request: str = ""
    source_connection: str = ""
    destination_connection: str = ""
    priority: int = 0
    not_before: float | None = None
    schedule_id: str = ""
    parent: str = ""

    def as_columns(self) -> dict[str, Any]:
        """Column values."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Filing))
UNFILED = Filing()


def filing_of(row: Row) -> Filing:
    """The filing in a task row."""
    return Filing(**{name: getattr(row, name) for name in COLUMNS})


def count(connection: Connection, filing: Filing, state: str, change: int) -> None:
    """Keep the number of tasks by scope, family, type and state: lists at scale never count rows.

    Legs of a task and runs of the command line are not listed, so they are not counted.
    """
    if not filing.family or filing.parent:
        return
    about = {"scope": filing.scope, "family": filing.family, "type": filing.type, "state": str(state)}
    connection.change(_COUNT, {**about, "change": change})
