"""``entrepot cp``: one object or file to a name of its own, or everything below a prefix."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import click

from entrepot.model.errors import NotFoundError, PlaceError, UsageError
from entrepot.model.location import Location

from .places import PLACE, full_place, open_store, read_place
from .running import RUN_FLAGS, run_task
from .syncflags import COPY_FLAGS, FILTER_FLAGS, LIMIT_FLAGS, OrderedFilters, apply, options_from

_HELP = """Copy SOURCE to DESTINATION, whatever is there already.

SOURCE may be one object or file: then DESTINATION is its new name, or where it goes when DESTINATION ends
in a slash, is a bucket, or is an existing directory. If SOURCE is a prefix or directory, everything below
it is copied (as sync --compare always; nothing is deleted).

\b
  entrepot cp s3://bucket/a/photo.jpg .
  entrepot cp ./photo.jpg s3://bucket/photos/
  entrepot cp s3://bucket/a/photo.jpg lab:other/renamed.jpg
"""


@click.command("cp", cls=OrderedFilters, help=_HELP)
@click.argument("source", type=PLACE)
@click.argument("destination", type=PLACE)
@apply(FILTER_FLAGS, COPY_FLAGS, LIMIT_FLAGS, RUN_FLAGS)
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str, **flags: Any) -> int:
    """Run a copy."""
    options = options_from(ctx, flags, compare="always")
    run = {name: flags[name] for name in ("processes", "state_dir", "as_json_", "quiet", "no_progress")}
    read_place(destination, directory=False)
    if flags["list_"] or not is_single(source):
        return run_task("sync", full_place(source), full_place(destination), options, **run)
    if options.filters:
        raise UsageError("filters mean nothing for one object", hint="leave them out, or name the prefix above it")
    if not run["processes"]:
        run["processes"] = 1
    plain = os.path.realpath(os.path.expanduser(source)) if _is_path(source) else source
    return run_task("sync", plain, target_of(source, destination), options, **run, single=True)


def is_single(source: str) -> bool:
    """Whether SOURCE is one object or file. Raises PlaceError when nothing is there."""
    location = read_place(source, directory=False)
    if location.is_file:
        path = location.prefix
        if not os.path.exists(path):
            raise PlaceError(f"source: {source}: no such file or directory")
        if os.path.isdir(path):
            return False
        if not os.path.isfile(path):
            raise PlaceError(f"source: {source} is neither a file nor a directory")
        return True
    head, slash, name = location.prefix.rpartition(b"/")
    if name:
        try:
            open_store(replace(location, prefix=head + slash)).head(name)
            return True
        except NotFoundError:
            pass
    _check_prefix(location, source)
    return False


def _check_prefix(location: Location, source: str) -> None:
    prefix = location.prefix
    store = open_store(replace(location, prefix=prefix + b"/" if prefix and prefix[-1:] != b"/" else prefix))
    for rows, prefixes in store.children(b""):
        if rows or prefixes:
            return
    store.check()
    if prefix:
        raise PlaceError(f"source: {source}: nothing is there", hint="entrepot ls shows what is")


def target_of(source: str, destination: str) -> str:
    """The full name at the destination for one object or file."""
    name = os.path.basename(source.rstrip("/") if _is_path(source) else source)
    location = read_place(destination, directory=False)
    if location.is_file:
        path = os.fsdecode(location.prefix)
        into = destination.endswith(("/", "/.", "/..")) or destination in {".", ".."} or os.path.isdir(path)
        return os.path.join(path, name) if into else path
    if not location.prefix:
        return destination.rstrip("/") + "/" + name
    return destination + name if destination.endswith("/") else destination


def _is_path(text: str) -> bool:
    return read_place(text).is_file
