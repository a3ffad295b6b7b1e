"""Machines that lend their cores: what they offer, which task they help with, when they were last heard of."""

from __future__ import annotations

from dataclasses import dataclass

from .database import Connection, Row
from .tasks import ACTIVE

GONE_SECONDS = 60.0
"""A machine that was not heard of for so long is forgotten."""
WAITING_SECONDS = 10.0
"""A wish for work is good for so long, unless it is said again."""
_ACTIVE = ", ".join(f"'{state}'" for state in ACTIVE)

_SEEN = """INSERT INTO runner_node (id, name, token_id, processes, task_id, started, seen)
    VALUES (:id, :name, :token, :processes, :task, now(), now())
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, processes = excluded.processes,
        task_id = excluded.task_id, waiting = 0, seen = excluded.seen"""

_BEAT = "UPDATE runner_node SET seen = now(), task_id = :task WHERE id = :id AND token_id = :token"

# Only a task that some process of the server drives: that one goes from phase to phase.
_WORK = f"""SELECT id, kind, source, destination, options, source_connection, destination_connection, resumed, scope,
        (SELECT count(*) FROM shard WHERE shard.task_id = task.id AND shard.state = 'queued') AS waiting
    FROM task WHERE state IN ({_ACTIVE}) AND family <> '' AND stop = '' AND owner_pid <> 0
        AND owner_seen > now() - :fresh
        AND EXISTS (SELECT 1 FROM shard WHERE shard.task_id = task.id AND shard.state IN ('queued', 'leased'))
    ORDER BY priority DESC, id LIMIT 50"""

_HELPERS = "SELECT coalesce(sum(processes), 0) FROM runner_node WHERE task_id = :task AND seen > now() - :fresh"

_WAITS = "UPDATE runner_node SET waiting = :waiting, seen = now() WHERE id = :id AND task_id = :task"
_WAITING = """SELECT coalesce(sum(waiting), 0) FROM runner_node
    WHERE task_id = :task AND waiting > 0 AND seen > now() - :fresh"""

_NODES = "SELECT *, now() - seen AS age FROM runner_node WHERE seen > now() - :fresh ORDER BY started, id LIMIT 1000"


@dataclass(slots=True, frozen=True)
class Offer:
    """What a machine says of itself."""

    id: str
    name: str
    token_id: str
    processes: int


def seen(c: Connection, offer: Offer, task_id: str = "") -> None:
    """Note that a machine is there, and the task that it helps with."""
    about = {"id": offer.id, "name": offer.name, "token": offer.token_id, "processes": offer.processes}
    c.change(_SEEN, {**about, "task": task_id})


def beat(c: Connection, node_id: str, token_id: str, task_id: str) -> bool:
    """A sign of life; False when the machine is not known (any more)."""
    return c.change(_BEAT, {"id": node_id, "token": token_id, "task": task_id}) > 0


def leave(c: Connection, node_id: str, token_id: str) -> None:
    """The machine goes."""
    c.change("DELETE FROM runner_node WHERE id = :id AND token_id = :token", {"id": node_id, "token": token_id})


def forget_gone(c: Connection) -> None:
    """Forget machines that were not heard of for long."""
    c.change("DELETE FROM runner_node WHERE seen < now() - :gone", {"gone": GONE_SECONDS})


def work(c: Connection, fresh: float = GONE_SECONDS) -> list[Row]:
    """Tasks under way that more hands could help with, the most urgent first."""
    return c.execute(_WORK, {"fresh": fresh})


def helpers(c: Connection, task_id: str) -> int:
    """Processes on other machines that help with a task."""
    return int(c.value(_HELPERS, {"task": task_id, "fresh": GONE_SECONDS}))


def waits(c: Connection, node_id: str, task_id: str, processes: int) -> None:
    """So many processes of a machine have nothing to do at this moment."""
    c.change(_WAITS, {"id": node_id, "task": task_id, "waiting": processes})


def waiting(c: Connection, task_id: str) -> int:
    """Processes on other machines that wait for ranges of a task."""
    return int(c.value(_WAITING, {"task": task_id, "fresh": WAITING_SECONDS}))


def nodes(c: Connection) -> list[Row]:
    """The machines that are there; ``age`` is seconds since they were last heard of."""
    return c.execute(_NODES, {"fresh": GONE_SECONDS})
