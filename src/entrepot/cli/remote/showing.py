"""Answers of a server as text: tables, times, and the same values as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

from entrepot.cli.terminal import out, out_json, out_lines, say, styled
from entrepot.cli.words import plain_text
from entrepot.sdk.reading import plain
from entrepot.sdk.values import Grant

JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
SCOPE = click.option("--scope", default=None, metavar="SCOPE", help="Where it is: a path of names, such as team/a.")
_WIDEST = 60


def when(at: datetime | None) -> str:
    """Local time to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at is not None else "-"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """Columns as wide as they have to be; ``empty`` is said when there are no rows."""
    shown = [[plain_text(cell) or "-" for cell in row] for row in rows]
    if not shown:
        if empty:
            say(empty)
        return
    widths = [
        min(max(len(row[at]) for row in [*shown, [*heads]]), _WIDEST) if at < len(heads) - 1 else 0
        for at in range(len(heads))
    ]
    out(styled(_line(heads, widths), "dim", sys.stdout))
    out_lines([_line(row, widths) for row in shown])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """One thing, a line for each fact that is there."""
    for name, value in pairs:
        if value is None or value in ("", (), {}):
            continue
        text = when(value) if isinstance(value, datetime) else _word(value)
        out(f"{name:<14} {plain_text(text)}")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def as_lines(values: Iterable[Any]) -> None:
    """A JSON object a line."""
    for value in values:
        out_json(plain(value))


def grants_text(grants: Iterable[Grant] | None) -> str:
    """``editor@team/a, reader``."""
    if grants is None:
        return "all of its owner's"
    return ", ".join(f"{one.role}@{one.scope}" if one.scope else one.role for one in grants) or "none"


def grant_of(text: str) -> Grant:
    """A role from ``editor`` or ``editor@team/a``."""
    role, _, scope = text.partition("@")
    return Grant(role, scope.strip("/"))
