"""``entrepot --server URL verify``: both sides read and compared by a server."""

from __future__ import annotations

from typing import Any

import click

from entrepot.cli.syncflags import FILTER_FLAGS, LIMIT_FLAGS, NOT_ON_A_SERVER, OrderedFilters, apply

from .following import FOLLOW_FLAGS
from .sync import run_there
from .syncoptions import QUEUE_FLAGS, START_FLAGS

_HELP = """Have the server read SOURCE and DESTINATION and compare them, byte by byte.

Exit 0 when both hold the same entries with the same contents, 1 when anything is missing, different, or at
DESTINATION only. Places are NAME:BUCKET/PREFIX or volume://NAME/PATH.
"""


@click.command("verify", cls=OrderedFilters, help=_HELP)
@click.argument("source")
@click.argument("destination")
@apply(FILTER_FLAGS, LIMIT_FLAGS, QUEUE_FLAGS, START_FLAGS, FOLLOW_FLAGS, NOT_ON_A_SERVER)
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str, **flags: Any) -> int:
    """Run a verification on the server."""
    return run_there(ctx, "verify", source, destination, flags, compare="checksum")
