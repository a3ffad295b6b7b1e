"""The seam to what a task does: checks, first cuts, sessions. Swapped in tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from entrepot.model.shard import LedgerPort
from entrepot.model.task import TaskSpec
from entrepot.work.environment import WorkEnvironment
from entrepot.work.session import Session


class Preflight(Protocol):
    """What the checks before a task found: both places in canonical form (``place|prefix``), and warnings."""

    @property
    def source_identity(self) -> str:
        """The source."""
        ...

    @property
    def destination_identity(self) -> str:
        """The destination."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Shown to the person."""
        ...


@dataclass(slots=True, frozen=True)
class Trade:
    """The calls that a kind of work offers.

    ``preflight`` raises PlaceError or GuardError before anything is written; ``plan`` answers ascending keys
    to cut the first ranges at, for a number of processes; ``open_session`` opens the work of one runner;
    ``discard`` undoes every half-moved object in the journal of a cancelled task. ``prepare`` loads the code that
    the places need, once, before the runners are forked; it touches no place.
    """

    preflight: Callable[[TaskSpec, WorkEnvironment], Preflight]
    plan: Callable[[TaskSpec, int, WorkEnvironment], list[bytes]]
    open_session: Callable[[TaskSpec, LedgerPort, WorkEnvironment], Session]
    discard: Callable[[TaskSpec, LedgerPort, WorkEnvironment], None] | None = None
    finish: Callable[[TaskSpec, list[bytes], WorkEnvironment], list[str]] | None = None
    """The last touches after all ranges, given the keys at which they were cut; answers warnings."""
    prepare: Callable[[TaskSpec, WorkEnvironment], None] | None = None


def transfer_trade() -> Trade:
    """Syncs and verifications."""
    from entrepot.work import places, sync

    return Trade(places.preflight, sync.plan, sync.open_session, sync.discard, sync.finish, places.prepare)
