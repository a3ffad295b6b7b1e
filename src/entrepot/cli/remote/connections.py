"""``entrepot --server URL connection``: endpoints and credentials that a server keeps."""

from __future__ import annotations

from typing import Any, get_args

import click

from entrepot.cli.connection import credentials, extras, no_secrets_here, print_check, provider_of
from entrepot.cli.exits import OK, PLACE
from entrepot.cli.groups import Verbs
from entrepot.cli.terminal import out, out_json, say
from entrepot.cli.words import plain_text, size_text
from entrepot.model.connection import Addressing, Provider
from entrepot.sdk.errors import Conflict
from entrepot.sdk.reading import plain
from entrepot.sdk.values import Connection

from .asking import asked, client
from .showing import JSON, SCOPE, as_lines, facts, table, when


@click.group("connection", cls=Verbs)
def command() -> None:
    """Store, test and browse the endpoints that a server may use.

    A stored connection NAME is used as NAME:BUCKET/PREFIX. Secrets are encrypted at rest, never shown, and never
    taken from the command line.
    """


@command.command("add")
@click.argument("name")
@click.option("--provider", type=click.Choice(get_args(Provider)),
              help="Whose rules the endpoint follows.  [default: told by the endpoint's host]")  # fmt: skip
@click.option("--endpoint", default="", metavar="URL", help="https://HOST[:PORT], without the bucket.")
@click.option("--region", default="", help="Region to sign for.")
@click.option("--access-key", default="", metavar="ID", help="Access key id (azure: the account; sftp: the user).")
@click.option("--secret-file", metavar="FILE", help="Read the secret key from FILE (- for stdin).")
@click.option("--secret-env", metavar="VARIABLE", help="Read the secret key from an environment variable.")
@click.option("--session-token-file", metavar="FILE", help="Read a session token from FILE.")
@click.option("--session-token-env", metavar="VARIABLE", help="Read a session token from a variable.")
@click.option("--sas-file", metavar="FILE", help="Read an Azure SAS from FILE.")
@click.option("--sas-env", metavar="VARIABLE", help="Read an Azure SAS from a variable.")
@click.option("--anonymous", is_flag=True, help="Public buckets: no credentials, requests are not signed.")
@click.option("--addressing", type=click.Choice(get_args(Addressing)), default="auto", show_default=True,
              help="Bucket in the path or in the host name.")  # fmt: skip
@click.option("--insecure-skip-verify", is_flag=True, help="Do not check the certificate.")
@click.option("--disable-ssl", is_flag=True, help="Plain HTTP.")
@click.option("--requester-pays", is_flag=True, help="Accept the costs of requester-pays buckets.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Provider-specific extra.")
@click.option("--max-tasks", type=click.IntRange(min=0), default=0, metavar="N",
              help="Tasks that use it at once; 0: no limit.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace a connection of this name.")
@SCOPE
@JSON
@no_secrets_here
def add(name: str, scope: str | None, as_json: bool, **flags: Any) -> int:
    """Store the connection NAME on the server.

    The secret key is asked for, unless --secret-file or --secret-env says where it is.
    """
    meant = asked()
    options = extras(flags["options"])
    if flags["anonymous"]:
        options["anonymous"] = "true"
    access, secret, token, sas = credentials({**flags, "profile": ""})
    values: dict[str, Any] = {
        "endpoint": flags["endpoint"], "region": flags["region"], "access_key": access, "secret_key": secret,
        "session_token": token, "sas": sas, "addressing": flags["addressing"], "options": options,
        "insecure_skip_verify": flags["insecure_skip_verify"], "disable_ssl": flags["disable_ssl"],
        "requester_pays": flags["requester_pays"], "max_tasks": flags["max_tasks"], "scope": scope,
    }  # fmt: skip
    provider: Any = flags["provider"] or provider_of(flags["endpoint"])
    with client() as server:
        try:
            made = server.connections.create(name, provider, **values)
        except Conflict as fault:
            if not flags["replace"]:
                fault.hint = "--replace replaces it"
                raise
            made = server.connections.update(name, provider=provider, **values)
    if as_json:
        out_json(plain(made))
    else:
        say(f"connection {name} stored; try it: {meant.words(f'connection test {name} BUCKET')}")
    return OK


@command.command("list")
@SCOPE
@JSON
def list_(scope: str | None, as_json: bool) -> int:
    """List the stored connections."""
    with client() as server:
        found = server.connections.list(scope=scope)
        if as_json:
            as_lines(found)
        else:
            table(("NAME", "PROVIDER", "ENDPOINT", "ACCESS KEY", "SCOPE"), map(_row, found),
                  empty="no connections yet: connection add NAME --endpoint URL --access-key ID")  # fmt: skip
    return OK


def _row(one: Connection) -> tuple[str, ...]:
    who = "anonymous" if one.options.get("anonymous") else one.access_key
    return one.name, one.provider, one.endpoint or one.region, who, one.scope


@command.command("show")
@click.argument("name")
@SCOPE
@JSON
def show(name: str, scope: str | None, as_json: bool) -> int:
    """Show the connection NAME, without its secrets."""
    with client() as server:
        found = server.connections.get(name, scope=scope)
    if as_json:
        out_json(plain(found))
        return OK
    shown = {key: value for key, value in plain(found).items() if value is not False and value != 0}
    shown |= {"has": ", ".join(found.has), "created": when(found.created), "updated": when(found.updated)}
    shown["options"] = ", ".join(f"{key}={value}" for key, value in found.options.items())
    facts(shown.items())
    return OK


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@SCOPE
def remove(names: tuple[str, ...], scope: str | None) -> int:
    """Forget connections and their secrets."""
    with client() as server:
        for name in names:
            server.connections.delete(name, scope=scope)
            say(f"connection {name} removed")
    return OK


@command.command("test")
@click.argument("name")
@click.argument("place", default="", metavar="[BUCKET[/PREFIX]]")
@click.option("--read-only", is_flag=True, help="Do not try to write and delete an object.")
@SCOPE
@JSON
def test(name: str, place: str, read_only: bool, scope: str | None, as_json: bool) -> int:
    """Have the server test the connection NAME, step by step.

    With a bucket, also list it, and write and delete one small object with a random name below PREFIX.
    """
    with client() as server:
        found = server.connections.test(name, place.removeprefix(f"{name}:"), write=not read_only, scope=scope)
    for check in found.checks:
        if as_json:
            out_json(plain(check))
        else:
            print_check(check.verdict, check.name, check.text, check.hint)
    return OK if found.good else PLACE


@command.command("browse")
@click.argument("place", metavar="NAME[:BUCKET[/PREFIX]]")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N",
              help="At most N entries.")  # fmt: skip
@SCOPE
@JSON
def browse(place: str, limit: int, scope: str | None, as_json: bool) -> int:
    """List one level of what a connection of the server shows."""
    from itertools import islice

    name, _, where = place.partition(":")
    with client() as server:
        for one in islice(server.connections.browse(name, where, scope=scope, page_size=min(limit, 1000)), limit):
            if as_json:
                out_json(plain(one))
            elif one.prefix:
                out(f"{'':>10}  {'':<19}  {plain_text(one.key)}")
            else:
                out(f"{size_text(one.size):>10}  {when(one.modified):<19}  {plain_text(one.key)}")
    return OK
