"""``entrepot --server URL runners``: machines that lend a server their cores."""

from __future__ import annotations

import click

from entrepot.cli.exits import OK
from entrepot.cli.groups import Command

from .asking import client
from .showing import JSON, as_lines, table, when


@click.command("runners", cls=Command)
@JSON
def command(as_json: bool) -> int:
    """List the machines that help the server now."""
    with client() as server:
        found = server.runners.list()
    if as_json:
        as_lines(found)
        return OK
    rows = ((one.name, f"{one.processes}", one.task_id, when(one.started), when(one.seen)) for one in found)
    table(("NAME", "PROCESSES", "TASK", "SINCE", "SEEN"), rows, empty="no machines: entrepot runner --server URL")
    return OK
