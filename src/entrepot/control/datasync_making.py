"""From the wish for a datasync task to its rows: ends that may be used, legs for several sources, hidden keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from entrepot.ledger import legs, places, tasks
from entrepot.ledger.datasyncs import FAMILY
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.model.errors import RequestError
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec

from . import syncoptions
from .connections import seal
from .datasync_ends import End, Found, Surroundings, Third, below, bucket, third, volume
from .locations import spot
from .syncs import kept_list

TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "AOSSTOFS": ("bucket", "volume"),
    "FSTOAOSS": ("volume", "bucket"),
    "THIRDTOAOSS": ("third", "bucket"),
    "THIRDTOFS": ("third", "volume"),
    "AOSSTOAOSS": ("bucket", "bucket"),
    "FSTOFS": ("volume", "volume"),
}
"""What each type of task moves: from where, to where."""

SOURCES_MAX: Final = 100
LEG: Final = "leg"
"""The family of legs: no list shows it."""
NOWHERE: Final = End()


@dataclass(slots=True, frozen=True)
class NewJob:
    """What is wanted."""

    name: str
    type: str
    sources: tuple[End, ...] = ()
    destination: End = NOWHERE
    third: Third | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def make(about: Surroundings, tool_id: str, tenant: str, new: NewJob, task_id: str) -> None:
    """Write the task, its legs and its hidden connection. Raises RequestError that names the field."""
    from_kind, to_kind = TYPES[new.type]
    hidden_name = f"third-{task_id.lower()}"
    if from_kind == "third":
        sources = [_third(about, new, hidden_name)]
    else:
        sources = _sources(about, new, _END[from_kind])
    destination = _END[to_kind](about, "dst_info", new.destination, writing=True)
    request: dict[str, Any] = {
        "uid": tool_id,
        "tenant": tenant,
        "src_info": [asdict(one.end) for one in sources],
        "dst_info": asdict(destination.end),
    }
    if from_kind == "third" and new.third is not None:
        request["src_third_info"] = new.third.shown()
    options = _options(about, new, task_id, request)
    text = json.dumps(request, ensure_ascii=False)
    targets = _targets(sources, destination)
    source_id = sources[0].connection_id
    if sources[0].hidden is not None:
        stored = seal(
            about.control.keyring, sources[0].hidden, scope=about.scope, task_id=task_id, creator=about.who.name
        )
        places.add_connection(about.c, stored)
        source_id = stored.id
    filing = Filing(name=new.name, scope=about.scope, family=FAMILY, type=new.type, creator=about.who.name)
    whole = tasks.NewTask(
        task_id,
        TaskSpec("sync", ", ".join(one.location for one in sources), destination.location, options.to_json()),
        "",
        filing=replace(filing, request=text),
    )
    ends = [
        replace(
            filing,
            family=LEG if len(sources) > 1 else FAMILY,
            type="" if len(sources) > 1 else new.type,
            source_connection=source_id if one.hidden else one.connection_id,
            destination_connection=destination.connection_id,
        )
        for one in sources
    ]
    if len(sources) == 1:
        tasks.create(about.c, replace(whole, filing=replace(ends[0], request=text)))
        return
    born = about.control.wall()
    parts = [
        tasks.NewTask(
            # Ids grow in the order of the sources.
            new_id(lambda number=number: born + number / 1000),  # type: ignore[misc]
            TaskSpec("sync", source.location, target, options.to_json()),
            "",
            filing=end,
        )
        for number, (source, target, end) in enumerate(zip(sources, targets, ends, strict=True))
    ]
    legs.create(about.c, whole, parts)


_END: Final[Mapping[str, Callable[..., Found]]] = {"bucket": bucket, "volume": volume}


def _sources(about: Surroundings, new: NewJob, end: Callable[..., Found]) -> list[Found]:
    if new.third is not None and new.third != Third():
        raise RequestError("src_third_info", f"a task of type {new.type} has none", hint="take a type THIRDTO…")
    if not new.sources:
        raise RequestError("src_info", "missing", hint="at least one source")
    if len(new.sources) > SOURCES_MAX:
        raise RequestError("src_info", f"at most {SOURCES_MAX} sources")
    return [end(about, f"src_info.{number}", one, writing=False) for number, one in enumerate(new.sources)]


def _third(about: Surroundings, new: NewJob, hidden_name: str) -> Found:
    if any(one != NOWHERE for one in new.sources):
        raise RequestError("src_info", "a third-party source is named in src_third_info", hint="leave src_info out")
    if new.third is None:
        raise RequestError("src_third_info", "missing", hint="type, host, ak, sk and path of the source")
    return third(about, "src_third_info", new.third, hidden_name)


def _targets(sources: Sequence[Found], destination: Found) -> list[str]:
    """One source goes right to the destination; several each into a directory with the last part of their name."""
    if len(sources) == 1:
        return [destination.location]
    names = [(one.end.prefix or one.end.name).rpartition("/")[2] for one in sources]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise RequestError(
                f"src_info.{number}",
                f"two sources would both become {name!r} at the destination",
                hint="make two tasks",
            )
    return [below(destination, name) for name in names]


def _options(about: Surroundings, new: NewJob, task_id: str, request: dict[str, Any]) -> SyncOptions:
    """The options of the engine; as they were given they go into ``request``."""
    read = syncoptions.read(new.options, lenient=True)
    request["options"] = read.plain
    if read.resource_spec:
        request["resource_spec"] = read.resource_spec
    if not read.list:
        return read.options
    listed = spot(about.c, about.who, about.scope, "options.list", read.list)
    if listed.volume is None:
        raise RequestError("options.list", "no file in a volume", hint="write volume://NAME/path/to/keys.txt")
    return read.options.with_(list=kept_list(about.control, task_id, listed))
