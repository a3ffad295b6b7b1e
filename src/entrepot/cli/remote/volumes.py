"""``entrepot --server URL volume``: directories of the server that are opened by name."""

from __future__ import annotations

import click

from entrepot.cli.exits import OK
from entrepot.cli.groups import Verbs
from entrepot.cli.terminal import out_json, say
from entrepot.sdk.reading import plain

from .asking import client
from .showing import JSON, as_lines, table


@click.group("volume", cls=Verbs)
def command() -> None:
    """Open directories of the server by name, as volume://NAME/PATH."""


@command.command("add")
@click.argument("name")
@click.argument("path")
@click.option("--read-only", is_flag=True, help="Tasks may read there, and write nothing.")
@click.option("--scope", default="", metavar="SCOPE", help="Only for tasks in this scope and below; else for all.")
@JSON
def add(name: str, path: str, read_only: bool, scope: str, as_json: bool) -> int:
    """Open the directory PATH of the server as the volume NAME."""
    with client() as server:
        made = server.volumes.create(name, path, scope=scope, read_only=read_only)
    if as_json:
        out_json(plain(made))
    else:
        say(f"volume {name} opened: use it as volume://{name}/")
    return OK


@command.command("list")
@JSON
def list_(as_json: bool) -> int:
    """List the volumes that one may see."""
    with client() as server:
        found = server.volumes.list()
        if as_json:
            as_lines(found)
            return OK
        rows = ((f"volume://{one.name}/", "read" if one.read_only else "write", one.scope, one.path) for one in found)
        table(("VOLUME", "MODE", "SCOPE", "PATH"), rows, empty="no volumes yet: volume add NAME PATH")
    return OK


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...]) -> int:
    """Close volumes; their files stay."""
    with client() as server:
        for name in names:
            server.volumes.delete(name)
            say(f"volume {name} closed; its files stay")
    return OK
