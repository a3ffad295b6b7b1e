"""``entrepot up``: a server with its own API, the datasync family, and the processes that do the work."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from .terminal import out, out_json

if TYPE_CHECKING:
    from entrepot.service.up import Started

_SHOWN = (
    "host", "port", "database_url", "api_processes", "max_tasks", "processes", "bandwidth", "retention_days",
    "egress_allow", "egress_deny", "tls_cert", "tls_key", "trusted_proxies",
)  # fmt: skip
"""Settings that have a flag; all of them can stand in the file and in the environment."""


def _flags(function: Any) -> Any:
    from entrepot.control.settings import options

    known = {option.name: option for option in options()}
    for name in reversed(_SHOWN):
        option = known[name]
        function = click.option(
            f"--{name.replace('_', '-')}", name, metavar=option.type.upper(), help=f"{option.help} ({option.variable})"
        )(function)
    return function


@click.command(name="up", epilog="Everything that can be set is in docs/server.md. Ctrl-C or SIGTERM ends the server.")
@click.option("--data", metavar="DIR", help="Directory of the server: ledger, keys, state. (ENTREPOT_DATA)")
@click.option("--config", metavar="FILE", default="", help="Settings as TOML. (ENTREPOT_CONFIG)")
@_flags
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object when the server is ready.")
def command(data: str | None, config: str, as_json_: bool, **flags: Any) -> int:
    """Run a server until it is told to stop."""
    from dataclasses import replace

    from entrepot.control.settings import load
    from entrepot.service.up import serve

    settings = load(config, flags={**flags, "data": data})
    place = os.path.abspath(os.path.expanduser(settings.data or _home()))
    # The first token must not stay where every child process can read it.
    os.environ.pop("ENTREPOT_ADMIN_TOKEN", None)

    def ready(started: Started) -> None:
        if as_json_:
            out_json({"url": started.url, "admin_token": started.token, "pids": started.pids})
        else:
            out(f"Entrepot serves at {started.url}")
            if started.token:
                out(f"\nThe first administrator's token, shown this once:\n  {started.token}\n")
        sys.stdout.flush()

    return serve(replace(settings, data=place), ready)


def _home() -> str:
    share = os.environ.get("XDG_DATA_HOME", "") or os.path.join("~", ".local", "share")
    return os.path.join(share, "entrepot")
