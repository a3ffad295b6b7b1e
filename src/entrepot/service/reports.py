"""The report of a server's task: one file in the state directory, joined from the segments of each run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby
from typing import Any

from entrepot.transfer.job import Outcome
from entrepot.transfer.report import join

from .report import drop_segments, record, segments_directory

RETRIED = ".again"
"""Ends the name of the directory with the segments of entries that were tried again."""


def report_place(state_dir: str, task_id: str) -> str:
    """Where the report of a task is: JSON lines in key order."""
    return os.path.join(state_dir, "reports", f"{task_id}.jsonl")


def keep(state_dir: str, task_id: str) -> int:
    """Join the segments into the report and drop them; what a later run says of a key replaces what was there.

    Killed in the middle, it does the same again. Answers how many rows there are; 0 without segments.
    """
    found = segments_directory(state_dir, task_id)
    folders = [folder for folder in (found, found + RETRIED) if os.path.isdir(folder)]
    if not folders:
        return 0
    place = report_place(state_dir, task_id)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    layers: list[Iterator[tuple[bytes, int, dict[str, Any]]]] = [_former(place)]
    layers += [_rows(join(folder), age) for age, folder in enumerate(folders, 1)]
    count = 0
    with open(f"{place}.partial", "w", encoding="utf-8") as file:
        for row in _latest(layers):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{place}.partial", place)
    drop_segments(state_dir, task_id)
    drop_segments(state_dir, task_id + RETRIED)
    return count


def _rows(outcomes: Iterable[Outcome], age: int) -> Iterator[tuple[bytes, int, dict[str, Any]]]:
    for outcome in outcomes:
        yield outcome[0], -age, record(outcome)


def _former(place: str) -> Iterator[tuple[bytes, int, dict[str, Any]]]:
    if not os.path.exists(place):
        return
    with open(place, encoding="utf-8") as file:
        for line in file:
            row: dict[str, Any] = json.loads(line)
            yield bytes.fromhex(row["key_hex"]) if row["key_hex"] else row["key"].encode(), 0, row


def _latest(layers: list[Iterator[tuple[bytes, int, dict[str, Any]]]]) -> Iterator[dict[str, Any]]:
    whole = merge(*layers, key=lambda row: row[:2])
    for _, same in groupby(whole, key=lambda row: row[0]):
        yield next(same)[2]


def kept(state_dir: str) -> list[str]:
    """Ids of tasks that have a report, segments, or a list of keys."""
    found: set[str] = set()
    for folder in ("reports", "segments", "lists"):
        directory = os.path.join(state_dir, folder)
        if os.path.isdir(directory):
            found.update(name.partition(".")[0] for name in os.listdir(directory))
    return sorted(found)


def remove(state_dir: str, task_id: str) -> None:
    """Remove the files of a task."""
    for name in (task_id, task_id + RETRIED):
        drop_segments(state_dir, name)
    for folder in ("reports", "lists"):
        directory = os.path.join(state_dir, folder)
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            if name.partition(".")[0] == task_id:
                os.unlink(os.path.join(directory, name))
