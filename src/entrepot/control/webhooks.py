"""Webhooks: who is told of the end of tasks, and what became of each message."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from entrepot.ledger import deliveries, hooks
from entrepot.ledger.database import Connection
from entrepot.ledger.deliveries import Delivery
from entrepot.ledger.hooks import Webhook
from entrepot.ledger.ids import new_id
from entrepot.model.errors import Conflict, NoSuch, RequestError, UsageError
from entrepot.model.secret import Secret
from entrepot.model.task import END_STATES
from entrepot.security.egress import EgressRefused
from entrepot.security.identity import Action, Principal, allows, visible_scopes

from .auditing import change as changing
from .context import Control
from .once import NEVER, Once
from .scoping import scope_of

STATES: Final = tuple(sorted(END_STATES))
SECRET_PREFIX: Final = "whsec_"  # noqa: S105
SECRET_MIN: Final = 16
SECRET_MAX: Final = 256
URL_MAX: Final = 2048
MOST: Final = 1000
"""Webhooks on one server: each is looked at whenever a task ends."""

_PATH = re.compile(r"[!-~]*", re.ASCII)


@dataclass(slots=True, frozen=True)
class NewWebhook:
    """What is wanted. Without ``secret`` one is made."""

    name: str
    url: str
    scope: str | None = None
    states: tuple[str, ...] = ()
    enabled: bool = True
    secret: Secret = Secret("")  # noqa: RUF009


@dataclass(slots=True, frozen=True)
class Changes:
    """What is to be different; None: as it is. An empty ``secret`` makes a new one."""

    name: str | None = None
    url: str | None = None
    states: tuple[str, ...] | None = None
    enabled: bool | None = None
    secret: Secret | None = None


@dataclass(slots=True, frozen=True)
class Shown:
    """A webhook as it is answered. ``secret`` is only there when it was made just now: it is shown once."""

    webhook: Webhook
    secret: Secret = Secret("")  # noqa: RUF009


def create(control: Control, who: Principal, new: NewWebhook, once: Once = NEVER) -> Shown:
    """Make a webhook. Raises RequestError, Conflict, NotAllowed."""
    _check_name(new.name)
    scope = scope_of(who, Action.WEBHOOK_WRITE, new.scope)
    url = _url(control, new.url)
    states = _states(new.states)
    secret, made = _secret(new.secret)
    webhook_id = new_id()
    sealed = control.keyring.seal(secret, hooks.place(webhook_id), os.urandom)
    row = Webhook(webhook_id, new.name, scope, url, sealed, states, new.enabled, who.name, control.wall())
    with changing(control, who, Action.WEBHOOK_WRITE, f"webhook {new.name}", scope) as c:
        once.begin(c, who)
        c.alone("webhook")
        _check_free(c, scope, new.name)
        if int(c.value("SELECT count(*) FROM webhook")) >= MOST:
            raise UsageError(f"there are {MOST} webhooks already", hint="remove one that is no longer needed")
        hooks.add(c, row)
        shown = Shown(row, secret if made else Secret(""))
        once.keep(c, who, shown)
    return shown


def read(control: Control, who: Principal, webhook_id: str) -> Webhook:
    """One webhook. Raises NoSuch, also where it must not be known."""
    with control.pool.read() as c:
        return _seen(c, who, webhook_id)


def listing(control: Control, who: Principal, *, after: str = "", limit: int = 100) -> list[Webhook]:
    """The webhooks that one may see, oldest first."""
    with control.pool.read() as c:
        return hooks.listing(c, visible_scopes(who, Action.WEBHOOK_READ), after=after, limit=limit)


def change(control: Control, who: Principal, webhook_id: str, wanted: Changes) -> Shown:
    """Change a webhook. Raises RequestError, Conflict, NotAllowed, NoSuch."""
    if wanted.name is not None:
        _check_name(wanted.name)
    url = _url(control, wanted.url) if wanted.url is not None else None
    states = _states(wanted.states) if wanted.states is not None else None
    secret, made = _secret(wanted.secret) if wanted.secret is not None else (Secret(""), False)
    old = read(control, who, webhook_id)
    with changing(control, who, Action.WEBHOOK_WRITE, f"webhook {old.name}", old.scope) as c:
        c.alone("webhook")
        old = _there(c, webhook_id)
        if wanted.name is not None and wanted.name != old.name:
            _check_free(c, old.scope, wanted.name)
        new = replace(
            old,
            name=old.name if wanted.name is None else wanted.name,
            url=old.url if url is None else url,
            states=old.states if states is None else states,
            enabled=old.enabled if wanted.enabled is None else wanted.enabled,
        )
        if wanted.secret is not None:
            new = replace(new, secret=control.keyring.seal(secret, hooks.place(webhook_id), os.urandom))
        hooks.change(c, new)
    return Shown(new, secret if made else Secret(""))


def remove(control: Control, who: Principal, webhook_id: str) -> None:
    """Forget a webhook and what was still to be told to it."""
    old = read(control, who, webhook_id)
    with changing(control, who, Action.WEBHOOK_WRITE, f"webhook {old.name}", old.scope) as c:
        _there(c, webhook_id)
        hooks.remove(c, webhook_id)


def test(control: Control, who: Principal, webhook_id: str) -> Delivery:
    """Send a message that tells of nothing, to see whether it arrives."""
    old = read(control, who, webhook_id)
    with changing(control, who, Action.WEBHOOK_WRITE, f"webhook {old.name}", old.scope) as c:
        made = deliveries.probe(c, _there(c, webhook_id).id)
    control.wake()
    return made


def delivered(
    control: Control, who: Principal, webhook_id: str, states: Sequence[str] = (), *, before: int = 0, limit: int = 100
) -> list[Delivery]:
    """What was sent to a webhook, youngest first."""
    with control.pool.read() as c:
        _seen(c, who, webhook_id)
        return deliveries.listing(c, webhook_id, states, before=before, limit=limit)


def redeliver(control: Control, who: Principal, webhook_id: str, delivery_id: int) -> Delivery:
    """Bring a message once more, with the same event id, from the first try."""
    old = read(control, who, webhook_id)
    with changing(control, who, Action.WEBHOOK_WRITE, f"webhook {old.name}", old.scope) as c:
        _there(c, webhook_id)
        if deliveries.read(c, webhook_id, delivery_id) is None:
            raise NoSuch(f"the webhook {old.name} has no delivery {delivery_id}", hint="they are kept for some days")
        deliveries.again(c, delivery_id)
        found = deliveries.read(c, webhook_id, delivery_id)
    control.wake()
    assert found is not None
    return found


def _seen(c: Connection, who: Principal, webhook_id: str) -> Webhook:
    found = hooks.read(c, webhook_id)
    if found is None or not allows(who, Action.WEBHOOK_READ, found.scope):
        raise NoSuch(f"there is no webhook {webhook_id}")
    return found


def _there(c: Connection, webhook_id: str) -> Webhook:
    found = hooks.read(c, webhook_id, to_change=True)
    if found is None:
        raise NoSuch(f"there is no webhook {webhook_id}")
    return found


def _check_free(c: Connection, scope: str, name: str) -> None:
    if hooks.named(c, scope, name) is not None:
        raise Conflict(f"there is a webhook {name!r} already", hint="choose another name, or change that one")


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > 128 or not name.isprintable():
        raise RequestError("name", "1 to 128 printable characters")


def _states(states: tuple[str, ...]) -> tuple[str, ...]:
    for number, state in enumerate(states):
        if state not in STATES:
            raise RequestError(f"states.{number}", "no end of a task", hint="one of: " + ", ".join(STATES))
    return tuple(sorted(set(states)))


def _secret(given: Secret) -> tuple[Secret, bool]:
    """(the secret, whether it was made here)."""
    text = given.reveal()
    if not text:
        return Secret(SECRET_PREFIX + os.urandom(24).hex()), True
    if not SECRET_MIN <= len(text) <= SECRET_MAX or not text.isascii() or not text.isprintable():
        raise RequestError(
            "secret", f"{SECRET_MIN} to {SECRET_MAX} printable ASCII characters, or none to have one made"
        )
    return given, False


def _url(control: Control, text: str) -> str:
    """The one reading of a URL that may be sent to: its host in normal form. Raises RequestError."""
    if len(text) > URL_MAX:
        raise RequestError("url", f"longer than {URL_MAX} characters")
    try:
        scheme, host, port = control.egress.check_url(text)
    except EgressRefused as refusal:
        raise RequestError("url", refusal.message, hint=refusal.hint) from None
    parts = urlsplit(text)
    if parts.fragment or not _PATH.fullmatch(parts.path + parts.query):
        raise RequestError("url", "its path holds characters that must be percent-encoded")
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[scheme]
    place = shown if port == usual else f"{shown}:{port}"
    return f"{scheme}://{place}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
