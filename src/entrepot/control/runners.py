"""Runners on other machines: which task they are given, with what, and the ledger as they see it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from entrepot.ledger import events, nodes, places, tasks
from entrepot.ledger.database import Connection as Transaction
from entrepot.ledger.database import Row
from entrepot.ledger.nodes import Offer
from entrepot.ledger.port import DirectPort
from entrepot.model.connection import Connection
from entrepot.model.errors import AccessError, NoSuch, RequestError, UsageError
from entrepot.model.location import parse_location
from entrepot.model.options import SyncOptions
from entrepot.model.secret import Secret
from entrepot.security import tokens
from entrepot.security.identity import Action, Principal, allows

from .auditing import allow, record
from .connections import opened
from .context import Control
from .identify import RUNNERS

TOKEN_SECONDS = 3600
_SEGMENT = re.compile(r"[0-9]{8,20}-[0-9]{6,20}\.segment")


@dataclass(slots=True, frozen=True)
class Assignment:
    """A task for another machine. ``token`` is good for this task only, and not for long."""

    task_id: str
    token: Secret
    kind: str
    source: str
    destination: str
    options: str
    processes: int
    connections: dict[str, Connection]


def offered(control: Control, who: Principal, offer: Offer) -> None:
    """Note what a machine offers while it waits for a task."""
    allow(control, who, Action.RUNNER_WORK, offer.name)
    with control.pool.write() as c:
        nodes.forget_gone(c)
        nodes.seen(c, offer)


def ask(control: Control, who: Principal, offer: Offer, volumes: frozenset[str]) -> Assignment | None:
    """The most urgent task that this machine can help with; None when there is none now, and nothing is written."""
    allow(control, who, Action.RUNNER_WORK, offer.name)
    with control.pool.read() as c:
        found = next((row for row in nodes.work(c) if _fits(row, volumes)), None)
    if found is None:
        return None
    with control.pool.write() as c:
        nodes.seen(c, offer, found.id)
        record(c, who, "runner.assign", found.id, scope=found.scope, detail=offer.name)
        return _assign(control, c, found, offer)


def _fits(row: Row, volumes: frozenset[str]) -> bool:
    """Whether a machine that reaches these volumes can work on the task.

    Limits of the whole task are shared among processes that are known from the start: such tasks stay on the server.
    """
    options = SyncOptions.from_json(row.options)
    if options.bandwidth or options.bandwidth_windows or options.max_requests or options.list:
        return False
    ends = [parse_location(text) for text in (row.source, row.destination)]
    return all(end.scheme == "connection" or (end.scheme == "volume" and end.bucket in volumes) for end in ends)


def _assign(control: Control, c: Transaction, row: Row, offer: Offer) -> Assignment:
    ends = (
        (parse_location(row.source), row.source_connection),
        (parse_location(row.destination), row.destination_connection),
    )
    connections = {end.connection: _opened(control, c, stored) for end, stored in ends if end.connection}
    return Assignment(
        task_id=row.id,
        token=_token(control, row.id, row.scope, offer.id),
        kind=row.kind,
        source=row.source,
        destination=row.destination,
        options=row.options,
        processes=offer.processes + nodes.helpers(c, row.id) + len(os.sched_getaffinity(0)),
        connections=connections,
    )


def _opened(control: Control, c: Transaction, connection_id: str) -> Connection:
    row = places.connection(c, connection_id)
    if row is None:
        raise NoSuch("a connection of the task was removed", hint="cancel the task")
    return opened(control.keyring, row)


def _token(control: Control, task_id: str, scope: str, node_id: str) -> Secret:
    keys = control.keyring.derive(RUNNERS)
    key_id = control.keyring.current
    wanted = tokens.TaskToken(task_id=task_id, expires=int(control.wall()) + TOKEN_SECONDS, scope=scope, runner=node_id)
    return tokens.mint_task_token(wanted, key_id, keys[key_id])


def renew(control: Control, who: Principal, task_id: str, scope: str) -> Secret:
    """A fresh token for a runner that still works on its task."""
    _check(who, task_id)
    return _token(control, task_id, scope, who.name)


def beat(control: Control, who: Principal, node_id: str, task_id: str) -> None:
    """A sign of life of a machine. Raises NoSuch when it was forgotten."""
    allow(control, who, Action.RUNNER_WORK, node_id)
    with control.pool.write() as c:
        if not nodes.beat(c, node_id, who.token_id, task_id):
            raise NoSuch(f"no runner {node_id}", hint="ask for work again")


def leave(control: Control, who: Principal, node_id: str) -> None:
    """The machine goes."""
    allow(control, who, Action.RUNNER_WORK, node_id)
    with control.pool.write() as c:
        nodes.leave(c, node_id, who.token_id)


def overview(control: Control, who: Principal) -> list[Row]:
    """The machines that are there."""
    allow(control, who, Action.METRICS_READ, "runners")
    with control.pool.read() as c:
        return nodes.nodes(c)


def port(control: Control, who: Principal, task_id: str, runner_id: str, hungry: Callable[[], int]) -> DirectPort:
    """The ledger as one runner process of one task sees it. Raises AccessError for another task's token."""
    _check(who, task_id)
    with control.pool.read() as c:
        try:
            tasks.read(c, task_id)
        except UsageError:
            raise NoSuch(f"no task {task_id}") from None
    return DirectPort(control.pool.ledger(), task_id, runner_id, hungry=hungry)


def waits(control: Control, who: Principal, task_id: str, processes: int) -> None:
    """Tell the one who conducts the task how many processes of this machine have nothing to do."""
    _check(who, task_id)
    with control.pool.write() as c:
        nodes.waits(c, who.name, task_id, processes)


def _check(who: Principal, task_id: str) -> None:
    if who.task_id != task_id or not allows(who, Action.RUNNER_WORK, who.scopes[0]):
        raise AccessError("this is not the task that the token is for", hint="the runner asks for a new one")


def farewell(control: Control, who: Principal, task_id: str, runner_id: str, outcome: str, text: str) -> None:
    """The last word of a runner process; trouble is kept among the task's events."""
    _check(who, task_id)
    with control.pool.write() as c:
        if outcome not in {"", "stopped"}:
            events.append(c, task_id, "runner_died", f"{runner_id} on {who.name}: {text or outcome}")


def save_segment(control: Control, who: Principal, task_id: str, name: str, offset: int, piece: bytes) -> None:
    """Keep a piece of a report segment; a piece that comes twice is written over itself.

    Raises RequestError for a name that is none, or a hole.
    """
    _check(who, task_id)
    if not _SEGMENT.fullmatch(name):
        raise RequestError("name", "no name of a segment")
    folder = os.path.join(control.state_dir, "segments", task_id)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if offset > os.fstat(descriptor).st_size:
            raise RequestError("offset", "the piece before it is missing")
        os.pwrite(descriptor, piece, offset)
    finally:
        os.close(descriptor)
