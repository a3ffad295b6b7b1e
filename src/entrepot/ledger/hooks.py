"""Webhooks: who wants to be told of the end of tasks, and the rows that say what is to be told.

A delivery is written in the transaction that ends its task: no end goes untold, and nothing is told that was taken
back. ``deliveries`` has the queue that it stands in from then on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from entrepot.model.task import TaskState

from .database import Connection, Row
from .ids import new_id
from .scopes import HOLDING, within

_WANTING = f"SELECT id, states FROM webhook WHERE enabled = 1 AND {HOLDING}"

_KINDS = ("total", "copied", "equal", "deleted", "skipped", "failed")

_DELIVER = """INSERT INTO delivery (webhook_id, task_id, body, state, next_try, created, event)
    VALUES (:webhook, :task, :body, 'pending', now(), now(), :event)"""

_COLUMNS = "id, name, scope, url, secret, states, enabled, creator, created"
_INSERT = f"""INSERT INTO webhook ({_COLUMNS})
    VALUES (:id, :name, :scope, :url, :secret, :states, :enabled, :creator, :created)"""
_CHANGE = """UPDATE webhook SET name = :name, url = :url, secret = :secret, states = :states, enabled = :enabled
    WHERE id = :id"""


@dataclass(slots=True, frozen=True)
class Webhook:
    """A receiver. It is told of tasks at and below ``scope`` that end in one of ``states`` (empty: in any).

    ``secret`` is sealed for :func:`place`.
    """

    id: str
    name: str
    scope: str
    url: str
    secret: str
    states: tuple[str, ...]
    enabled: bool
    creator: str
    created: float


def place(webhook_id: str) -> str:
    """What the secret of a webhook is sealed for."""
    return f"webhook/{webhook_id}/secret"


def on_end(connection: Connection, task: Row) -> None:
    """Write a delivery for everyone who wants to know of the end of this task row."""
    hooks = connection.execute(_WANTING, {"scope": task.scope})
    wanted = [hook.id for hook in hooks if not hook.states or task.state in hook.states.split(",")]
    if not wanted:
        return
    event = new_id()
    body = json.dumps(news(task, event), separators=(",", ":"), ensure_ascii=False)
    for webhook in wanted:
        connection.change(_DELIVER, {"webhook": webhook, "task": task.id, "body": body, "event": event})


def news(task: Row, event: str) -> dict[str, Any]:
    """The body that is sent: what happened, and the task as it ended. The ledger's rows of tasks hold no secret."""
    return {
        "event": event,
        "type": f"task.{TaskState(task.state).lower()}",
        "at": _moment(task.finished),
        "task": {
            "id": task.id,
            "name": task.name,
            "kind": task.kind,
            "scope": task.scope,
            "family": task.family,
            "type": task.type,
            "state": task.state,
            "reason": task.reason,
            "source": task.source,
            "destination": task.destination,
            "creator": task.creator,
            "schedule_id": task.schedule_id,
            "created": _moment(task.created),
            "started": _moment(task.started),
            "finished": _moment(task.finished),
            "percent": task.percent,
            "totals": {
                kind: {"entries": getattr(task, kind), "bytes": getattr(task, f"{kind}_bytes")} for kind in _KINDS
            },
            "retries": task.retries,
        },
    }


def _moment(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def add(connection: Connection, webhook: Webhook) -> None:
    """Insert a webhook; its name must be free in its scope."""
    connection.change(_INSERT, _values(webhook))


def change(connection: Connection, webhook: Webhook) -> None:
    """Write the row anew; scope, creator and creation stay."""
    connection.change(_CHANGE, _values(webhook))


def remove(connection: Connection, webhook_id: str) -> None:
    """Forget a webhook and what was still to be told to it."""
    connection.change("DELETE FROM delivery WHERE webhook_id = :id", {"id": webhook_id})
    connection.change("DELETE FROM webhook WHERE id = :id", {"id": webhook_id})


def read(connection: Connection, webhook_id: str, *, to_change: bool = False) -> Webhook | None:
    """One webhook."""
    lock = " FOR UPDATE" if to_change else ""
    row = connection.first(f"SELECT {_COLUMNS} FROM webhook WHERE id = :id{lock}", {"id": webhook_id})
    return _webhook(row) if row is not None else None


def named(connection: Connection, scope: str, name: str) -> Webhook | None:
    """The webhook of a name in exactly this scope."""
    sql = f"SELECT {_COLUMNS} FROM webhook WHERE scope = :scope AND name = :name"
    row = connection.first(sql, {"scope": scope, "name": name})
    return _webhook(row) if row is not None else None


def listing(connection: Connection, scopes: Sequence[str], *, after: str = "", limit: int = 100) -> list[Webhook]:
    """Webhooks at and below ``scopes``, oldest first; ``after`` is the last id of the former page."""
    condition, values = within("scope", scopes)
    sql = f"SELECT {_COLUMNS} FROM webhook WHERE id > :after AND {condition} ORDER BY id LIMIT :limit"
    return [_webhook(row) for row in connection.execute(sql, {"after": after, "limit": limit, **values})]


def _values(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "name": webhook.name,
        "scope": webhook.scope,
        "url": webhook.url,
        "secret": webhook.secret,
        "states": ",".join(webhook.states),
        "enabled": int(webhook.enabled),
        "creator": webhook.creator,
        "created": webhook.created,
    }


def _webhook(row: Row) -> Webhook:
    return Webhook(
        id=row.id,
        name=row.name,
        scope=row.scope,
        url=row.url,
        secret=row.secret,
        states=tuple(row.states.split(",")) if row.states else (),
        enabled=bool(row.enabled),
        creator=row.creator,
        created=row.created,
    )
