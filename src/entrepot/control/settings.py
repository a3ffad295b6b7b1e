"""The settings of a server: one typed value, from a file, the environment and flags, later ones winning.

The file is TOML with the names below as keys; the environment has them in capitals after ``ENTREPOT_``
(``ENTREPOT_RATE_BURST``); lists are separated by commas there. What is given and not understood is an error.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, get_origin, get_type_hints

from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret

PREFIX = "ENTREPOT_"
_NO_SECRET = Secret("")


def _option(default: Any, text: str, *, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"help": text, "low": low, "high": high})


@dataclass(slots=True, frozen=True)
class Settings:
    """Every option of a server. ``options()`` lists them with their texts, for ``--help`` and the documents."""

    data: str = _option("", "Directory of the server: ledger, keys, state. Made when it is missing.")
    database_url: str = _option("", "Where the ledger is instead of DATA/ledger.db (postgresql://…).")
    host: str = _option("127.0.0.1", "Address to listen at.")
    port: int = _option(8400, "Port to listen at; 0: any that is free.", low=0, high=65535)
    tls_cert: str = _option("", "File with the certificate chain; the server speaks HTTPS with it.")
    tls_key: str = _option("", "File with the private key of the certificate.")
    trusted_proxies: tuple[str, ...] = _option((), "Addresses whose X-Forwarded-For is believed.")
    admin_token: Secret = _option(_NO_SECRET, "The first administrator's token; made and printed once when empty.")  # noqa: RUF009
    api_processes: int = _option(1, "Processes that answer HTTP.", low=1, high=64)
    api_threads: int = _option(16, "Requests that one of them works on at once.", low=1, high=256)
    max_tasks: int = _option(0, "Tasks that run at once; 0: twice as many as there are cores.", low=0, high=10_000)
    processes: int = _option(0, "Runner processes of one task; 0: one a core.", low=0, high=1024)
    bandwidth: int = _option(0, "Bytes/s that all tasks together may use; 0: no limit.", low=0)
    retention_days: float = _option(30.0, "Days after which ended tasks are forgotten; 0: never.", low=0)
    report_days: float = _option(30.0, "Days for which the report of a task is kept.", low=0)
    max_body: int = _option(8 << 20, "Largest body of a request in bytes.", low=1024)
    request_seconds: float = _option(30.0, "Longest time for one answer, and for the body of a request.", low=0.1)
    rate: float = _option(200.0, "Requests a second that one token may make in the long run; 0: no limit.", low=0)
    rate_burst: int = _option(400, "Requests that one token may make at once.", low=1)
    refusal_rate: float = _option(5.0, "Failed logins a second from one address; 0: no limit.", low=0)
    refusal_burst: int = _option(30, "Failed logins at once from one address.", low=1)
    streams: int = _option(256, "Live streams of events that are open at once in one process.", low=1)
    streams_per_token: int = _option(16, "Live streams of events that one token may have open at once.", low=1)
    stream_seconds: float = _option(3600.0, "A live stream ends after this time; clients come again.", low=1)
    heartbeat_seconds: float = _option(15.0, "A silent live stream shows in this time that it lives.", low=0.05)
    probe_seconds: float = _option(30.0, "Longest time for the test of a connection or for one page of it.", low=0.1)
    token_days: float = _option(0.0, "Days after which a new token expires unless it says otherwise; 0: never.", low=0)
    egress_allow: tuple[str, ...] = _option((), "Hosts and networks that connections may go to, whatever their kind.")
    egress_deny: tuple[str, ...] = _option((), "Hosts and networks that connections must not go to.")
    egress_private: bool = _option(True, "Let connections go to private networks.")
    egress_loopback: bool = _option(False, "Let connections go to this machine itself.")
    egress_exclusive: bool = _option(False, "Let connections go only to what egress_allow names.")
    oidc_issuer: str = _option("", "Issuer of OpenID Connect tokens that are accepted (https://…).")
    oidc_audience: str = _option("", "The audience that these tokens must be for.")
    oidc_grants: tuple[str, ...] = _option((), "Roles by claim: CLAIM=VALUE:ROLE[@SCOPE].")
    open_docs: bool = _option(False, "Let /openapi.json be read without credentials.")

    def __post_init__(self) -> None:
        for one in fields(self):
            _check_range(one, getattr(self, one.name))
        if bool(self.tls_cert) != bool(self.tls_key):
            raise UsageError("tls_cert and tls_key belong together", hint="give both, or neither")


@dataclass(slots=True, frozen=True)
class Option:
    """One setting as it is documented."""

    name: str
    variable: str
    type: str
    default: str
    help: str


def options() -> list[Option]:
    """All settings, in order."""
    hints = get_type_hints(Settings)
    return [
        Option(one.name, PREFIX + one.name.upper(), _type_name(hints[one.name]), _shown(one), one.metadata["help"])
        for one in fields(Settings)
    ]


def load(file: str = "", environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from ``file`` (or ``ENTREPOT_CONFIG``), then the environment, then ``flags`` that are not None.

    Raises UsageError that names the option, and where it was given.
    """
    environ = os.environ if environ is None else environ
    file = file or environ.get(f"{PREFIX}CONFIG", "")
    values: dict[str, Any] = {}
    if file:
        values.update(_from_file(file))
    values.update(_from_environment(environ))
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    values.update({name: _converted(name, value, f"the flag {name}") for name, value in given.items()})
    return Settings(**values)


def _from_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except OSError as fault:
        raise UsageError(f"the settings file {path} cannot be read: {fault.strerror}") from None
    except tomllib.TOMLDecodeError as fault:
        raise UsageError(f"the settings file {path} is no TOML: {fault}") from None
    return {name: _converted(name, value, path) for name, value in found.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in fields(Settings):
        variable = PREFIX + one.name.upper()
        text = environ.get(variable)
        if text is not None and text != "":
            found[one.name] = _converted(one.name, text, variable)
    return found


def _converted(name: str, value: Any, origin: str) -> Any:
    hints = get_type_hints(Settings)
    if name not in hints:
        import difflib

        near = difflib.get_close_matches(name, hints, n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/server.md has the list"
        raise UsageError(f"{origin}: there is no setting {name!r}", hint=hint)
    wanted = hints[name]
    try:
        return _as_type(wanted, value)
    except (TypeError, ValueError):
        # The value is not repeated: it may be a secret.
        raise UsageError(f"{origin}: {name} must be {_type_name(wanted)}") from None


def _as_type(wanted: Any, value: Any) -> Any:
    if wanted is Secret:
        return value if isinstance(value, Secret) else Secret(_plain(value))
    if wanted is bool:
        return _truth(value)
    if wanted is int:
        if isinstance(value, (bool, float)):
            raise TypeError
        return int(value)
    if wanted is float:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    if get_origin(wanted) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_plain(part).strip() for part in parts if _plain(part).strip())
    return _plain(value)


def _plain(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words[value.strip().lower()] if isinstance(value, str) and value.strip().lower() in words else _refuse()


def _refuse() -> bool:
    raise ValueError


def _check_range(one: Field[Any], value: Any) -> None:
    low, high = one.metadata["low"], one.metadata["high"]
    if low is not None and not value >= low:
        raise UsageError(f"{one.name} is {value}: it must be at least {low:g}")
    if high is not None and not value <= high:
        raise UsageError(f"{one.name} is {value}: it must be at most {high:g}")


def _type_name(wanted: Any) -> str:
    if get_origin(wanted) is tuple:
        return "a list"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text", Secret: "a secret"}[wanted]


def _shown(one: Field[Any]) -> str:
    if one.default is MISSING:
        return ""
    if isinstance(one.default, Secret):
        return ""
    if isinstance(one.default, tuple):
        return ",".join(one.default)
    return str(one.default).lower() if isinstance(one.default, bool) else str(one.default)
