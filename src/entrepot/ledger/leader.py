"""Which of several servers on one ledger does what only one may do: a lease that its holder renews."""

from __future__ import annotations

from collections.abc import Callable

from .database import Connection

SECONDS = 10.0
"""How long a holder that is not heard of any more keeps the others waiting."""

_READ = "SELECT holder, until < now() AS over FROM leader WHERE name = :name FOR UPDATE"
_FIRST = """INSERT INTO leader (name, holder, until) VALUES (:name, :holder, now() + :seconds)
    ON CONFLICT (name) DO NOTHING"""
_TAKE = "UPDATE leader SET holder = :holder, until = now() + :seconds WHERE name = :name"
_HOLDS = "SELECT 1 FROM leader WHERE name = :name AND holder = :holder AND until > now() FOR UPDATE"
_LEAVE = "DELETE FROM leader WHERE name = :name AND holder = :holder"


def _unknown(_holder: str) -> bool:
    return False


def lead(
    connection: Connection,
    name: str,
    holder: str,
    seconds: float = SECONDS,
    dead: Callable[[str], bool] = _unknown,
) -> bool:
    """Take or renew the lease; False while another one has it. ``dead`` knows of holders that are gone for sure."""
    given = {"name": name, "holder": holder, "seconds": seconds}
    row = connection.first(_READ, {"name": name})
    if row is None:
        return connection.change(_FIRST, given) == 1
    if row.holder != holder and not row.over and not dead(row.holder):
        return False
    connection.change(_TAKE, given)
    return True


def holds(connection: Connection, name: str, holder: str) -> bool:
    """Whether the lease is still held, to the end of this transaction."""
    return connection.value(_HOLDS, {"name": name, "holder": holder}) is not None


def leave(connection: Connection, name: str, holder: str) -> None:
    """Give the lease up."""
    connection.change(_LEAVE, {"name": name, "holder": holder})
