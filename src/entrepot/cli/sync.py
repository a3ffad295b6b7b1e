"""``entrepot sync``: one way, from SOURCE to DESTINATION."""

from __future__ import annotations

from typing import Any

import click

from .places import PLACE, full_place
from .running import RUN_FLAGS, run_task
from .syncflags import (
    COMPARE_FLAGS,
    COPY_FLAGS,
    DELETE_FLAGS,
    FILTER_FLAGS,
    LIMIT_FLAGS,
    ONLY_ON_A_SERVER,
    OrderedFilters,
    apply,
    options_from,
)

_HELP = """Make DESTINATION hold what SOURCE holds.

Only what is missing or different is copied; nothing is deleted without --delete. A trailing slash
changes nothing. The same command run again after a crash or Ctrl-C goes on where it was.

\b
  entrepot sync ./photos s3://backup/photos
  entrepot sync --delete --dry-run s3://a/data lab:b/data
  entrepot sync --include '*.jpg' --exclude '*' s3://a ./pictures
"""


@click.command("sync", cls=OrderedFilters, help=_HELP)
@click.argument("source", type=PLACE)
@click.argument("destination", type=PLACE)
@apply(COMPARE_FLAGS, DELETE_FLAGS, FILTER_FLAGS, COPY_FLAGS, LIMIT_FLAGS, RUN_FLAGS, ONLY_ON_A_SERVER)
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str, **flags: Any) -> int:
    """Run a sync."""
    places = full_place(source), full_place(destination)
    options = options_from(ctx, flags)
    run = {name: flags[name] for name in ("processes", "state_dir", "as_json_", "quiet", "no_progress")}
    return run_task("sync", *places, options, **run)
