"""Which tasks a list shows: the filter, and the conditions in SQL that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .database import Connection
from .labels import fold, like, wanted_grams
from .scopes import within

_SLACK = 3600.0
"""A task's id is its time of birth by the clock of the process that made it; ``created`` is the database's clock."""
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_FOUND_SQLITE = "task_label.id IN (SELECT rowid FROM task_gram WHERE task_gram MATCH :grams)"
_FOUND_POSTGRESQL = "string_to_array(task_label.grams, ' ') @> string_to_array(:grams, ' ')"


@dataclass(slots=True, frozen=True)
class Filter:
    """Tasks at and below ``scopes``; empty fields do not narrow.

    ``families``, ``types`` and ``states`` are alternatives; ``text`` is a part of the name, capital or small;
    ``created_from`` is inclusive and ``created_before`` exclusive, in Unix time.
    """

    scopes: tuple[str, ...] = ("",)
    families: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    text: str = ""
    creator: str = ""
    created_from: float | None = None
    created_before: float | None = None

    @property
    def dated(self) -> bool:
        """Whether the time of creation matters."""
        return self.created_from is not None or self.created_before is not None

    @property
    def by_cell(self) -> bool:
        """Whether the kept counts by scope, family, type and state tell how many tasks there are."""
        return not (self.text or self.creator or self.dated)


class Conditions:
    """The parts of a filter as SQL; ``values`` collects their parameters."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self.values: dict[str, Any] = {}

    def cells(self, table: str) -> str:
        """On scope, family, type and state of a table that has them (``task_count``, ``task``)."""
        parts = [self.fixed(table)]
        if self.wanted.states:
            parts.append(self._among(f"{table}.state", "state", self.wanted.states))
        return " AND ".join(parts)

    def fixed(self, table: str, bare: str = "") -> str:
        """On what never changes in a task's filing. ``bare`` is put behind columns to keep indexes out of it."""
        scope, values = within(f"{table}.scope{bare}", self.wanted.scopes)
        self.values.update(values)
        parts = [scope, f"{table}.family <> ''"]
        if self.wanted.families:
            parts.append(self._among(f"{table}.family{bare}", "family", self.wanted.families))
        if self.wanted.types:
            parts.append(self._among(f"{table}.type{bare}", "type", self.wanted.types))
        return " AND ".join(parts)

    def named(self, table: str = "task_label") -> str:
        """On name and creator, in the table of names."""
        parts = ["1 = 1"]
        if self.wanted.text:
            self.values["text"] = like(fold(self.wanted.text))
            parts.append(rf"{table}.name LIKE :text ESCAPE '\'")
        if self.wanted.creator:
            self.values["creator"] = self.wanted.creator
            parts.append(f"{table}.creator = :creator")
        return " AND ".join(parts)

    def dated(self) -> str:
        """On the time of creation, by the ids where they tell enough."""
        parts = ["1 = 1"]
        for name, sign, sure, at in (
            ("created_from", ">=", ">", self.wanted.created_from),
            ("created_before", "<", "<", self.wanted.created_before),
        ):
            if at is None:
                continue
            away = _SLACK if sign == ">=" else -_SLACK
            self.values.update({name: at, f"{name}_wide": id_at(at - away), f"{name}_sure": id_at(at + away)})
            parts.append(f"task.id {sign} :{name}_wide")
            parts.append(f"(task.id {sure} :{name}_sure OR task.created {sign} :{name})")
        return " AND ".join(parts)

    def rest(self) -> str:
        """Everything but filing and state, on rows of ``task``, so that no other index is tempted."""
        parts = [self.dated()]
        if self.wanted.creator:
            self.values["creator"] = self.wanted.creator
            parts.append("task.creator || '' = :creator")
        if self.wanted.text:
            self.values["text"] = like(fold(self.wanted.text))
            # A subquery for one value is not turned into a join with all names.
            named = "(SELECT task_label.name FROM task_label WHERE task_label.task_id = task.id)"
            parts.append(rf"{named} LIKE :text ESCAPE '\'")
        return " AND ".join(parts)

    def among_states(self, bare: str = "") -> str:
        """On the state of ``task``."""
        return self._among(f"task.state{bare}", "state", self.wanted.states) if self.wanted.states else "1 = 1"

    def found(self, connection: Connection) -> str:
        """On the grams of the text; empty when it is too short to have any."""
        grams = wanted_grams(fold(self.wanted.text)) if self.wanted.text else []
        if not grams:
            return ""
        if connection.kind == "sqlite":
            self.values["grams"] = " ".join(f'"{gram}"' for gram in grams)
            return _FOUND_SQLITE
        self.values["grams"] = " ".join(grams)
        return _FOUND_POSTGRESQL

    def _among(self, column: str, name: str, allowed: Sequence[str]) -> str:
        names = [f"{name}_{number}" for number in range(len(allowed))]
        self.values.update(zip(names, allowed, strict=True))
        return f"{column} IN ({', '.join(f':{one}' for one in names)})"


def id_at(at: float) -> str:
    """The smallest id of a task that is made at this Unix time."""
    number = min(max(int(at * 1000), 0), (1 << 48) - 1) << 80
    return "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))
