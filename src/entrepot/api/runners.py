"""What runners on other machines call: ask for a task, lease its ranges, report, ask again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from entrepot.control import runners
from entrepot.ledger import port_json
from entrepot.ledger.nodes import Offer
from entrepot.ledger.port import DirectPort
from entrepot.model.shard import Shard
from entrepot.runner.node import connection_out

from .auth import Ask, Asked
from .shape import Answer, Name, Short, Wanted, answer, moment, only_known

ASK_EVERY = 0.5
LEASE_EVERY = 0.1
MOST_WAIT = 20.0
_ID = r"^[0-9A-HJKMNP-TV-Z]{26}$"

router = APIRouter(prefix="/api/v1/runners", tags=["runners"], dependencies=[Depends(only_known)])

Node = Annotated[str, Path(pattern=_ID, description="the machine's own id")]
Task = Annotated[str, Path(pattern=_ID, description="the task's id")]
Runner = Annotated[str, Path(pattern=_ID, description="the id of one process")]
Number = Annotated[int, Field(ge=0, le=1 << 62)]
Bytes = Annotated[str, Field(max_length=16_384, description="bytes as base64")]
Open = dict[str, Any]


class Wishes(Wanted):
    """What a machine offers, and how long it waits for a task."""

    name: Short = ""
    processes: Annotated[int, Field(ge=1, le=1024)]
    volumes: Annotated[list[Name], Field(max_length=1000)] = []
    wait: Annotated[float, Field(ge=0, le=MOST_WAIT)] = 0.0


class Given(Answer):
    """A task to help with. The connections come with their secrets."""

    task_id: str
    token: str
    kind: str
    source: str
    destination: str
    options: str
    processes: int
    connections: dict[str, Open]


class Sign(Wanted):
    """A sign of life."""

    task_id: Annotated[str, Field(max_length=26, pattern=r"^[0-9A-HJKMNP-TV-Z]*$")] = ""


class LeaseWish(Wanted):
    """How many ranges a runner would like to have."""

    limit: Annotated[int, Field(ge=1, le=1000)]
    wait: Annotated[float, Field(ge=0, le=MOST_WAIT)] = 0.0


class Leased(Answer):
    """Ranges; ``finished`` when none will come any more."""

    shards: list[Open]
    finished: bool


class Said(Wanted):
    """A checkpoint."""

    progress: Annotated[list[Open], Field(max_length=10_000)] = []
    final: Annotated[list[Number], Field(max_length=10_000)] = []
    stats: dict[Annotated[str, Field(max_length=64)], Annotated[int, Field(ge=-(1 << 62), le=1 << 62)]] | None = None


class Ordered(Answer):
    """What to do next; ``token`` takes the place of the former one."""

    stop: str
    lost: list[int]
    hungry: int
    bandwidth: int | None
    token: str


class Back(Wanted):
    """Ranges that are given back."""

    shard_ids: Annotated[list[Number], Field(max_length=10_000)]


class Cut(Wanted):
    """Where to cut a range."""

    shard_id: Number
    fence: Number
    at: Annotated[list[Bytes], Field(min_length=1, max_length=10_000)]


class Range(Wanted):
    """A range of keys."""

    low: Bytes
    high: Bytes | None = None


class Half(Wanted):
    """A half-moved object."""

    key: Bytes
    size: Number
    evidence: Any
    part_size: Number
    upload_id: Annotated[str, Field(max_length=4096)] = ""
    staged: Annotated[str, Field(max_length=4096)] = ""
    done: Annotated[list[Number], Field(max_length=100_000)] = []
    started: Annotated[float, Field(ge=0)] = 0.0


class Key(Wanted):
    """One key."""

    key: Bytes


class Doomed(Wanted):
    """Asks for journaled deletes."""

    shard: Open
    limit: Annotated[int, Field(ge=1, le=100_000)]


class Last(Wanted):
    """Why a process ends."""

    outcome: Annotated[str, Field(max_length=16, pattern=r"^[a-z]*$")]
    text: Annotated[str, Field(max_length=100_000)] = ""


class Waiting:
    """How many processes of each machine and task wait for work here: a wish that others cut their ranges."""

    def __init__(self) -> None:
        self._count: Counter[tuple[str, str]] = Counter()

    def on(self, task_id: str) -> int:
        """The number for one task."""
        return sum(count for (_, task), count in self._count.items() if task == task_id)

    def change(self, node: str, task_id: str, by: int) -> int:
        """One more or one less; the number of this machine's now."""
        self._count[node, task_id] += by
        found = self._count[node, task_id]
        if not found:
            del self._count[node, task_id]
        return found


WAITING = Waiting()


class Machine(Answer):
    """A machine that lends its cores. ``seen`` is when it was last heard of."""

    id: str
    name: str
    processes: int
    task_id: str
    started: str
    seen: str


class Machines(Answer):
    """All of them."""

    runners: list[Machine]


@router.get("", response_model=Machines)
def overview(ask: Ask) -> Response:
    """The machines that help this server now."""
    rows = runners.overview(ask.control, ask.who)
    shown = [
        {
            "id": row.id,
            "name": row.name,
            "processes": row.processes,
            "task_id": row.task_id,
            "started": moment(row.started),
            "seen": moment(row.seen),
        }
        for row in rows
    ]
    return answer({"runners": shown})


@router.post("/{node}:ask", response_model=Given, responses={204: {"description": "nothing to do now"}})
async def ask_for_task(ask: Ask, node: Node, wishes: Wishes) -> Response:
    """A task that this machine can help with, as soon as there is one."""
    offer = Offer(node, wishes.name, ask.who.token_id, wishes.processes)
    volumes = frozenset(wishes.volumes)
    until = time.monotonic() + wishes.wait
    await to_thread.run_sync(runners.offered, ask.control, ask.who, offer)
    while True:
        found = await to_thread.run_sync(runners.ask, ask.control, ask.who, offer, volumes)
        if found is not None:
            return answer(_given(found))
        if time.monotonic() >= until or await ask.request.is_disconnected():
            return Response(status_code=204)
        await asyncio.sleep(ASK_EVERY)


def _given(found: runners.Assignment) -> dict[str, Any]:
    return {
        "task_id": found.task_id,
        "token": found.token.reveal(),
        "kind": found.kind,
        "source": found.source,
        "destination": found.destination,
        "options": found.options,
        "processes": found.processes,
        "connections": {name: connection_out(each) for name, each in found.connections.items()},
    }


@router.post("/{node}:beat", status_code=204)
def beat(ask: Ask, node: Node, sign: Sign) -> Response:
    """The machine is still there."""
    runners.beat(ask.control, ask.who, node, sign.task_id)
    return Response(status_code=204)


@router.post("/{node}:leave", status_code=204)
def leave(ask: Ask, node: Node) -> Response:
    """The machine goes."""
    runners.leave(ask.control, ask.who, node)
    return Response(status_code=204)


def _port(ask: Asked, task: str, runner: str) -> DirectPort:
    return runners.port(ask.control, ask.who, task, runner, lambda: WAITING.on(task))


@router.post("/tasks/{task}/{runner}:lease", response_model=Leased)
async def lease(ask: Ask, task: Task, runner: Runner, wish: LeaseWish) -> Response:
    """Ranges to work on; waits for some while there are none."""
    port = await to_thread.run_sync(_port, ask, task, runner)
    shards = await to_thread.run_sync(port.lease, wish.limit)
    finished = not shards and await to_thread.run_sync(port.finished)
    if not shards and not finished and wish.wait:
        shards, finished = await _wait_for_work(ask, port, task, wish)
    return answer({"shards": [port_json.shard_out(one) for one in shards], "finished": finished})


async def _wait_for_work(ask: Asked, port: DirectPort, task: str, wish: LeaseWish) -> tuple[list[Shard], bool]:
    node = ask.who.name
    until = time.monotonic() + wish.wait
    shards: list[Shard] = []
    finished = False
    await to_thread.run_sync(runners.waits, ask.control, ask.who, task, WAITING.change(node, task, 1))
    try:
        while not shards and not finished and time.monotonic() < until and not await ask.request.is_disconnected():
            await asyncio.sleep(LEASE_EVERY)
            shards = await to_thread.run_sync(port.lease, wish.limit)
            finished = not shards and await to_thread.run_sync(port.finished)
    finally:
        left = WAITING.change(node, task, -1)
    if shards or finished:
        await to_thread.run_sync(runners.waits, ask.control, ask.who, task, left)
    return shards, finished


@router.post("/tasks/{task}/{runner}:report", response_model=Ordered)
def report(ask: Ask, task: Task, runner: Runner, said: Said) -> Response:
    """A checkpoint of the ranges held; answers orders."""
    port = _port(ask, task, runner)
    orders = port.report([port_json.progress_in(one) for one in said.progress], said.final, said.stats)
    fresh = runners.renew(ask.control, ask.who, task, ask.who.scopes[0])
    return answer({**port_json.orders_out(orders), "token": fresh.reveal()})


@router.post("/tasks/{task}/{runner}:release", status_code=204)
def release(ask: Ask, task: Task, runner: Runner, back: Back) -> Response:
    """Give ranges back."""
    _port(ask, task, runner).release(back.shard_ids)
    return Response(status_code=204)


@router.post("/tasks/{task}/{runner}:split", status_code=204)
def split(ask: Ask, task: Task, runner: Runner, cut: Cut) -> Response:
    """Cut a range: others get the rest of it."""
    _port(ask, task, runner).split(cut.shard_id, cut.fence, [port_json.bytes_of(key, "at") for key in cut.at])
    return Response(status_code=204)


class Halves(Answer):
    """Half-moved objects."""

    partials: list[Open]


@router.post("/tasks/{task}/{runner}:partials", response_model=Halves)
def partials(ask: Ask, task: Task, runner: Runner, wanted: Range) -> Response:
    """Half-moved objects in a range."""
    high = None if wanted.high is None else port_json.bytes_of(wanted.high, "high")
    found = _port(ask, task, runner).partials(port_json.bytes_of(wanted.low, "low"), high)
    return answer({"partials": [port_json.partial_out(one) for one in found]})


@router.post("/tasks/{task}/{runner}:save_partial", status_code=204)
def save_partial(ask: Ask, task: Task, runner: Runner, half: Half) -> Response:
    """Remember a half-moved object."""
    _port(ask, task, runner).save_partial(port_json.partial_in(half.model_dump()))
    return Response(status_code=204)


@router.post("/tasks/{task}/{runner}:drop_partial", status_code=204)
def drop_partial(ask: Ask, task: Task, runner: Runner, wanted: Key) -> Response:
    """Forget a half-moved object."""
    _port(ask, task, runner).drop_partial(port_json.bytes_of(wanted.key))
    return Response(status_code=204)


class ToDelete(Answer):
    """Journaled deletes."""

    doomed: list[Any]


@router.post("/tasks/{task}/{runner}:next_doomed", response_model=ToDelete)
def next_doomed(ask: Ask, task: Task, runner: Runner, wanted: Doomed) -> Response:
    """Journaled deletes of a range."""
    found = _port(ask, task, runner).next_doomed(port_json.shard_in(wanted.shard), wanted.limit)
    return answer({"doomed": [port_json.doomed_out(one) for one in found]})


class Again(Wanted):
    """A range that is looked at again."""

    shard: Open


class FailedKeys(Answer):
    """Keys as base64."""

    keys: list[str]


@router.post("/tasks/{task}/{runner}:failed_keys", response_model=FailedKeys)
def failed_keys(ask: Ask, task: Task, runner: Runner, wanted: Again) -> Response:
    """The keys of a range that failed before."""
    found = _port(ask, task, runner).failed_keys(port_json.shard_in(wanted.shard))
    return answer({"keys": [port_json.text_of(key) for key in found]})


_OCTETS = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


@router.post("/tasks/{task}/{runner}:segment", status_code=204, openapi_extra=_OCTETS)
def segment(
    ask: Ask,
    task: Task,
    runner: Runner,  # noqa: ARG001
    name: Annotated[str, Query(max_length=64)],
    offset: Annotated[int, Query(ge=0, le=1 << 50)],
) -> Response:
    """A piece of a report segment, as the body."""
    runners.save_segment(ask.control, ask.who, task, name, offset, ask.body)
    return Response(status_code=204)


@router.post("/tasks/{task}/{runner}:farewell", status_code=204)
def farewell(ask: Ask, task: Task, runner: Runner, last: Last) -> Response:
    """The last word of a process."""
    runners.farewell(ask.control, ask.who, task, runner, last.outcome, last.text)
    return Response(status_code=204)
