"""Volumes: directories of the server that an administrator has opened by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from entrepot.ledger import places
from entrepot.ledger.database import Row
from entrepot.ledger.ids import new_id
from entrepot.ledger.places import StoredVolume
from entrepot.model.errors import Conflict, NoSuch, WrongState
from entrepot.security import volumes as rules
from entrepot.security.identity import Action, Principal, allows, covers, visible_scopes

from .auditing import change
from .context import Control
from .once import NEVER, Once
from .scoping import checked

MOST: Final = 10_000


@dataclass(slots=True, frozen=True)
class Volume:
    """An opened directory. ``path`` is empty for those who may not open volumes themselves."""

    id: str
    name: str
    path: str
    scope: str
    read_only: bool
    creator: str
    created: float


def create(
    control: Control,
    who: Principal,
    name: str,
    path: str,
    *,
    scope: str = "",
    read_only: bool = False,
    once: Once = NEVER,
) -> Volume:
    """Open a directory that exists, for tasks in ``scope`` and below. Only for who may do so everywhere."""
    with change(control, who, Action.VOLUME_WRITE, f"volume {name}") as c:
        rules.check_name(name)
        root = rules.open_root(path, outside=control.settings.data)
        once.begin(c, who)
        if places.volume(c, name) is not None:
            raise Conflict(f"a volume named {name!r} exists already", hint="choose another name, or remove it")
        places.add_volume(c, StoredVolume(new_id(), name, root, checked(scope), read_only, who.name))
        made = _volume(who, cast(Row, places.volume(c, name)))
        once.keep(c, who, made)
    return made


def read(control: Control, who: Principal, name: str) -> Volume:
    """One volume."""
    with control.pool.read() as c:
        row = places.volume(c, name)
    if row is None or not _visible(who, row):
        raise NoSuch(f"there is no volume {name!r}")
    return _volume(who, row)


def listing(control: Control, who: Principal, after: str = "", limit: int = 100) -> list[Volume]:
    """Volumes that ``who`` may see, by name."""
    found: list[Volume] = []
    with control.pool.read() as c:
        while len(found) < limit:
            rows = places.volumes(c, after, limit)
            found += [_volume(who, row) for row in rows if _visible(who, row)]
            if len(rows) < limit:
                break
            after = rows[-1].name
    return found[:limit]


def remove(control: Control, who: Principal, name: str) -> None:
    """Close a volume; its files stay. Raises WrongState while a task that is not done uses it."""
    with change(control, who, Action.VOLUME_WRITE, f"volume {name} (removed)") as c:
        row = places.volume(c, name, to_change=True)
        if row is None:
            raise NoSuch(f"there is no volume {name!r}")
        user = places.volume_user(c, name)
        if user:
            raise WrongState(f"task {user} uses the volume {name!r}", hint="wait for it, or cancel it first")
        places.remove_volume(c, row.id)


def _visible(who: Principal, row: Row) -> bool:
    scopes = visible_scopes(who, Action.VOLUME_READ)
    return any(covers(row.scope, scope) or covers(scope, row.scope) for scope in scopes)


def _volume(who: Principal, row: Row) -> Volume:
    path = row.path if allows(who, Action.VOLUME_WRITE, "") else ""
    return Volume(row.id, row.name, path, row.scope, bool(row.read_only), row.creator, row.created)
