"""``entrepot --server URL sync``: the same sync, done by a server, followed from here."""

from __future__ import annotations

from typing import Any

import click

from entrepot.cli.exits import OK
from entrepot.cli.syncflags import (
    COMPARE_FLAGS,
    COPY_FLAGS,
    DELETE_FLAGS,
    FILTER_FLAGS,
    LIMIT_FLAGS,
    NOT_ON_A_SERVER,
    OrderedFilters,
    apply,
)
from entrepot.cli.terminal import out, out_json, say
from entrepot.sdk.requests.syncs import Kind

from .asking import asked, client
from .following import FOLLOW_FLAGS, check_report, follow, snapshot_of
from .syncoptions import QUEUE_FLAGS, START_FLAGS, not_before, request_options

_HELP = """Have the server make DESTINATION hold what SOURCE holds, and follow it live.

Places are NAME:BUCKET/PREFIX of a connection that the server knows, or volume://NAME/PATH. Ctrl-C only stops
following; the task goes on. --report FILE is fetched at the end; --list is volume://NAME/PATH; windows of
--bandwidth are in the server's time.

\b
  entrepot --server https://port.example sync lab:photos volume://archive/photos
  entrepot --server https://port.example sync --detach --name nightly lab:a oss1:b/data
"""


@click.command("sync", cls=OrderedFilters, help=_HELP)
@click.argument("source")
@click.argument("destination")
@apply(
    COMPARE_FLAGS, DELETE_FLAGS, FILTER_FLAGS, COPY_FLAGS, LIMIT_FLAGS, QUEUE_FLAGS, START_FLAGS, FOLLOW_FLAGS,
    NOT_ON_A_SERVER,
)  # fmt: skip
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str, **flags: Any) -> int:
    """Run a sync on the server."""
    return run_there(ctx, "sync", source, destination, flags)


def run_there(
    ctx: click.Context, kind: Kind, source: str, destination: str, flags: dict[str, Any], **fixed: Any
) -> int:
    """Create the task, and follow it unless ``--detach`` is given."""
    meant = asked()
    options: Any = request_options(ctx, flags, **fixed)
    report = "" if flags["detach"] else flags["report"]
    check_report(report)
    with client() as server:
        task = server.syncs.create(
            source,
            destination,
            kind=kind,
            name=flags["name"],
            scope=flags["scope"],
            priority=flags["priority"],
            not_before=not_before(flags),
            **options,
        )
        show = {name: flags[name] for name in ("as_json_", "quiet", "no_progress")}
        if not flags["detach"]:
            return follow(server, meant, task, **show, report=report)
    if flags["as_json_"]:
        from entrepot.cli.summary import as_json

        out_json(as_json(snapshot_of(task, [])))
    else:
        out(task.id)
        if not flags["quiet"]:
            say(f"follow it: {meant.words(f'task follow {task.id}')}")
    return OK
