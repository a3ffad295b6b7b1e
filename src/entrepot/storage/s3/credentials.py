"""Keys for signing: from a connection, from the AWS variables, or from the AWS profile files.

The files are read the way the AWS tools read them (``~/.aws/credentials``, ``~/.aws/config``,
``credential_process``), without their libraries. A source hands out the same keys until they expire or
somebody asks for fresh ones; then files and processes are read again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from entrepot.model.connection import Connection
from entrepot.model.errors import PlaceError, UsageError
from entrepot.model.secret import Secret

from .target import Credentials

EARLY = 120.0
"""Seconds before their expiry at which keys are renewed."""
PROCESS_TIMEOUT = 60.0
ANONYMOUS = Credentials("", Secret(""))


class CredentialSource:
    """What S3Target holds: ``source(False)`` gives the keys in use, ``source(True)`` fresh ones."""

    __slots__ = ("_clock", "_current", "_load")

    def __init__(self, load: Callable[[], Credentials], clock: Callable[[], float] = time.time) -> None:
        self._load = load
        self._clock = clock
        self._current: Credentials | None = None

    def __call__(self, refresh: bool = False) -> Credentials:
        current = self._current
        if current is None or refresh or (current.expires and self._clock() > current.expires - EARLY):
            current = self._current = self._load()
        return current

    def __repr__(self) -> str:
        return "CredentialSource(***)"


def credential_source(
    connection: Connection, environ: Mapping[str, str] | None = None
) -> Callable[[bool], Credentials]:
    """Where the keys of ``connection`` come from. Raises UsageError for half a pair, PlaceError for none."""
    if truth(connection.options.get("anonymous", "")):
        return CredentialSource(lambda: ANONYMOUS)
    if connection.access_key:
        if not connection.secret_key:
            raise UsageError("there is an access key but no secret key", hint=missing_hint(connection))
        fixed = Credentials(connection.access_key, connection.secret_key, connection.session_token)
        return CredentialSource(lambda: fixed)
    if connection.profile:
        environ = os.environ if environ is None else environ
        name, env = connection.profile, environ
        return CredentialSource(lambda: from_profile(name, env))
    raise PlaceError(missing_text(connection), hint=missing_hint(connection))


def missing_text(connection: Connection) -> str:
    """One line that says whose credentials are missing."""
    whose = f"connection {connection.name!r}" if connection.name else connection.provider
    return f"no credentials for {whose}"


def missing_hint(connection: Connection) -> str:
    """One line that says where credentials can be put."""
    if connection.name:
        return f"enter them: entrepot connection add {connection.name} --replace"
    return (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), or store them: "
        "entrepot connection add NAME; for a public bucket set AWS_NO_SIGN_REQUEST=true"
    )


def truth(text: str) -> bool:
    """True for ``1``, ``true``, ``yes`` and ``on``."""
    return text.strip().lower() in {"1", "true", "yes", "on"}


def profile_values(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """All settings of an AWS profile (the credentials file wins); empty when there is no such profile."""
    config = _read(environ.get("AWS_CONFIG_FILE") or "~/.aws/config", environ)
    shared = _read(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", environ)
    values: dict[str, str] = {}
    for sections, section in ((config, f"profile {name}"), (config, name), (shared, name)):
        if section.startswith("profile ") or sections is shared or name == "default":
            values.update(sections.get(section, {}))
    services = config.get(f"services {values.get('services', '')}", {})
    endpoint = nested(services.get("s3", "")).get("endpoint_url")
    if endpoint:
        values["endpoint_url"] = endpoint
    return values


def nested(text: str) -> dict[str, str]:
    """The indented settings below a line such as ``s3 =``."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def from_profile(name: str, environ: Mapping[str, str]) -> Credentials:
    """Keys of an AWS profile. Raises UsageError when there is no such profile, or no keys in it."""
    values = profile_values(name, environ)
    if not values:
        raise UsageError(
            f"no AWS profile named {name!r}",
            hint="check AWS_PROFILE, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE",
        )
    access, secret = values.get("aws_access_key_id", ""), values.get("aws_secret_access_key", "")
    if access and secret:
        return Credentials(access, Secret(secret), Secret(values.get("aws_session_token", "")))
    if values.get("credential_process"):
        return from_process(values["credential_process"], name)
    raise UsageError(
        f"the AWS profile {name!r} has no keys",
        hint="it needs aws_access_key_id and aws_secret_access_key, or credential_process "
        "(sso and role_arn are not read: use `aws configure export-credentials` as its credential_process)",
    )


def from_process(command: str, name: str) -> Credentials:
    """Run a ``credential_process``. What it prints is never shown."""
    import shlex
    import subprocess

    hint = f"run the credential_process of the AWS profile {name!r} by hand to see what it says"
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROCESS_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PlaceError(f"the credential_process of {name!r} took too long", hint=hint) from None
    except (OSError, ValueError):
        raise PlaceError(f"the credential_process of {name!r} cannot be started", hint=hint) from None
    if done.returncode:
        raise PlaceError(f"the credential_process of {name!r} failed (exit {done.returncode})", hint=hint)
    try:
        said = json.loads(done.stdout)
        if said.get("Version") != 1:
            raise ValueError("version")
        expires = said.get("Expiration")
        return Credentials(
            said["AccessKeyId"],
            Secret(said["SecretAccessKey"]),
            Secret(said.get("SessionToken") or ""),
            datetime.fromisoformat(expires).timestamp() if expires else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PlaceError(f"the credential_process of {name!r} printed no credentials", hint=hint) from None


def _read(path: str, environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The sections of an AWS file; none when there is no such file."""
    if path.startswith("~/"):
        path = os.path.join(environ.get("HOME") or os.path.expanduser("~"), path[2:])
    damaged = UsageError(f"{path} is damaged", hint="it must hold sections and lines `name = value`")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return {}
    except OSError as fault:
        raise UsageError(f"{path} cannot be read: {fault.strerror}", hint="check its owner and mode") from None
    except UnicodeDecodeError:
        raise damaged from None
    import configparser

    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        raise damaged from None
    return {name: dict(parser[name]) for name in parser.sections()}
