"""``entrepot --server URL webhook``: who is told of the end of tasks."""

from __future__ import annotations

from itertools import islice
from typing import Any, get_args

import click

from entrepot.cli.connection import read_secret
from entrepot.cli.exits import OK, SOME_FAILED
from entrepot.cli.groups import Verbs
from entrepot.cli.terminal import complain, out, out_json, say
from entrepot.sdk.client import Client
from entrepot.sdk.reading import plain
from entrepot.sdk.requests.webhooks import End
from entrepot.sdk.values import Delivery, Webhook

from .asking import client
from .finding import by_name_or_id
from .showing import JSON, SCOPE, as_lines, facts, table, when

_WHICH = click.argument("which", metavar="NAME")


@click.group("webhook", cls=Verbs)
def command() -> None:
    """Have a receiver told of the end of tasks.

    A webhook is named by its NAME or its id.
    """


@command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--state", "states", multiple=True, type=click.Choice(get_args(End), case_sensitive=False),
              help="Tell of this end only; else of all. May be repeated.")  # fmt: skip
@click.option("--secret-file", metavar="FILE", help="Read the secret that signs the messages from FILE.")
@click.option("--secret-env", metavar="VARIABLE", help="Read it from an environment variable.")
@SCOPE
@JSON
def add(
    name: str,
    url: str,
    states: tuple[Any, ...],
    secret_file: str | None,
    secret_env: str | None,
    scope: str | None,
    as_json: bool,
) -> int:
    """Tell URL of the ends of tasks. Without a secret the server makes one, and it is printed this once."""
    secret = read_secret("secret", secret_file, secret_env)
    with client() as server:
        made = server.webhooks.create(name, url, states=states, scope=scope, secret=secret)
    if as_json:
        out_json({**plain(made), "secret": made.secret.reveal()})
        return OK
    if made.secret:
        out(made.secret.reveal())
    shown = "; the secret that signs its messages is not shown again" if made.secret else ""
    say(f"webhook {name} stored ({made.id}){shown}")
    return OK


@command.command("list")
@JSON
def list_(as_json: bool) -> int:
    """List the webhooks, oldest first."""
    with client() as server:
        found = server.webhooks.list()
        if as_json:
            as_lines(found)
            return OK
        rows = ((one.name, _state(one), ",".join(one.states) or "all", one.scope, one.url) for one in found)
        table(("NAME", "STATE", "TELLS OF", "SCOPE", "URL"), rows, empty="no webhooks yet")
    return OK


def _state(one: Webhook) -> str:
    return "on" if one.enabled else "paused"


@command.command("show")
@_WHICH
@JSON
def show(which: str, as_json: bool) -> int:
    """Show a webhook, without its secret."""
    with client() as server:
        one = _find(server, which)
    if as_json:
        out_json(plain(one))
        return OK
    facts([("name", one.name), ("id", one.id), ("state", _state(one)), ("url", one.url), ("scope", one.scope),
           ("tells of", ", ".join(one.states) or "all ends"), ("creator", one.creator),
           ("created", one.created)])  # fmt: skip
    return OK


@command.command("pause")
@_WHICH
def pause(which: str) -> int:
    """Let messages wait."""
    with client() as server:
        server.webhooks.update(_find(server, which).id, enabled=False)
    say(f"webhook {which} is paused: messages wait")
    return OK


@command.command("resume")
@_WHICH
def resume(which: str) -> int:
    """Send what waits, and go on."""
    with client() as server:
        server.webhooks.update(_find(server, which).id, enabled=True)
    say(f"webhook {which} is on")
    return OK


@command.command("test")
@_WHICH
@JSON
def test(which: str, as_json: bool) -> int:
    """Send a message of the type webhook.test. What became of it: webhook deliveries NAME."""
    with client() as server:
        sent = server.webhooks.test(_find(server, which).id)
    return _tell(sent, as_json)


def _tell(sent: Delivery, as_json: bool) -> int:
    if as_json:
        out_json(plain(sent))
    elif sent.state == "delivered":
        say(f"delivered: the receiver answered {sent.status}")
    elif sent.state == "pending":
        say(f"message {sent.id} is on its way")
    else:
        complain(f"message {sent.id} was not delivered: {sent.last_error or sent.status}")
    return SOME_FAILED if sent.state == "dead" else OK


@command.command("deliveries")
@_WHICH
@click.option("--state", "states", multiple=True, type=click.Choice(["pending", "delivered", "dead"]),
              help="Only messages in this state. May be repeated.")  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(min=1), default=30, show_default=True, metavar="N",
              help="At most N.")  # fmt: skip
@JSON
def deliveries(which: str, states: tuple[Any, ...], limit: int, as_json: bool) -> int:
    """List messages, youngest first."""
    with client() as server:
        every = server.webhooks.deliveries(_find(server, which).id, state=states, page_size=min(limit, 1000))
        found = islice(every, limit)
        if as_json:
            as_lines(found)
            return OK
        rows = (
            (f"{one.id}", one.state, when(one.created), one.event, one.task_id, f"{one.attempts}",
             f"{one.status}" if one.status else "", one.last_error)
            for one in found
        )  # fmt: skip
        heads = ("ID", "STATE", "CREATED", "EVENT", "TASK", "TRIES", "ANSWER", "LAST ERROR")
        table(heads, rows, empty="no messages")
    return OK


@command.command("redeliver")
@_WHICH
@click.argument("delivery_id", type=click.IntRange(min=1))
@JSON
def redeliver(which: str, delivery_id: int, as_json: bool) -> int:
    """Send a message again."""
    with client() as server:
        return _tell(server.webhooks.redeliver(_find(server, which).id, delivery_id), as_json)


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...]) -> int:
    """Forget webhooks, and what was still to be told to them."""
    with client() as server:
        for which in names:
            server.webhooks.delete(_find(server, which).id)
            say(f"webhook {which} removed")
    return OK


def _find(server: Client, which: str) -> Webhook:
    return by_name_or_id("webhook", which, server.webhooks.get, server.webhooks.list())
