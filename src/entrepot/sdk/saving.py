"""Writing what a server sends into a file: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from entrepot.model.errors import UsageError

Target = str | os.PathLike[str] | IO[bytes]
FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}


@contextmanager
def saving(to: Target) -> Iterator[IO[bytes]]:
    """A file to write to; a path is there only when all was written. Raises UsageError when it cannot be."""
    if not isinstance(to, (str, os.PathLike)):
        yield to
        return
    path = os.fspath(to)
    partial = f"{path}.partial"
    try:
        file = open(partial, "wb")  # noqa: SIM115
    except OSError as fault:
        raise UsageError(f"{path} cannot be written: {fault.strerror}") from None
    try:
        with file:
            yield file
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def format_of(to: Target, format: str) -> str:  # noqa: A002
    """The form that a report is asked for in: as given, else as the file's name ends."""
    if format:
        return format
    name = os.fspath(to) if isinstance(to, (str, os.PathLike)) else ""
    end = os.path.splitext(name)[1].lower()
    if end in FORMATS or not name:
        return FORMATS.get(end, "jsonl")
    raise UsageError(f"{name}: no such form of a report", hint="end it in .jsonl, .csv or .parquet, or say which")
