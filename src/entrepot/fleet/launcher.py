"""How a fleet of runners is started and watched: five verbs that every engine answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True, frozen=True)
class Ended:
    """A runner that is no more. ``status`` is its exit code, or the negative signal number."""

    runner_id: str
    status: int


class Launcher(Protocol):
    """Starts runners; the ledger, not the launcher, decides what is done."""

    def capacity(self) -> int:
        """How many runners this engine can hold."""
        ...

    def launch(self, runner_id: str) -> None:
        """Start one runner."""
        ...

    def observe(self) -> list[Ended]:
        """Runners that ended since the last call."""
        ...

    def stop(self, runner_id: str, *, force: bool = False) -> None:
        """End a runner; ``force`` without any chance to clean up."""
        ...

    def logs(self, runner_id: str) -> str:
        """The last words of a runner, for a person."""
        ...
