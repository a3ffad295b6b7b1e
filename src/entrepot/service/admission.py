"""Which waiting tasks begin now: by priority and age, as far as every limit that they fall under has room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from entrepot.ledger.queue import Waiting, covers
from entrepot.ledger.tasks import Place

from .claim import overlaps


@dataclass(slots=True, frozen=True)
class Running:
    """A task that a process drives, or is about to."""

    id: str
    scope: str
    connections: frozenset[str]
    destination: Place = ("", b"")
    writes: bool = True


@dataclass(slots=True, frozen=True)
class Limits:
    """``most_tasks`` at once; by connection; by scope (at and below it)."""

    most_tasks: int
    by_connection: Mapping[str, int] = field(default_factory=dict)
    by_scope: Mapping[str, int] = field(default_factory=dict)


def admit(waiting: Iterable[Waiting], running: Iterable[Running], limits: Limits) -> list[Waiting]:
    """Those that begin now, in order. A task that has to wait does not hold up those behind it."""
    busy = list(running)
    room = limits.most_tasks - len(busy)
    connections = Counter(name for task in busy for name in task.connections)
    scopes = Counter(above for task in busy for above in limits.by_scope if covers(above, task.scope))
    chosen: list[Waiting] = []
    taken = [task.destination for task in busy if task.writes and task.destination[0]]
    if room <= 0:
        return chosen
    for task in waiting:
        above = [scope for scope in limits.by_scope if covers(scope, task.scope)]
        if any(connections[name] >= limits.by_connection.get(name, 1 << 60) for name in task.connections):
            continue
        if any(scopes[scope] >= limits.by_scope[scope] for scope in above):
            continue
        if task.destination[0] and any(overlaps(place, task.destination) for place in taken):
            continue
        chosen.append(task)
        connections.update(task.connections)
        scopes.update(above)
        if task.writes and task.destination[0]:
            taken.append(task.destination)
        if len(chosen) >= room:
            break
    return chosen
