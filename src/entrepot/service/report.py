"""Reports: the outcome of every entry, joined from the runners' segments into JSON lines, CSV or Parquet.

Written beside its final name and renamed when complete. Keys that are not UTF-8 are written with ``\\xNN`` escapes and
``key_hex`` holds the bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from entrepot.model.errors import UsageError
from entrepot.transfer.job import Outcome
from entrepot.transfer.report import join

COLUMNS = ("key", "outcome", "size", "proof", "note", "key_hex")
ROWS = 50_000


def segments_directory(state_dir: str, task_id: str) -> str:
    """Where the runners of a task write their segments."""
    return os.path.join(state_dir, "segments", task_id)


def check_report(path: str) -> None:
    """Raise UsageError when a report cannot be written to ``path`` (before anything else is done)."""
    if not path:
        return
    if path.endswith(".parquet"):
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UsageError("a Parquet report needs pyarrow", hint="pip install 'entrepot[parquet]'") from None
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        raise UsageError(f"report: there is no directory {directory}")


def write_report(state_dir: str, task_id: str, path: str) -> int:
    """Join the segments of a task into ``path`` by its suffix (.jsonl, .csv, .parquet); how many rows it has."""
    outcomes = join(segments_directory(state_dir, task_id))
    partial = f"{path}.partial"
    if path.endswith(".parquet"):
        count = _parquet(outcomes, partial)
    elif path.endswith(".csv"):
        count = _csv(outcomes, partial)
    else:
        count = _json_lines(outcomes, partial)
    os.replace(partial, path)
    return count


def drop_segments(state_dir: str, task_id: str) -> None:
    """Remove the segments of a task that ended."""
    import shutil

    shutil.rmtree(segments_directory(state_dir, task_id), ignore_errors=True)


def record(outcome: Outcome) -> dict[str, Any]:
    """One report row. ``key_hex`` is empty for keys that are plain UTF-8."""
    key, what, size, proof, note = outcome
    try:
        text, raw = key.decode("utf-8"), ""
    except UnicodeDecodeError:
        text, raw = key.decode("utf-8", "backslashreplace"), key.hex()
    return {"key": text, "outcome": what, "size": size, "proof": proof, "note": note, "key_hex": raw}


def _json_lines(outcomes: Iterator[Outcome], path: str) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for outcome in outcomes:
            file.write(json.dumps(record(outcome), ensure_ascii=False) + "\n")
            count += 1
    return count


def _csv(outcomes: Iterator[Outcome], path: str) -> int:
    import csv

    count = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for outcome in outcomes:
            writer.writerow(record(outcome))
            count += 1
    return count


def _parquet(outcomes: Iterator[Outcome], path: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.int64() if name == "size" else pa.string()) for name in COLUMNS])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := [record(outcome) for outcome in islice(outcomes, ROWS)]:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
