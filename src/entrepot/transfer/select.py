"""Select: which rows are to be copied, by size and time. Rows left out stay known, so they are never doomed."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.model.entry import Row
from entrepot.model.errors import UsageError
from entrepot.model.options import SyncOptions
from entrepot.storage.base import Columns


def selector(options: SyncOptions, columns: Columns) -> Callable[[list[Row]], list[Row]] | None:
    """A function that keeps the rows within the limits; None when there are none.

    Raises UsageError when times are asked for but the listings carry etags.
    """
    smallest, largest = options.min_size, options.max_size
    after, before = options.modified_after, options.modified_before
    if not (smallest or largest or after or before):
        return None
    if (after or before) and columns == "etag":
        raise UsageError(
            "modified-after and modified-before need times, but this compare mode lists etags",
            hint="add --compare size, mtime or newer",
        )

    def keep(row: Row) -> bool:
        size = row[2]
        if size < smallest or (largest and size > largest):
            return False
        if after or before:
            evidence = row[1]
            time = evidence[0] if isinstance(evidence, tuple) else evidence
            assert isinstance(time, int)
            return time >= after and (not before or time < before)
        return True

    return lambda rows: [row for row in rows if keep(row)]
