"""``entrepot verify``: both sides read and compared, byte by byte."""

from __future__ import annotations

from typing import Any

import click

from .places import PLACE, full_place
from .running import RUN_FLAGS, run_task
from .syncflags import FILTER_FLAGS, LIMIT_FLAGS, OrderedFilters, apply, options_from

_HELP = """Read SOURCE and DESTINATION and compare them, byte by byte.

Exit 0 when everything below SOURCE is the same at DESTINATION, 1 when anything is missing or different.

\b
  entrepot verify ./photos s3://backup/photos
"""


@click.command("verify", cls=OrderedFilters, help=_HELP)
@click.argument("source", type=PLACE)
@click.argument("destination", type=PLACE)
@apply(FILTER_FLAGS, LIMIT_FLAGS, RUN_FLAGS)
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str, **flags: Any) -> int:
    """Run a verification."""
    places = full_place(source), full_place(destination)
    options = options_from(ctx, flags, compare="checksum")
    run = {name: flags[name] for name in ("processes", "state_dir", "as_json_", "quiet", "no_progress")}
    return run_task("verify", *places, options, **run)
