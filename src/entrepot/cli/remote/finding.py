"""Objects that have an id for the server and a name for people: either will do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from entrepot.model.errors import NoSuch, UsageError

_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


class _Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


Found = TypeVar("Found", bound=_Named)


def by_name_or_id(noun: str, which: str, get: Callable[[str], Found], every: Iterable[Found]) -> Found:
    """The one that is meant. Raises NoSuch, or UsageError where a name stands for several."""
    if _ID.fullmatch(which):
        return get(which)
    found = [one for one in every if one.name == which]
    if not found:
        raise NoSuch(f"there is no {noun} named {which}", hint=f"entrepot {noun} list shows what there is")
    if len(found) > 1:
        ids = ", ".join(one.id for one in found[:5])
        raise UsageError(f"{len(found)} of them are named {which}", hint=f"give the id: {ids}")
    return found[0]
