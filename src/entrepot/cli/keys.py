"""``entrepot keys``: the keys that seal the secrets of a server's data directory."""

from __future__ import annotations

import os

import click

from .exits import OK, SOME_FAILED
from .groups import Verbs
from .terminal import complain, out, out_json


@click.group("keys", cls=Verbs)
def command() -> None:
    """The keys that seal the secrets of a server."""


@command.command("rotate")
@click.option("--data", required=True, envvar="ENTREPOT_DATA", metavar="DIR", help="Data directory of the server.")
@click.option("--database-url", default="", envvar="ENTREPOT_DATABASE_URL", metavar="URL",
              help="Where the ledger is instead of DATA/ledger.db.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def rotate(data: str, database_url: str, as_json: bool) -> int:
    """Seal every secret under a new key, then throw the former keys away. The server may run meanwhile."""
    from entrepot.control import rotation
    from entrepot.ledger.pool import LedgerPool

    pool = LedgerPool(database_url or os.path.join(data, "ledger.db"))
    try:
        done = rotation.rotate(pool, os.path.join(data, "keys.json"))
    finally:
        pool.close()
    if as_json:
        out_json({"key_id": done.key_id, "resealed": done.resealed, "retired": done.retired, "lost": done.lost})
    else:
        out(f"{done.resealed} secrets are sealed under the new key {done.key_id}")
    if done.lost:
        complain(
            f"{len(done.lost)} secrets could not be read, so the former keys stay: {', '.join(done.lost[:5])}",
            "enter them again, then rotate once more",
        )
        return SOME_FAILED
    return OK
