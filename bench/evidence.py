"""What our runs say they have done: segments in the state folder after a kill, the report at the end."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

DONE = ("copied", "equal")


def done_in_segments(state: Path) -> dict[str, int]:
    """Sizes by key of all whole lines in all segments below the state folder."""
    found: dict[str, int] = {}
    for path in sorted(state.rglob("*.segment")):
        for raw in path.read_bytes().split(b"\n")[1:-1]:  # a kill may have cut the last line
            key, outcome, size, *_ = json.loads(raw)
            if outcome in DONE:
                found[os.fsdecode(bytes.fromhex(key))] = size
    return found


def done_in_report(path: Path) -> dict[str, int]:
    """The same from a finished report, CSV or a JSON object a line."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if text.startswith("{"):
        rows = [json.loads(line) for line in text.split("\n") if line]
    else:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    return {row["key"]: int(row["size"]) for row in rows if row.get("outcome") in DONE}
