"""What a session is given besides its shards: who it is, where it may keep state, clock and chance."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from entrepot.model.connection import Connection


def _no_connection(_name: str) -> Connection | None:
    return None


def _no_volume(_name: str) -> str | None:
    return None


@dataclass(slots=True, frozen=True)
class WorkEnvironment:
    """The surroundings of one session (or of a preflight or plan, where ``task_id`` may still be empty).

    ``processes`` is the number of runners of the task: limits of the whole task (bandwidth, requests/s)
    are shared among them. ``connection`` looks up a stored connection by name, ``volume`` the directory of a
    volume. ``clock`` is monotonic seconds, ``wall`` is Unix time in seconds.
    """

    task_id: str = ""
    runner_id: str = ""
    state_dir: str = ""
    processes: int = 1
    forebears: tuple[str, ...] = ()
    """Ids of dead tasks with the same destination, whose leftovers this one took over."""
    connection: Callable[[str], Connection | None] = _no_connection
    volume: Callable[[str], str | None] = _no_volume
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Random = field(default_factory=Random)
