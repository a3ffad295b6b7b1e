"""From the flags of a sync to the options of a request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from entrepot.cli.syncflags import options_from
from entrepot.cli.values import MOMENT
from entrepot.cli.words import utc_text
from entrepot.model.errors import UsageError
from entrepot.model.options import SyncOptions

_MOMENTS = frozenset({"modified_after", "modified_before"})

QUEUE_FLAGS: list[Callable[[Any], Any]] = [
    click.option("--name", default="", metavar="NAME", help="What lists call the task."),
    click.option("--scope", default=None, metavar="SCOPE", help="Where it belongs: a path of names, such as team/a."),
    click.option("--priority", type=click.IntRange(-1000, 1000), default=0, metavar="N", help="Higher goes first."),
    click.option("--resource-spec", default="", metavar="SPEC", help="Cores and memory, such as 4Core_8GiB."),
]
START_FLAGS: list[Callable[[Any], Any]] = [
    click.option("--not-before", type=MOMENT, default=0, metavar="TIME",
                 help="Begin then at the earliest (2026-11-22T02:00, in local time if no zone is named)."),
    click.option("--detach", is_flag=True, help="Put it into the queue and leave; print its id."),
]  # fmt: skip


def request_options(ctx: click.Context, flags: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    """What of the options is not as usual, as a request has it. Raises UsageError."""
    flags = dict(flags)
    listed, report = flags.pop("list_", None) or "", flags.pop("report", "")
    if listed and not listed.startswith("volume://"):
        raise UsageError(
            f"--list {listed}: a server reads no file of this machine", hint="write volume://NAME/path/to/keys.txt"
        )
    options, usual = options_from(ctx, flags, **fixed), SyncOptions()
    found: dict[str, Any] = {}
    for one in fields(SyncOptions):
        value = getattr(options, one.name)
        if value != getattr(usual, one.name):
            found[one.name] = utc_text(value) if one.name in _MOMENTS else value
    if listed:
        found["list"] = listed
    if report:
        found["report"] = True
    if flags.get("resource_spec"):
        found["resource_spec"] = flags["resource_spec"]
    return found


def not_before(flags: dict[str, Any]) -> str | None:
    """The earliest start as a request has it."""
    return utc_text(flags["not_before"]) if flags["not_before"] else None


def option_text(name: str, value: Any) -> str:
    """``--delete-max-count = 5``, for showing."""
    return f"{name.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}"
