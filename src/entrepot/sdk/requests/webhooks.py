"""Webhooks: who is told of the end of tasks, and what became of each message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from entrepot.model.secret import Secret
from entrepot.sdk.call import Call, Pages, creating, given, nothing, pages
from entrepot.sdk.reading import reader
from entrepot.sdk.values import Delivery, Webhook

from .paths import path

End = Literal["SUCCEEDED", "FAILED", "CANCELLED", "REJECTED"]
_webhook = reader(Webhook)
_delivery = reader(Delivery)


def create(
    name: str,
    url: str,
    *,
    states: Sequence[End] = (),
    scope: str | None = None,
    enabled: bool = True,
    secret: str | Secret = "",
    idempotency_key: str = "",
) -> Call[Webhook]:
    """Tell ``url`` of the ends of tasks in a scope and below it. Without a secret one is made, and answered once."""
    body = given(
        name=name, url=url, states=list(states), scope=scope, enabled=enabled, secret=_text(secret)
    )  # fmt: skip
    return creating(path("webhooks"), body, _webhook, idempotency_key)


def list_(*, page_size: int = 0) -> Pages[Webhook]:
    """Webhooks, oldest first."""
    return pages(path("webhooks"), "webhooks", _webhook, {}, page_size)


def get(webhook_id: str) -> Call[Webhook]:
    """One webhook, without its secret."""
    return Call("GET", path("webhooks", webhook_id), _webhook)


def update(
    webhook_id: str,
    *,
    name: str | None = None,
    url: str | None = None,
    states: Sequence[End] | None = None,
    enabled: bool | None = None,
    secret: str | Secret | None = None,
) -> Call[Webhook]:
    """Change what is given; the rest stays. An empty secret: a new one is made, and answered once."""
    body = given(
        name=name, url=url, states=None if states is None else list(states), enabled=enabled, secret=_text(secret)
    )  # fmt: skip
    return Call("PATCH", path("webhooks", webhook_id), _webhook, body=body, again=secret is None)


def delete(webhook_id: str) -> Call[None]:
    """Forget a webhook, and what was still to be told to it."""
    return Call("DELETE", path("webhooks", webhook_id), nothing)


def test(webhook_id: str) -> Call[Delivery]:
    """Send a message of the type ``webhook.test``; its delivery says what became of it."""
    return Call("POST", path("webhooks", webhook_id, verb="test"), _delivery)


def deliveries(
    webhook_id: str, *, state: Sequence[Literal["pending", "delivered", "dead"]] = (), page_size: int = 0
) -> Pages[Delivery]:
    """What was sent and is to be sent, youngest first."""
    query = {"state": list(state)}
    return pages(path("webhooks", webhook_id, "deliveries"), "deliveries", _delivery, query, page_size)


def redeliver(webhook_id: str, delivery_id: int) -> Call[Delivery]:
    """Send a message again, with the same event id."""
    return Call("POST", path("webhooks", webhook_id, "deliveries", str(delivery_id), verb="redeliver"), _delivery)


def _text(secret: str | Secret | None) -> str | None:
    return secret.reveal() if isinstance(secret, Secret) else secret
