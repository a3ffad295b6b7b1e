"""``entrepot verify``: both sides read and compared, byte by byte."""

from __future__ import annotations

import os
from typing import Any

import click

from entrepot.model.errors import UsageError

from .exits import OK
from .places import PLACE, full_place
from .running import RUN_FLAGS, run_task
from .syncflags import FILTER_FLAGS, LIMIT_FLAGS, ONLY_ON_A_SERVER, OrderedFilters, apply, options_from
from .terminal import out
from .words import count_text

_HELP = """Read SOURCE and DESTINATION and compare them, byte by byte.

Exit 0 when both hold the same entries with the same contents, 1 when anything is missing, different, or at
DESTINATION only.

\b
  entrepot verify ./photos s3://backup/photos
  entrepot verify --manifest photos.jsonl ./photos s3://backup/photos
"""


def _check_manifest(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    """Check the signature of a manifest and leave."""
    if path is None or ctx.resilient_parsing:
        return
    from entrepot.service.manifest import check_manifest

    try:
        tail = check_manifest(path)
    except OSError as fault:
        raise UsageError(f"{path}: {(fault.strerror or 'cannot be read').lower()}") from None
    outcomes = ", ".join(f"{count_text(n)} {name}" for name, n in sorted(tail["outcomes"].items()))
    out(f"{count_text(tail['entries'])} entries ({outcomes}), digest and signature hold")
    out(f"signed by {tail['public_key']}")
    ctx.exit(OK)


@click.command("verify", cls=OrderedFilters, help=_HELP)
@click.argument("source", type=PLACE)
@click.argument("destination", type=PLACE)
@click.option("--manifest", default="", metavar="FILE", help="Write a signed manifest of every entry to FILE.")
@click.option("--check-manifest", metavar="FILE", is_eager=True, expose_value=False, callback=_check_manifest,
              help="Check digest and signature of a manifest, and nothing else.")  # fmt: skip
@apply(FILTER_FLAGS, LIMIT_FLAGS, RUN_FLAGS, ONLY_ON_A_SERVER)
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str, **flags: Any) -> int:
    """Run a verification."""
    places = full_place(source), full_place(destination)
    options = options_from(ctx, flags, compare="checksum")
    run = {name: flags[name] for name in ("processes", "state_dir", "as_json_", "quiet", "no_progress")}
    manifest = os.path.abspath(os.path.expanduser(flags["manifest"])) if flags["manifest"] else ""
    return run_task("verify", *places, options, **run, manifest=manifest)
