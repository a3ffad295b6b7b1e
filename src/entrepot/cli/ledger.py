"""``entrepot ledger``: check, repair, recover, back up and restore what a machine or a server remembers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from entrepot.model.errors import UsageError

from .exits import OK, SOME_FAILED
from .groups import Verbs
from .terminal import complain, out, out_json, say
from .words import count_text, size_text

_PLACE: list[Callable[[Any], Any]] = [
    click.option("--data", default="", envvar="ENTREPOT_DATA", metavar="DIR", help="Data directory of a server."),
    click.option("--state-dir", default="", metavar="DIR",
                 help="State directory of this machine's runs, if it is no server's (ENTREPOT_STATE_DIR)."),
    click.option("--json", "as_json", is_flag=True, help="JSON instead of text."),
]  # fmt: skip
_DATABASE = click.option(
    "--database-url", default="", envvar="ENTREPOT_DATABASE_URL", metavar="URL",
    help="Where the ledger is instead of DATA/ledger.db.",
)  # fmt: skip


def _placed(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_PLACE):
        command = option(command)
    return command


@click.group("ledger", cls=Verbs)
def command() -> None:
    """Check, recover, back up and restore the ledger of this machine or of a server."""


def _file(data: str, state_dir: str) -> str:
    from entrepot.service.statedir import ledger_place, state_directory

    if data and not state_dir:
        return ledger_place(os.path.abspath(data))
    return ledger_place(state_directory(state_dir))


def _keys(data: str, state_dir: str) -> str:
    from entrepot.ledger.copies import KEYS

    return os.path.join(os.path.abspath(data), KEYS) if data and not state_dir else ""


@command.command("check")
@_placed
@_DATABASE
@click.option("--repair", is_flag=True, help="Set wrong figures and lists right, remove what belongs to nothing.")
@click.option("--anew", is_flag=True, help="Have unfinished tasks wait and look at everything again.")
def check(*, data: str, state_dir: str, as_json: bool, database_url: str, repair: bool, anew: bool) -> int:
    """Look at the whole ledger: is it undamaged, and does every task say what its ranges say?"""
    from entrepot.ledger import checking

    place = database_url if database_url and not state_dir else _file(data, state_dir)
    found = checking.check(place)
    changed = 0
    if (repair or anew) and not found.damaged:
        changed = _change(place, anew=anew)
        found = checking.check(place)
    if as_json:
        rows = [{"kind": one.kind, "subject": one.subject, "text": one.text} for one in found.findings]
        about = {"ledger": found.name, "schema": found.revision, "tasks": found.tasks, "changed": changed}
        out_json({**about, "findings": rows})
    else:
        for one in found.findings:
            out(f"{one.kind:<9} {one.subject}: {one.text}")
        if changed:
            say(f"{count_text(changed)} rows and tasks were set right")
        if not found.findings:
            out(f"{found.name} is whole: schema {found.revision}, {count_text(found.tasks)} tasks")
    bad = [one for one in found.findings if one.kind != "schema"]
    if bad:
        way = "entrepot ledger recover" if found.damaged else "entrepot ledger check --repair"
        complain(f"the ledger {found.name} is not as it should be", way)
        return SOME_FAILED
    return OK


def _change(place: str, *, anew: bool) -> int:
    from entrepot.ledger import anew as beginning
    from entrepot.ledger import checking
    from entrepot.ledger.database import open_ledger

    ledger = open_ledger(place)
    try:
        changed = 0
        if anew:
            with ledger.write() as c:
                changed = len(beginning.all_unfinished(c, "restored: it looks at everything again"))
        return changed + checking.repair(ledger)
    finally:
        ledger.close()


@command.command("recover")
@_placed
@click.option("--force", is_flag=True, help="Also if no damage is found.")
def recover(*, data: str, state_dir: str, as_json: bool, force: bool) -> int:
    """Save what can be read of a damaged ledger into a new one. Stop the server and all runs before."""
    from entrepot.ledger import salvage

    done = salvage.recover(_file(data, state_dir), force=force)
    if as_json:
        about = {"ledger": done.path, "kept_as": done.kept_as, "rows": done.rows, "gaps": done.gaps}
        out_json({**about, "refused": done.refused, "waiting": done.waiting})
    else:
        for line in salvage.summary(done):
            out(line)
    return OK if done.whole else SOME_FAILED


@command.command("backup")
@click.argument("directory", metavar="DIRECTORY")
@_placed
@click.option("--with-keys", is_flag=True, help="Also the keys that open a server's secrets: keep it safe.")
def backup(directory: str, *, data: str, state_dir: str, as_json: bool, with_keys: bool) -> int:
    """Copy the ledger as it is at one moment into a new DIRECTORY. The server may run meanwhile."""
    from entrepot.ledger import copies

    keys = _keys(data, state_dir)
    if with_keys and not keys:
        raise UsageError("only a server has keys", hint="name its data directory by --data")
    done = copies.backup(_file(data, state_dir), directory, keys if with_keys else "")
    if as_json:
        out_json({"path": done.path, "bytes": done.size, "keys": done.keys})
    else:
        out(f"{done.path} holds the ledger ({size_text(done.size)}){' and its keys' if done.keys else ''}")
    return OK


@command.command("restore")
@click.argument("backup_", metavar="BACKUP")
@_placed
@click.option("--replace", is_flag=True, help="Also if there is a ledger: it is kept beside the restored one.")
def restore(backup_: str, *, data: str, state_dir: str, as_json: bool, replace: bool) -> int:
    """Make a BACKUP the ledger. Stop the server and all runs before."""
    from entrepot.ledger import copies

    done = copies.restore(backup_, _file(data, state_dir), _keys(data, state_dir), replace=replace)
    if as_json:
        about = {"ledger": done.path, "kept_as": done.kept_as, "keys": done.keys, "waiting": done.waiting}
        out_json(about)
        return OK
    out(f"{done.path} is restored{', with its keys' if done.keys else ''}")
    if done.kept_as:
        out(f"the former ledger is kept as {done.kept_as}")
    if done.waiting:
        out(f"{done.waiting} unfinished tasks wait: each looks at everything again when it is resumed")
    return OK


@command.command("audit")
@_placed
@_DATABASE
@click.option("--known", default="", metavar="ROW:HASH", help="The newest row of an earlier check: then a cut shows.")
def audit(*, data: str, state_dir: str, as_json: bool, database_url: str, known: str) -> int:
    """Check that nothing in a server's audit log was changed, removed or put in between."""
    from entrepot.ledger import trail
    from entrepot.ledger.database import open_ledger

    row, _, row_hash = known.partition(":")
    if known and not (row.isascii() and row.isdigit() and len(row) < 19 and row_hash):
        raise UsageError(f"--known is {known!r}", hint="write ROW:HASH, as an earlier check printed it")
    ledger = open_ledger(database_url if database_url and not state_dir else _file(data, state_dir))
    try:
        found = trail.verify(ledger, (int(row), row_hash) if known else None)
    finally:
        ledger.close()
    if as_json:
        about = {"good": found.good, "rows": found.rows, "head": found.head, "head_hash": found.head_hash}
        out_json({**about, "broken": found.broken, "reason": found.reason})
    elif found.good:
        out(f"{count_text(found.rows)} rows of the audit are as they were written; the newest is")
        out(f"{found.head}:{found.head_hash}")
    if not found.good:
        complain(f"row {found.broken} of the audit: {found.reason}", "compare with a backup; find out who can write")
        return SOME_FAILED
    return OK
