"""``entrepot ls``: what lies at a place, streamed, in names that cannot harm a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import click

from entrepot.model.entry import Evidence, Row

from .groups import Command
from .look import Level, Look, look_at
from .places import PLACE
from .terminal import out_json, out_lines
from .words import key_json, key_text, plain_text, size_text, time_text, utc_text

GATHER = 10_000
"""Entries of one level held back so that all sub-prefixes come first; beyond it they come as they arrive."""

_HELP = """List what lies at PLACE: one level, sub-prefixes first.

Names with control characters or invalid UTF-8 are shown as $'…', which a shell reads back.
Listings of any size are streamed.

\b
  entrepot ls s3://bucket/data
  entrepot ls -l lab:bucket
  entrepot ls -r -0 s3://bucket > keys      (a list for --list, exact for any key)
"""


@click.command("ls", cls=Command, help=_HELP)
@click.argument("place", type=PLACE, default=".")
@click.option("-l", "--long", is_flag=True, help="With time or etag, whichever the listing has.")
@click.option("-r", "--recursive", is_flag=True, help="Everything below, not only one level.")
@click.option("-b", "--bytes", "exact", is_flag=True, help="Sizes in bytes.")
@click.option("-0", "--null", is_flag=True, help="Keys alone, raw, each ended by NUL.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def command(place: str, *, long: bool, recursive: bool, exact: bool, null: bool, as_json: bool) -> int:
    """List."""
    look = look_at(place)
    levels = (Level(rows, []) for rows in look.rows()) if recursive else _first_prefixes(look)
    if null:
        for level in levels:
            _write_raw(level)
        return 0
    show = _as_json if as_json else _as_text(long, exact)
    for level in levels:
        show(level)
    return 0


def _first_prefixes(look: Look) -> Iterator[Level]:
    """Sub-prefixes before entries, as long as that does not mean holding back a huge level."""
    held = Level([], [])
    holding = True
    for level in look.level():
        if not holding:
            yield level
            continue
        held.rows += level.rows
        held.prefixes += level.prefixes
        held.specials += level.specials
        if len(held.rows) + len(held.prefixes) > GATHER:
            holding = False
            yield held
    if holding:
        yield held


def _as_text(long: bool, exact: bool) -> Callable[[Level], None]:
    def size(number: int) -> str:
        return f"{number:>15}" if exact else f"{size_text(number):>10}"

    width = 15 if exact else 10

    def row_text(row: Row) -> str:
        key, evidence, number = row
        if not long:
            return f"{size(number)}  {key_text(key)}"
        when = mtime_of(evidence)
        note = time_text(when) if when is not None else etag_of(evidence)
        return f"{note:<19}  {size(number)}  {key_text(key)}"

    def show(level: Level) -> None:
        gap = " " * 21 if long else ""
        lines = [f"{gap}{'-':>{width}}  {key_text(prefix)}" for prefix in level.prefixes]
        lines += [row_text(row) for row in level.rows]
        lines += [f"{gap}{kind:>{width}}  {key_text(name)}" for name, kind in level.specials]
        out_lines(lines)

    return show


def _as_json(level: Level) -> None:
    for prefix in level.prefixes:
        out_json(key_json(prefix, "prefix"))
    for key, evidence, number in level.rows:
        when = mtime_of(evidence)
        note = {"mtime": utc_text(when)} if when is not None else {"etag": etag_of(evidence)}
        out_json({**key_json(key), "size": number, **note})
    for name, kind in level.specials:
        out_json({**key_json(name), "kind": kind})


def mtime_of(evidence: Evidence) -> int | None:
    """The mtime (ns) in a row's evidence, if that is what it is."""
    if isinstance(evidence, tuple):
        return evidence[0]
    return evidence if isinstance(evidence, int) else None


def etag_of(evidence: Evidence) -> str:
    """The etag in a row's evidence, if that is what it is."""
    return plain_text(evidence.decode("latin-1")) if isinstance(evidence, bytes) else ""


def _write_raw(level: Level) -> None:
    keys = level.prefixes + [row[0] for row in level.rows]
    if keys:
        sys.stdout.flush()
        sys.stdout.buffer.write(b"\0".join(keys) + b"\0")
