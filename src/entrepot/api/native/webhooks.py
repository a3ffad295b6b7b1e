"""/api/v1/webhooks: who is told of the end of tasks, and what became of each message."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import (
    Answer,
    Id,
    PageSize,
    PageToken,
    Scope,
    Short,
    Wanted,
    answer,
    encode,
    moment,
    only_known,
)
from entrepot.control import webhooks
from entrepot.control.webhooks import Changes, NewWebhook, Shown
from entrepot.ledger.deliveries import Delivery as Row
from entrepot.model.secret import Secret

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"], dependencies=[Depends(only_known)])

State = Literal["SUCCEEDED", "FAILED", "CANCELLED", "REJECTED"]
Progress = Literal["pending", "delivered", "dead"]
States = Annotated[list[State], Field(max_length=16, description="ends that are told; empty: all")]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=r"^[^\x00-\x20\x7f]*$")]
SecretText = Annotated[
    str,
    StringConstraints(max_length=256, pattern=r"^[\x20-\x7e]*$"),
    Field(description="signs the messages; 16 to 256 characters; empty: one is made and shown this once"),
]
DeliveryId = Annotated[int, Path(ge=1, le=2**62, description="the number of a delivery")]


class WebhookWanted(Wanted):
    """A receiver to be told."""

    name: Short
    url: Url
    scope: Scope | None = None
    states: States = []
    enabled: bool = True
    secret: SecretText = ""


class WebhookChange(Wanted):
    """What to change; what is left out stays. An empty secret: a new one is made and shown this once."""

    name: Short | None = None
    url: Url | None = None
    states: States | None = None
    enabled: bool | None = None
    secret: SecretText | None = None


class Webhook(Answer):
    """A receiver. ``secret`` is empty, but for the one answer after it was made."""

    id: str
    name: str
    scope: str
    url: str
    states: list[State]
    enabled: bool
    secret: str
    creator: str
    created: str


class Webhooks(Answer):
    """One page of them, oldest first."""

    webhooks: list[Webhook]
    next_page_token: str


class Delivery(Answer):
    """A message. ``status`` is the HTTP status of the last answer, 0 without one; ``dead``: it was given up."""

    id: int
    event: str
    task_id: str
    state: Progress
    attempts: int
    status: int
    last_error: str
    created: str
    last_try: str | None
    next_try: str | None


class Deliveries(Answer):
    """One page of them, youngest first."""

    deliveries: list[Delivery]
    next_page_token: str


@router.post("", response_model=Webhook, status_code=201)
def create(ask: Ask, wanted: WebhookWanted, idempotency_key: idempotency.Key = "") -> Response:
    """Make a webhook for the ends of tasks in a scope and below it."""
    new = NewWebhook(
        name=wanted.name,
        url=wanted.url,
        scope=wanted.scope,
        states=tuple(wanted.states),
        enabled=wanted.enabled,
        secret=Secret(wanted.secret),
    )
    return idempotency.created(
        ask, idempotency_key, lambda once: webhooks.create(ask.control, ask.who, new, once), _encoded, secret=True
    )


@router.get("", response_model=Webhooks)
def listing(ask: Ask, page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Webhooks, oldest first."""
    after = paging.mark(page_token, (str,))
    rows = webhooks.listing(ask.control, ask.who, after=after[0] if after else "", limit=page_size + 1)
    page, more = rows[:page_size], len(rows) > page_size
    following = paging.token((page[-1].id,) if more else None)
    return answer({"webhooks": [_shown(Shown(row)) for row in page], "next_page_token": following})


@router.get("/{webhook_id}", response_model=Webhook)
def read(ask: Ask, webhook_id: Id) -> Response:
    """One webhook, without its secret."""
    return answer(_shown(Shown(webhooks.read(ask.control, ask.who, webhook_id))))


@router.patch("/{webhook_id}", response_model=Webhook)
def change(ask: Ask, webhook_id: Id, wanted: WebhookChange) -> Response:
    """Change a webhook. While it is not enabled, messages wait."""
    changes = Changes(
        name=wanted.name,
        url=wanted.url,
        states=None if wanted.states is None else tuple(wanted.states),
        enabled=wanted.enabled,
        secret=None if wanted.secret is None else Secret(wanted.secret),
    )
    return answer(_shown(webhooks.change(ask.control, ask.who, webhook_id, changes)))


@router.delete("/{webhook_id}", status_code=204, response_class=Response)
def remove(ask: Ask, webhook_id: Id) -> Response:
    """Forget a webhook, and what was still to be told to it."""
    webhooks.remove(ask.control, ask.who, webhook_id)
    return Response(status_code=204)


@router.post("/{webhook_id}:test", response_model=Delivery)
def test(ask: Ask, webhook_id: Id) -> Response:
    """Send a message of the type ``webhook.test``. Its delivery says what became of it."""
    return answer(_delivery(webhooks.test(ask.control, ask.who, webhook_id)))


@router.get("/{webhook_id}/deliveries", response_model=Deliveries)
def deliveries(
    ask: Ask,
    webhook_id: Id,
    state: Annotated[list[Progress] | None, Query(max_length=16)] = None,
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> Response:
    """What was sent and is to be sent, youngest first."""
    states = sorted(set(state or ()))
    before = paging.mark(page_token, (int,), [webhook_id, *states])
    rows = webhooks.delivered(
        ask.control, ask.who, webhook_id, states, before=before[0] if before else 0, limit=page_size + 1
    )
    page, more = rows[:page_size], len(rows) > page_size
    following = paging.token((page[-1].id,) if more else None, [webhook_id, *states])
    return answer({"deliveries": [_delivery(row) for row in page], "next_page_token": following})


@router.post("/{webhook_id}/deliveries/{delivery_id}:redeliver", response_model=Delivery)
def redeliver(ask: Ask, webhook_id: Id, delivery_id: DeliveryId) -> Response:
    """Send a message again, with the same event id."""
    return answer(_delivery(webhooks.redeliver(ask.control, ask.who, webhook_id, delivery_id)))


def _encoded(shown: Shown) -> bytes:
    return encode(_shown(shown))


def _shown(shown: Shown) -> dict[str, Any]:
    row = shown.webhook
    return {
        "id": row.id, "name": row.name, "scope": row.scope, "url": row.url, "states": list(row.states),
        "enabled": row.enabled, "secret": shown.secret.reveal(), "creator": row.creator, "created": moment(row.created),
    }  # fmt: skip


def _delivery(row: Row) -> dict[str, Any]:
    return {
        "id": row.id, "event": row.event, "task_id": row.task_id, "state": row.state, "attempts": row.attempts,
        "status": row.status, "last_error": row.last_error, "created": moment(row.created),
        "last_try": moment(row.last_try), "next_try": moment(row.next_try),
    }  # fmt: skip
