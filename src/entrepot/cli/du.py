"""``entrepot du``: how many entries and bytes lie below a place, as a whole or by directory."""

from __future__ import annotations

from collections.abc import Iterator

import click

from entrepot.model.entry import Row

from .groups import Command
from .look import look_at
from .places import PLACE
from .terminal import out, out_json
from .words import count_text, key_json, key_text, size_text

Sum = tuple[bytes, int, int]
"""(directory ending in ``/``, entries, bytes)"""

_HELP = """Count entries and bytes below PLACE.

\b
  entrepot du s3://bucket/data
  entrepot du --depth 1 lab:bucket
"""


@click.command("du", cls=Command, help=_HELP)
@click.argument("place", type=PLACE, default=".")
@click.option("-d", "--depth", type=click.IntRange(min=0), default=0, metavar="N",
              help="A line for each directory down to level N.")  # fmt: skip
@click.option("-b", "--bytes", "exact", is_flag=True, help="Sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line; the last is the total.")
def command(place: str, depth: int, exact: bool, as_json: bool) -> int:
    """Count."""
    look = look_at(place)
    for path, entries, size in usage(look.rows(), depth) if depth else [(b"", *look.totals())]:
        if as_json:
            named = key_json(path, "path") if path else {"total": True}
            out_json({**named, "entries": entries, "bytes": size})
        else:
            shown = str(size) if exact else size_text(size)
            out(f"{count_text(entries):>14}  {shown:>15}  {key_text(path) if path else 'total'}")
    return 0


def usage(pieces: Iterator[list[Row]], depth: int) -> Iterator[Sum]:
    """Sums of the directories down to ``depth``, each when it is complete, and of all (path empty) last.

    Keys come sorted, so a directory's keys are neighbours and only the open ones are held.
    """
    total = size = 0
    open_: list[list[int]] = []
    path: list[bytes] = []
    for rows in pieces:
        total += len(rows)
        for key, _, length in rows:
            size += length
            parts = key.split(b"/", depth)[:depth]
            if key.count(b"/") < depth:
                parts = key.split(b"/")[:-1]
            same = _same(path, parts)
            yield from _closed(path, open_, same)
            path[same:] = parts[same:]
            open_ += [[0, 0] for _ in parts[same:]]
            for counts in open_:
                counts[0] += 1
                counts[1] += length
    yield from _closed(path, open_, 0)
    yield b"", total, size


def _same(path: list[bytes], parts: list[bytes]) -> int:
    same = 0
    for one, other in zip(path, parts, strict=False):
        if one != other:
            break
        same += 1
    return same


def _closed(path: list[bytes], open_: list[list[int]], keep: int) -> Iterator[Sum]:
    while len(open_) > keep:
        entries, size = open_.pop()
        yield b"".join(part + b"/" for part in path[: len(open_) + 1]), entries, size
    del path[keep:]
