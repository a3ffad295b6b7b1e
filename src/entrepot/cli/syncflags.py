"""The options of a sync as flags, shared by its commands, and the way from flags to SyncOptions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, get_args

import click

from entrepot.model.errors import UsageError
from entrepot.model.options import PRESERVABLE, Compare, OnError, Symlinks, SyncOptions, Verify

from .groups import Command
from .terminal import warn
from .values import BANDWIDTH, MOMENT, SHARE, SIZE

_ORDER = "entrepot.filter.order"
_FILTERS = ("include", "exclude", "filter_from")
Decorator = Callable[[Any], Any]


class OrderedFilters(Command):
    """A command that remembers the order of its filter options: the first rule that matches decides."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        left = super().parse_args(ctx, list(args))
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            ctx.meta[_ORDER] = [param.name for param in order if param.name in _FILTERS]
        return left


def _choice(values: tuple[str, ...]) -> click.Choice[str]:
    return click.Choice(values)


COMPARE_FLAGS: list[Decorator] = [
    click.option("--compare", type=_choice(get_args(Compare)), default="auto", show_default=True,
                 help="What makes two entries equal; auto: the strongest evidence that both sides list."),
]  # fmt: skip

DELETE_FLAGS: list[Decorator] = [
    click.option("--delete", is_flag=True, help="Delete at DESTINATION what SOURCE does not have."),
    click.option("--delete-max-count", type=click.IntRange(min=0), default=0, metavar="N",
                 help="Refuse to delete more than N entries (0: no such cap)."),
    click.option("--delete-max-share", type=SHARE, default="0.5", show_default=True, metavar="SHARE",
                 help="Refuse to delete a larger share of DESTINATION (0.1 or 10%; 1 means no cap)."),
    click.option("--delete-excluded", is_flag=True, help="Delete also what the filters exclude."),
    click.option("--allow-empty-source", is_flag=True, help="Let --delete work when SOURCE is empty."),
]  # fmt: skip

FILTER_FLAGS: list[Decorator] = [
    click.option("--include", multiple=True, metavar="PATTERN",
                 help="rsync-style rule; the first rule that matches decides, in the order given."),
    click.option("--exclude", multiple=True, metavar="PATTERN", help="The same, to leave entries out."),
    click.option("--filter-from", multiple=True, metavar="FILE",
                 help="Rules from a file: + PATTERN and - PATTERN, one a line; # begins a comment."),
    click.option("--min-size", type=SIZE, default=0, metavar="SIZE", help="Leave out smaller ones (64K, 1.5G)."),
    click.option("--max-size", type=SIZE, default=0, metavar="SIZE", help="Leave out larger ones."),
    click.option("--modified-after", type=MOMENT, default=0, metavar="TIME",
                 help="Only what changed since (2026-11-21, 2026-11-21T08:30Z, 3d)."),
    click.option("--modified-before", type=MOMENT, default=0, metavar="TIME",
                 help="Only what changed before."),
    click.option("--list", "list_", metavar="FILE",
                 help="Only the keys in FILE, one a line or NUL-separated, relative to SOURCE."),
]  # fmt: skip

COPY_FLAGS: list[Decorator] = [
    click.option("--verify", type=_choice(get_args(Verify)), default="transfer", show_default=True,
                 help="Checksum in flight, or read the destination again too (full)."),
    click.option("--symlinks", type=_choice(get_args(Symlinks)), default="skip", show_default=True,
                 help="What to do with symbolic links of a file system."),
    click.option("--preserve", multiple=True, metavar="LIST",
                 help=f"Of {', '.join(PRESERVABLE)}; or all, none.  [default: mtime,mode,metadata]"),
    click.option("--storage-class", default="", metavar="NAME", help="Storage class of what is written."),
    click.option("--part-size", type=SIZE, default=0, metavar="SIZE",
                 help="Part size of large objects (0: chosen)."),
    click.option("--escape-names", is_flag=True,
                 help="Write keys that a file system cannot hold under reversible escaped names."),
    click.option("--no-server-side", is_flag=True, help="Never let the store copy by itself."),
    click.option("--fsync", is_flag=True, help="Flush every file and directory to disk."),
    click.option("-n", "--dry-run", is_flag=True, help="Show what would be done; change nothing."),
]  # fmt: skip

LIMIT_FLAGS: list[Decorator] = [
    click.option("--bandwidth", type=BANDWIDTH, default="0", metavar="RATE",
                 help="100M (bytes/s), or 08:00-18:00=10M,20M (windows in local time, then the rest)."),
    click.option("--max-requests", type=click.IntRange(min=0), default=0, metavar="N",
                 help="Requests per second to the stores (0: no limit)."),
    click.option("--concurrency", type=click.IntRange(min=0), default=0, metavar="N",
                 help="Connections per store and process (0: adaptive)."),
    click.option("--on-error", type=_choice(get_args(OnError)), default="skip", show_default=True,
                 help="Go on with the other entries, or stop at the first failure."),
    click.option("--max-failures", type=click.IntRange(min=0), default=0, metavar="N",
                 help="Stop after N failed entries (0: never)."),
    click.option("--report", default="", metavar="FILE",
                 help="Write the outcome of every entry to FILE (.jsonl, .csv, .parquet)."),
]  # fmt: skip


def _refuse(why: str, hint: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def check(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value and not ctx.resilient_parsing:
            raise UsageError(f"{param.opts[0]} {why}", hint=hint)

    return check


def _refused(name: str, why: str, hint: str, *, is_flag: bool = False) -> Decorator:
    own = name.strip("-").replace("-", "_") + "_refused"
    return click.option(name, own, hidden=True, is_eager=True, expose_value=False, is_flag=is_flag,
                        callback=_refuse(why, hint))  # fmt: skip


_NEEDS = "is for a server's task, and no server is named", "entrepot --server URL …, or set ENTREPOT_SERVER"
ONLY_ON_A_SERVER: list[Decorator] = [
    *(_refused(name, *_NEEDS) for name in ("--name", "--scope", "--priority", "--not-before", "--resource-spec")),
    _refused("--detach", *_NEEDS, is_flag=True),
]
_HERE = "means nothing for a server's task", "leave it out, or use --local to run it on this machine"
NOT_ON_A_SERVER: list[Decorator] = [_refused(name, *_HERE) for name in ("--processes", "--state-dir", "--manifest")]


def apply(*groups: list[Decorator]) -> Decorator:
    """All options of the groups, in the order of the help text."""

    def decorate(function: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


def options_from(ctx: click.Context, flags: dict[str, Any], **fixed: Any) -> SyncOptions:
    """SyncOptions from parsed flags. ``fixed`` values win. Raises UsageError."""
    values = {k: v for k, v in flags.items() if k in SyncOptions.__dataclass_fields__}
    if "delete" in flags:
        values["delete"] = "destination" if flags["delete"] else "none"
        _check_delete(flags)
    if "bandwidth" in flags:
        values["bandwidth"], values["bandwidth_windows"] = flags["bandwidth"]
    if "include" in flags:
        values["filters"] = _rules(ctx, flags)
    if "no_server_side" in flags:
        values["server_side"] = not flags["no_server_side"]
    if flags.get("preserve"):
        values["preserve"] = _preserve(flags["preserve"])
    else:
        values.pop("preserve", None)
    if flags.get("list_"):
        values["list"] = _existing(flags["list_"], "--list")
    if flags.get("report"):
        values["report"] = os.path.abspath(os.path.expanduser(flags["report"]))
    _check_ranges(flags)
    return SyncOptions(**(values | fixed))


def _check_delete(flags: dict[str, Any]) -> None:
    if not flags["delete"]:
        for name in ("delete_excluded", "allow_empty_source"):
            if flags[name]:
                raise UsageError(f"--{name.replace('_', '-')} means nothing without --delete", hint="add --delete")


def _check_ranges(flags: dict[str, Any]) -> None:
    if flags.get("max_size") and flags["min_size"] > flags["max_size"]:
        raise UsageError("--min-size is larger than --max-size: nothing would be left")
    if flags.get("modified_before") and flags["modified_after"] >= flags["modified_before"]:
        raise UsageError("--modified-after is not before --modified-before: nothing would be left")


def _rules(ctx: click.Context, flags: dict[str, Any]) -> tuple[str, ...]:
    given: dict[str, Iterator[str]] = {name: iter(flags[name]) for name in _FILTERS}
    rules: list[str] = []
    for name in ctx.meta.get(_ORDER, ()):
        text = next(given[name])
        if name == "filter_from":
            rules.extend(_file_rules(text))
        else:
            rules.append(("+ " if name == "include" else "- ") + text)
    if rules and all(rule.startswith("+") for rule in rules):
        warn("the filters only include, so nothing is left out", "add --exclude '*' after the last --include")
    return tuple(rules)


def _file_rules(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as fault:
        raise UsageError(f"--filter-from {path}: {fault.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(("#", ";")):
            continue
        if line[:2] not in ("+ ", "- ") or not line[2:].strip():
            raise UsageError(f"{path}, line {number}: {line!r} is no rule", hint="write '+ PATTERN' or '- PATTERN'")
        yield line


def _preserve(given: tuple[str, ...]) -> tuple[str, ...]:
    words = [word.strip() for text in given for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return ()
    if words == ["all"]:
        return PRESERVABLE
    for word in words:
        if word not in PRESERVABLE:
            raise UsageError(
                f"--preserve: {word!r} cannot be kept",
                hint="one of: " + ", ".join(PRESERVABLE) + ", all, none",
            )
    return tuple(name for name in PRESERVABLE if name in words)


def _existing(path: str, option: str) -> str:
    full = os.path.abspath(os.path.expanduser(path))
    if not os.path.isfile(full):
        what = "is a directory" if os.path.isdir(full) else "no such file"
        raise UsageError(f"{option} {path}: {what}")
    if not os.access(full, os.R_OK):
        raise UsageError(f"{option} {path}: may not be read")
    return full
