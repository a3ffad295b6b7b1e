"""Syncs: from a request to a task in the queue. Schedules and other families place their tasks here too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from entrepot.ledger import queue, tasks
from entrepot.ledger.database import Connection
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.ledger.tasks import NewTask
from entrepot.model.errors import RequestError, StoreError
from entrepot.model.task import TaskKind, TaskSpec
from entrepot.security.identity import Action, Principal

from . import syncoptions
from .auditing import change
from .context import Control
from .locations import Spot, spot
from .once import NEVER, Once
from .scoping import scope_of
from .tasks import Detail, detail_of

FAMILY: Final = "native"
PRIORITIES: Final = (-100, 100)
LIST_MAX: Final = 64 << 20
"""Bytes of the longest file of keys."""
_FIELDS: Final = ("name", "kind", "source", "destination", "options", "scope", "priority", "not_before")


@dataclass(slots=True, frozen=True)
class Sync:
    """What is wanted. ``options`` are as a request writes them; ``not_before`` is Unix time."""

    source: str
    destination: str
    name: str = ""
    kind: TaskKind = "sync"
    options: Mapping[str, Any] = field(default_factory=dict)
    scope: str | None = None
    priority: int = 0
    not_before: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As a schedule keeps it."""
        return {name: getattr(self, name) for name in _FIELDS}


@dataclass(slots=True, frozen=True)
class Checked:
    """A request that could be run now: its places exist and may be used by whoever asks."""

    sync: Sync
    scope: str
    source: Spot
    destination: Spot
    read: syncoptions.Read
    list: Spot | None


def create(control: Control, who: Principal, wanted: Sync, once: Once = NEVER, *, preview: bool = False) -> Detail:
    """Put a sync into the queue; its task. ``preview``: only look, and tell what would be done."""
    scope = scope_of(who, Action.TASK_CREATE, wanted.scope)
    subject = f"sync {wanted.name}".rstrip()
    with change(control, who, Action.TASK_CREATE, subject, scope) as c:
        once.begin(c, who)
        task_id = place(control, c, who, check(c, who, scope, wanted, preview=preview))
        made = detail_of(c, task_id)
        once.keep(c, who, made)
    control.wake()
    return made


def check(c: Connection, who: Principal, scope: str, wanted: Sync, *, preview: bool = False) -> Checked:
    """See that ``who`` could run the request in ``scope`` now. Raises RequestError that names the field."""
    if wanted.kind not in ("sync", "verify"):
        raise RequestError("kind", "no such kind", hint="sync or verify")
    if not PRIORITIES[0] <= wanted.priority <= PRIORITIES[1]:
        raise RequestError("priority", f"must be from {PRIORITIES[0]} to {PRIORITIES[1]}")
    options = dict(wanted.options)
    if preview:
        options["dry_run"] = True
    read = syncoptions.read(options)
    writing = wanted.kind == "sync" and not read.options.dry_run
    source = spot(c, who, scope, "source", wanted.source)
    destination = spot(c, who, scope, "destination", wanted.destination, writing=writing)
    if source.text == destination.text:
        raise RequestError("destination", "the same place as the source")
    listed = spot(c, who, scope, "options.list", read.list) if read.list else None
    if listed is not None and listed.volume is None:
        raise RequestError("options.list", "no file in a volume", hint="write volume://NAME/path/to/keys.txt")
    return Checked(wanted, scope, source, destination, read, listed)


def place(
    control: Control, c: Connection, who: Principal, checked: Checked, *, schedule_id: str = "", task_id: str = ""
) -> str:
    """Insert the task, in the caller's transaction; ring ``control.wake`` after it. Answers the task's id."""
    sync, read = checked.sync, checked.read
    queue.check_room(c, checked.scope)
    task_id = task_id or new_id()
    options = read.options
    if checked.list is not None:
        options = options.with_(list=kept_list(control, task_id, checked.list))
    request: dict[str, Any] = {"options": read.plain}
    if read.resource_spec:
        request["resource_spec"] = read.resource_spec
    filing = Filing(
        name=sync.name,
        scope=checked.scope,
        family=FAMILY,
        type=sync.kind,
        creator=who.name,
        request=json.dumps(request, sort_keys=True),
        source_connection=checked.source.connection_id,
        destination_connection=checked.destination.connection_id,
        priority=sync.priority,
        not_before=sync.not_before,
        schedule_id=schedule_id,
    )
    spec = TaskSpec(sync.kind, checked.source.text, checked.destination.text, options.to_json())
    tasks.create(c, NewTask(id=task_id, spec=spec, spec_hash="", filing=filing))
    return task_id


def from_json(values: Mapping[str, Any]) -> Sync:
    """A request that was kept (``Sync.to_json``), read anew. Raises RequestError for what it must not hold."""
    for name in values:
        if name not in _FIELDS:
            raise RequestError(str(name)[:64], "there is no such field")
    for name in ("source", "destination"):
        if not isinstance(values.get(name), str):
            raise RequestError(name, "it is missing")
    options = values.get("options") or {}
    if not isinstance(options, Mapping):
        raise RequestError("options", "must be an object")
    found = {name: value for name, value in values.items() if value is not None and name != "options"}
    for name, kind in (("name", str), ("kind", str), ("scope", str), ("priority", int)):
        if name in found and (not isinstance(found[name], kind) or isinstance(found[name], bool)):
            raise RequestError(name, "of the wrong type")
    return Sync(options=options, **found)


def kept_list(control: Control, task_id: str, where: Spot) -> str:
    """A copy of a file of keys: what is in the volume later changes nothing, and no link leads elsewhere."""
    from entrepot.storage.posix.store import PosixStore

    assert where.volume is not None
    folder = os.path.join(control.state_dir, "lists")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"{task_id}{'.csv' if where.text.rstrip('/').endswith('.csv') else '.txt'}")
    try:
        store = PosixStore(os.fsencode(where.volume.path))
        key = where.location.prefix.rstrip(b"/")
        found = store.head(key)
        if found.size > LIST_MAX:
            raise RequestError("options.list", f"no file of at most {LIST_MAX >> 20} MiB")
        data = store.read(key)
    except StoreError as fault:
        # Its own words may name the directory behind the volume.
        raise RequestError("options.list", f"the file cannot be read ({fault.failure})") from None
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
    return path
