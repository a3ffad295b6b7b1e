"""The queue of deliveries to webhooks: claimed for a while, then delivered, tried again later, or dead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .database import Connection, Row
from .events import clean
from .ids import new_id

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
DEAD: Final = "dead"
STATES: Final = (PENDING, DELIVERED, DEAD)

LEASE: Final = 60.0
"""Seconds after which the delivery of a courier that died is taken up again: more than one try can last."""

_DUE = """SELECT delivery.webhook_id AS webhook_id, min(delivery.id) AS id FROM delivery
    JOIN webhook ON webhook.id = delivery.webhook_id
    WHERE delivery.state = 'pending' AND delivery.next_try <= now() AND webhook.enabled = 1
    GROUP BY delivery.webhook_id ORDER BY min(delivery.next_try) LIMIT :limit"""

_CLAIM = """UPDATE delivery SET attempts = attempts + 1, next_try = now() + :lease, last_try = now()
    WHERE id = :id AND state = 'pending' AND next_try <= now()"""

_CLAIMED = """SELECT delivery.id AS id, delivery.webhook_id AS webhook_id, delivery.event AS event,
    delivery.body AS body, delivery.attempts AS attempts, delivery.created AS created, now() AS clock,
    webhook.url AS url, webhook.secret AS secret
    FROM delivery JOIN webhook ON webhook.id = delivery.webhook_id WHERE delivery.id = :id"""

_NEXT = """SELECT min(delivery.next_try) - now() FROM delivery JOIN webhook ON webhook.id = delivery.webhook_id
    WHERE delivery.state = 'pending' AND webhook.enabled = 1"""

_SETTLE = """UPDATE delivery SET state = :state, status = :status, last_error = :error,
    next_try = CASE WHEN :state = 'pending' THEN now() + :delay END
    WHERE id = :id AND state = 'pending' AND attempts = :attempt"""

_AGAIN = """UPDATE delivery SET state = 'pending', attempts = 0, status = 0, last_error = '', next_try = now()
    WHERE id = :id"""

_PROBE = """INSERT INTO delivery (webhook_id, task_id, body, state, next_try, created, event)
    VALUES (:webhook, '', :body, 'pending', now(), now(), :event)"""

_COLUMNS = "id, webhook_id, task_id, event, state, attempts, next_try, last_try, status, last_error, created"

_OLD = """DELETE FROM delivery WHERE id IN (
    SELECT id FROM delivery WHERE created < now() - :age ORDER BY id LIMIT 1000)"""


@dataclass(slots=True, frozen=True)
class Parcel:
    """A delivery that was claimed: everything that is needed to bring it. ``clock`` is the database's time."""

    id: int
    webhook_id: str
    event: str
    body: str
    attempt: int
    url: str
    secret: str
    clock: float


@dataclass(slots=True, frozen=True)
class Delivery:
    """A delivery as its owner sees it; ``status`` is the HTTP status of the last answer, 0 without one."""

    id: int
    webhook_id: str
    task_id: str
    event: str
    state: str
    attempts: int
    next_try: float | None
    last_try: float | None
    status: int
    last_error: str
    created: float


def due(connection: Connection, limit: int = 100) -> list[tuple[str, int]]:
    """(webhook, delivery) that are due: the oldest of each webhook, so that none stands in another's way."""
    return [(row.webhook_id, row.id) for row in connection.execute(_DUE, {"limit": limit})]


def claim(connection: Connection, delivery_id: int, lease: float = LEASE) -> Parcel | None:
    """Take a due delivery for ``lease`` seconds; None when somebody else has it."""
    if not connection.change(_CLAIM, {"id": delivery_id, "lease": lease}):
        return None
    row = connection.first(_CLAIMED, {"id": delivery_id})
    if row is None:
        return None
    return Parcel(row.id, row.webhook_id, row.event, row.body, row.attempts, row.url, row.secret, row.clock)


def settle(
    connection: Connection, parcel: Parcel, state: str, *, status: int = 0, error: str = "", delay: float = 0.0
) -> bool:
    """Say how a claimed delivery went. False when it was taken up by another one meanwhile."""
    values = {"id": parcel.id, "attempt": parcel.attempt, "state": state, "status": status, "delay": delay}
    return connection.change(_SETTLE, {**values, "error": clean(error, 500)}) > 0


def wait(connection: Connection) -> float | None:
    """Seconds until a delivery is due (below 0: one is); None: nothing is to be brought."""
    found = connection.value(_NEXT)
    return None if found is None else float(found)


def again(connection: Connection, delivery_id: int) -> None:
    """Bring a delivery once more from the first try, with the same event id."""
    connection.change(_AGAIN, {"id": delivery_id})


def probe(connection: Connection, webhook_id: str) -> Delivery:
    """Queue a message that tells of nothing: whoever set up a receiver sees whether it arrives."""
    event = new_id()
    body = json.dumps({"event": event, "type": "webhook.test", "webhook_id": webhook_id}, separators=(",", ":"))
    connection.change(_PROBE, {"webhook": webhook_id, "body": body, "event": event})
    made = connection.first(f"SELECT {_COLUMNS} FROM delivery WHERE event = :event AND task_id = ''", {"event": event})
    assert made is not None
    return _delivery(made)


def read(connection: Connection, webhook_id: str, delivery_id: int) -> Delivery | None:
    """One delivery of a webhook."""
    sql = f"SELECT {_COLUMNS} FROM delivery WHERE id = :id AND webhook_id = :webhook"
    row = connection.first(sql, {"id": delivery_id, "webhook": webhook_id})
    return _delivery(row) if row is not None else None


def listing(
    connection: Connection, webhook_id: str, states: Sequence[str] = (), *, before: int = 0, limit: int = 100
) -> list[Delivery]:
    """Deliveries of a webhook, youngest first; ``before`` is the last id of the former page."""
    sql = f"SELECT {_COLUMNS} FROM delivery WHERE webhook_id = :webhook"
    values: dict[str, object] = {"webhook": webhook_id, "before": before, "limit": limit}
    if states:
        names = {f"state_{number}": state for number, state in enumerate(states)}
        sql += f" AND state IN ({', '.join(':' + name for name in names)})"
        values.update(names)
    if before:
        sql += " AND id < :before"
    return [_delivery(row) for row in connection.execute(f"{sql} ORDER BY id DESC LIMIT :limit", values)]


def prune(connection: Connection, older_than: float) -> int:
    """Forget deliveries made more than ``older_than`` seconds ago, a thousand at a time; how many."""
    return connection.change(_OLD, {"age": older_than})


def _delivery(row: Row) -> Delivery:
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        task_id=row.task_id,
        event=row.event,
        state=row.state,
        attempts=row.attempts,
        next_try=row.next_try,
        last_try=row.last_try,
        status=row.status,
        last_error=row.last_error,
        created=row.created,
    )
