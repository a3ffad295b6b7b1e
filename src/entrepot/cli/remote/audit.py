"""``entrepot --server URL audit``: who did what, and the check that nothing of it was changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import islice
from typing import Any

import click

from entrepot.cli.exits import GUARD, OK
from entrepot.cli.groups import Verbs
from entrepot.cli.terminal import complain, out, out_json, say
from entrepot.cli.values import MOMENT
from entrepot.cli.words import count_text, utc_text
from entrepot.model.errors import UsageError
from entrepot.sdk.reading import plain

from .asking import client
from .showing import JSON, as_lines, table, when


@click.group("audit", cls=Verbs)
def command() -> None:
    """Read and check the record of who did what."""


_FILTERS: list[Callable[[Any], Any]] = [
    click.option("--principal", default="", metavar="NAME", help="Of this user, with their tokens."),
    click.option("--action", default="", metavar="NAME", help="Such as connection.write."),
    click.option("--subject", default="", metavar="TEXT", help="The object, exactly."),
    click.option("--text", default="", metavar="TEXT", help="A part of the subject."),
    click.option("--scope", default="", metavar="SCOPE", help="In this scope and below."),
    click.option("--outcome", type=click.Choice(["done", "refused"]),
                 help="What was done, or what was refused."),
    click.option("--address", default="", metavar="ADDRESS", help="From this address."),
    click.option("--since", type=MOMENT, default=0, metavar="TIME", help="Since then (2026-11-21, 3d)."),
    click.option("--until", type=MOMENT, default=0, metavar="TIME", help="Before then."),
]  # fmt: skip


def _filtered(function: Callable[..., Any]) -> Callable[..., Any]:
    for flag in reversed(_FILTERS):
        function = flag(function)
    return function


def _values(filters: dict[str, Any]) -> dict[str, Any]:
    times = {name: utc_text(filters[name]) if filters[name] else None for name in ("since", "until")}
    return {**filters, **times, "outcome": filters["outcome"] or ""}


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N",
              help="At most N records.")  # fmt: skip
@_filtered
@JSON
def list_(limit: int, as_json: bool, **filters: Any) -> int:
    """List what was done and refused, youngest first."""
    with client() as server:
        found = islice(server.audit.list(**_values(filters), page_size=min(limit, 1000)), limit)
        if as_json:
            as_lines(found)
            return OK
        rows = (
            (f"{one.id}", when(one.at), one.principal, one.action, one.outcome, one.address, one.subject)
            for one in found
        )
        table(("ID", "WHEN", "WHO", "ACTION", "OUTCOME", "FROM", "SUBJECT"), rows, empty="no such records")
    return OK


@command.command("export")
@click.argument("file", metavar="FILE", default="-")
@_filtered
def export(file: str, **filters: Any) -> int:
    """Write all records to FILE (- or nothing: stdout), one JSON object a line, youngest first."""
    import sys

    with client() as server:
        server.audit.export(sys.stdout.buffer if file == "-" else file, **_values(filters))
    if file != "-":
        say(f"written to {file}")
    return OK


@command.command("verify")
@click.option("--head", "file", default="", metavar="FILE",
              help="Check against the head kept in FILE by an earlier check, and keep the new one there.")  # fmt: skip
@JSON
def verify(file: str, as_json: bool) -> int:
    """Check that no record was changed or taken out; with --head, that none was cut off at the end.

    Exit 4 when something was.
    """
    head, digest = _read(file)
    with client() as server:
        found = server.audit.verify(head, digest)
    if as_json:
        out_json(plain(found))
    elif found.good:
        out(f"{count_text(found.rows)} records, the chain holds; head {found.head} {found.head_hash}")
    if not found.good:
        complain(f"the record was tampered with: {found.reason}" + (f", at {found.broken}" if found.broken else ""))
        return GUARD
    if file:
        _write(file, found.head, found.head_hash)
    return OK


def _read(file: str) -> tuple[int, str]:
    if not file or not os.path.exists(file):
        return 0, ""
    try:
        with open(file, encoding="utf-8") as opened:
            kept = json.load(opened)
        return int(kept["head"]), str(kept["head_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"--head {file}: no head of an audit trail", hint="name a new file to begin with") from None


def _write(file: str, head: int, digest: str) -> None:
    partial = f"{file}.partial"
    with open(partial, "w", encoding="utf-8") as opened:
        json.dump({"head": head, "head_hash": digest}, opened)
    os.replace(partial, file)
