"""Which server a command means, and the client that asks it."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from entrepot.cli.terminal import warn
from entrepot.model.errors import UsageError
from entrepot.sdk.client import Client
from entrepot.sdk.errors import ApiError, Forbidden, InvalidRequest, NotAuthenticated, NotFound, RateLimited

RETRIES = 2
"""A person waits: an address where nobody is shall be told soon."""


@dataclass(slots=True, frozen=True)
class Asked:
    """A server as it was named on the command line or in the environment."""

    server: str
    token_file: str
    ca_file: str
    typed: tuple[str, ...]
    """The options that were typed, to be typed again."""

    def words(self, command: str) -> str:
        """How to ask the same server something else."""
        return " ".join(["entrepot", *self.typed, command])


def asked() -> Asked:
    """The server that is meant. Raises UsageError when none is."""
    context = click.get_current_context()
    root = context.find_root()
    server = root.params.get("server") or ""
    if not server:
        raise UsageError(
            f"{context.command_path} asks a server, and none is named",
            hint=f"entrepot --server URL --token-file FILE{context.command_path.removeprefix('entrepot')} …, "
            "or set ENTREPOT_SERVER",
        )
    typed = [
        f"--{name.replace('_', '-')} {shlex.quote(root.params[name])}"
        for name in ("server", "token_file", "ca_file")
        if root.params.get(name) and root.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    return Asked(server, root.params.get("token_file") or "", root.params.get("ca_file") or "", tuple(typed))


@contextmanager
def client() -> Iterator[Client]:
    """The client for the server that is meant; what it refuses is told with what to do."""
    meant = asked()
    with Client(meant.server, token_file=meant.token_file, ca_file=meant.ca_file, retries=RETRIES) as found:
        _warn_open(found.server, meant)
        try:
            yield found
        except ApiError as fault:
            _complete(fault, meant)
            raise


def _warn_open(server: str, meant: Asked) -> None:
    parts = urlsplit(server)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost" or _is_loopback(host) or not _has_token(meant):
        return
    warn("the token goes over the network unencrypted", "use https://, or a tunnel")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _complete(fault: ApiError, meant: Asked) -> None:
    if isinstance(fault, NotAuthenticated):
        given = "the token was not accepted" if _has_token(meant) else "no token was given"
        fault.message = f"{meant.server}: {given}: {fault.message}"
        fault.hint = "--token-file FILE, or ENTREPOT_TOKEN_FILE or ENTREPOT_TOKEN"
    elif isinstance(fault, Forbidden):
        more = f"{meant.words('user me')} shows what the token may"
        fault.hint = f"{fault.hint}; {more}" if fault.hint else more
    elif isinstance(fault, InvalidRequest):
        others = "".join(f"; {one.field}: {one.description}" for one in fault.fields[1:])
        fault.message += others
        if any(one.field.endswith("_id") for one in fault.fields):
            fault.hint = fault.hint or "an id has 26 letters and digits, as the lists show it"
    elif isinstance(fault, NotFound):
        fault.hint = fault.hint or "it may be in another scope, or not for this token"
    elif isinstance(fault, RateLimited):
        fault.hint = fault.hint or f"wait {fault.retry_after:g} s"
    elif fault.status >= 500 and fault.request_id:
        fault.hint = fault.hint or f"tell its operator the id of the request: {fault.request_id}"


def _has_token(meant: Asked) -> bool:
    from entrepot.sdk.token import find_token

    return bool(find_token(file=meant.token_file))
