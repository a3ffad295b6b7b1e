"""``entrepot --server URL token`` and ``access-key``: made, shown once, revoked."""

from __future__ import annotations

import os

import click

from entrepot.cli.exits import OK
from entrepot.cli.groups import Verbs
from entrepot.cli.terminal import out, out_json, say
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret
from entrepot.sdk.reading import plain

from .asking import client
from .showing import JSON, as_lines, grant_of, grants_text, table, when

_USER = click.option("--user", default=None, metavar="NAME", help="Whose; else one's own.")
_OUT = click.option("--out", "file", default="", metavar="FILE",
                    help="Write the secret to FILE, which only you can read, and show it nowhere.")  # fmt: skip
_WHOSE = click.option("--user", default="", metavar="NAME", help="Whose; else one's own.")
_ALL = click.option("--all", "everybody", is_flag=True, help="Everybody's.")


@click.group("token", cls=Verbs)
def command() -> None:
    """Make and revoke tokens."""


@command.command("create")
@click.option("--name", default="", metavar="TEXT", help="What it is for.")
@_USER
@click.option("--role", "roles", multiple=True, metavar="ROLE[@SCOPE]",
              help="Let it do only that; else all that its owner may. May be repeated.")  # fmt: skip
@click.option("--expires-days", type=click.FloatRange(0, 3650), default=None, metavar="N",
              help="Days after which it opens nothing (0: never).  [default: as the server is set]")  # fmt: skip
@_OUT
@JSON
def create(
    name: str, user: str | None, roles: tuple[str, ...], expires_days: float | None, file: str, as_json: bool
) -> int:
    """Make a token. It is printed this once, alone on stdout."""
    grants = [grant_of(role) for role in roles] if roles else None
    _check(file)
    with client() as server:
        made = server.tokens.create(name=name, user=user, grants=grants, expires_days=expires_days)
    if file:
        _keep(file, made.token)
    if as_json:
        shown = plain(made)
        out_json({**shown, "token": "" if file else made.token.reveal()})
        return OK
    if not file:
        out(made.token.reveal())
    ends = f", until {when(made.expires)}" if made.expires else ""
    kept = f"written to {file}" if file else "it is not shown again"
    say(f"token {made.id} of {made.user}{ends}, roles: {grants_text(made.grants)}; {kept}")
    return OK


def _check(file: str) -> None:
    """Before anything is made: a file that is there is not written over."""
    if file and os.path.lexists(file):
        raise UsageError(f"--out {file}: it exists", hint="name a new file")


def _keep(file: str, secret: Secret) -> None:
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
            opened.write(secret.reveal() + "\n")
    except OSError as fault:
        raise UsageError(
            f"--out {file}: {fault.strerror}", hint="the secret is lost: revoke it, and make another"
        ) from None


@command.command("list")
@_WHOSE
@_ALL
@JSON
def list_(user: str, everybody: bool, as_json: bool) -> int:
    """List tokens, without what opens anything."""
    with client() as server:
        found = server.tokens.list(user="*" if everybody else user)
        if as_json:
            as_lines(found)
            return OK
        rows = (
            (one.id, one.user, one.name, _state(one.revoked, "revoked") or when(one.expires), when(one.last_used),
             grants_text(one.grants))
            for one in found
        )  # fmt: skip
        table(("ID", "USER", "NAME", "EXPIRES", "LAST USED", "ROLES"), rows, empty="no tokens")
    return OK


def _state(at: object, word: str) -> str:
    return word if at is not None else ""


@command.command("revoke")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def revoke(ids: tuple[str, ...]) -> int:
    """Revoke tokens: from now on they open nothing."""
    with client() as server:
        for one in ids:
            server.tokens.revoke(one)
            say(f"token {one} revoked")
    return OK


@click.group("access-key", cls=Verbs)
def access_key() -> None:
    """Make and revoke pairs of keys, for programs that sign their requests."""


@access_key.command("create")
@_USER
@_OUT
@JSON
def create_key(user: str | None, file: str, as_json: bool) -> int:
    """Make a pair of access key and secret key; the secret is printed this once."""
    _check(file)
    with client() as server:
        made = server.tokens.create_key(user=user)
    if file:
        _keep(file, made.secret_key)
    secret = "" if file else made.secret_key.reveal()
    if as_json:
        out_json({**plain(made), "secret_key": secret})
        return OK
    out(f"access key  {made.access_key}")
    if secret:
        out(f"secret key  {secret}")
    kept = f"the secret key is in {file}" if file else "the secret key is not shown again"
    say(f"keys of {made.user}; {kept}")
    return OK


@access_key.command("list")
@_WHOSE
@_ALL
@JSON
def list_keys(user: str, everybody: bool, as_json: bool) -> int:
    """List access keys, without their secrets."""
    with client() as server:
        found = server.tokens.list_keys(user="*" if everybody else user)
        if as_json:
            as_lines(found)
            return OK
        rows = (
            (one.access_key, one.user, when(one.created), when(one.last_used), _state(one.revoked, "revoked"))
            for one in found
        )
        table(("ACCESS KEY", "USER", "CREATED", "LAST USED", "STATE"), rows, empty="no access keys")
    return OK


@access_key.command("revoke")
@click.argument("keys", nargs=-1, required=True, metavar="ACCESS_KEY...")
def revoke_key(keys: tuple[str, ...]) -> int:
    """Revoke pairs of keys."""
    with client() as server:
        for one in keys:
            server.tokens.revoke_key(one)
            say(f"access key {one} revoked")
    return OK
