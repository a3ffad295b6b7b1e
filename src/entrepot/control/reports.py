"""The report of a task: what became of every entry, as JSON lines, CSV or Parquet, never whole in memory."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, Any, Final

from entrepot.model.errors import NoSuch, RequestError
from entrepot.security.identity import Principal

from . import tasks
from .context import Control

COLUMNS: Final = ("key", "outcome", "size", "proof", "note", "key_hex")
FORMATS: Final = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
"""The forms of a report and their media types."""
_CHUNK: Final = 256 << 10
_ROWS: Final = 20_000


def open_report(control: Control, who: Principal, task_id: str, form: str) -> Iterator[bytes]:
    """The report in pieces. Raises NoSuch when there is none (yet), RequestError for a form that is not known."""
    if form not in FORMATS:
        raise RequestError("format", "no such form", hint="one of: " + ", ".join(FORMATS))
    found = tasks.read(control, who, task_id).found.row
    path = os.path.join(control.state_dir, "reports", f"{found.id}.jsonl")
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        asked = json.loads(found.options).get("report")
        hint = "it is written when the task ends" if asked else 'create the task with the option "report": true'
        raise NoSuch(f"task {task_id} has no report", hint=hint) from None
    if form == "parquet":
        _need_parquet()
    return {"jsonl": _plain, "csv": _csv, "parquet": _parquet}[form](file)


def drop(control: Control, task_id: str) -> None:
    """Remove what the server kept in files for a task that was forgotten."""
    for folder, ends in (("reports", (".jsonl",)), ("lists", (".txt", ".csv"))):
        for end in ends:
            with suppress(OSError):
                os.unlink(os.path.join(control.state_dir, folder, f"{task_id}{end}"))


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_CHUNK):
            yield piece


def _rows(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    with file:
        for line in file:
            yield json.loads(line)


def _csv(file: IO[bytes]) -> Iterator[bytes]:
    rows = _rows(file)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    while batch := list(islice(rows, _ROWS)):
        writer.writerows(batch)
        yield text.getvalue().encode("utf-8", "backslashreplace")
        text.seek(0)
        text.truncate()
    rest = text.getvalue()
    if rest:
        yield rest.encode()


def _need_parquet() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise RequestError("format", "this server was installed without Parquet", hint="jsonl or csv") from None


def _parquet(file: IO[bytes]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.int64() if name == "size" else pa.string()) for name in COLUMNS])
    rows = _rows(file)
    sink = _Pieces()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        while batch := list(islice(rows, _ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            yield sink.take()
    yield sink.take()


class _Pieces(io.RawIOBase):
    """What is written, in the order it came, to be taken away again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._at = 0

    def writable(self) -> bool:
        """Only that."""
        return True

    def write(self, data: Any) -> int:
        """Keep a piece."""
        raw = bytes(data)
        self._held += raw
        self._at += len(raw)
        return len(raw)

    def tell(self) -> int:
        """How much there was in all."""
        return self._at

    def take(self) -> bytes:
        """What came since the last time."""
        piece = bytes(self._held)
        self._held.clear()
        return piece
