"""The stored connections: one file of them, with secrets encrypted under a key file beside it.

``connections.json`` holds endpoints and options in the open and secrets as sealed texts (``security.keyring``),
bound to the connection's name and the field they belong to: a text moved to another connection does not open.
``connections.key`` is the key file, made at first use. Both are mode 0600 in a directory of mode 0700. Writers
take a lock and replace the files in one step, so a crash leaves the old or the new state.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, get_args

from entrepot.model.connection import Addressing, Connection, Provider
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret
from entrepot.security.keyring import BrokenSealError, Keyring, LostKeyError, MissingKeyFileError, load
from entrepot.security.keyring import write_private as _replace_file

CONNECTIONS_FILE = "connections.json"
KEY_FILE = "connections.key"
SECRET_FIELDS = ("secret_key", "session_token", "sas")
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def config_directory(environ: Mapping[str, str] | None = None) -> str:
    """Where connections are kept: ENTREPOT_CONFIG_DIR, else the user's configuration directory."""
    environ = os.environ if environ is None else environ
    own = environ.get("ENTREPOT_CONFIG_DIR")
    if own:
        return os.path.abspath(os.path.expanduser(own))
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(home, "entrepot")


class ConnectionStore:
    """The connections of one configuration directory. Instances hold no state: every call reads the file."""

    def __init__(
        self,
        directory: str | None = None,
        *,
        random: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory if directory is not None else config_directory()
        self.path = os.path.join(self.directory, CONNECTIONS_FILE)
        self._random = random
        self._clock = clock

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._read())

    def __contains__(self, name: str) -> bool:
        return name in self._read()

    def get(self, name: str) -> Connection:
        """The connection with its secrets decrypted. Raises UsageError for a name that is not stored."""
        stored = self._read()
        if name not in stored:
            raise UsageError(f"no connection named {name!r}", hint=_known(name, stored))
        return self._open(name, stored[name], self._keys())

    __call__ = get

    def describe(self, name: str) -> tuple[Connection, tuple[str, ...]]:
        """The connection without its secrets, and which secrets it has. Needs no key."""
        stored = self._read()
        if name not in stored:
            raise UsageError(f"no connection named {name!r}", hint=_known(name, stored))
        plain = {k: v for k, v in stored[name].items() if k != "secrets"}
        held = stored[name].get("secrets", {})
        return _build(name, plain, {}), tuple(k for k in SECRET_FIELDS if k in held)

    def add(self, connection: Connection, *, overwrite: bool = False) -> None:
        """Store a connection. Raises UsageError for a taken name (unless ``overwrite``) or a wrong one."""
        check(connection)
        with self._locked():
            stored = self._read()
            if connection.name in stored and not overwrite:
                raise UsageError(
                    f"a connection named {connection.name!r} exists already",
                    hint="choose another name, or replace it with --replace",
                )
            stored[connection.name] = self._seal(connection, self._made_keys())
            self._write(stored)

    def remove(self, name: str) -> None:
        """Forget a connection and its secrets. Raises UsageError for a name that is not stored."""
        with self._locked():
            stored = self._read()
            if name not in stored:
                raise UsageError(f"no connection named {name!r}", hint=_known(name, stored))
            del stored[name]
            self._write(stored)

    def rotate_key(self) -> int:
        """Make a new key, encrypt every secret anew, destroy the old key. Returns the number of connections.

        The new key is on disk before the first secret uses it, and the old one goes last: stopped anywhere,
        every secret can still be read.
        """
        with self._locked():
            stored = self._read()
            keys = self._made_keys()
            opened = [self._open(name, row, keys) for name, row in stored.items()]
            fresh = Keyring.new(self._random, self._clock(), keys)
            _replace_file(self._key_path, fresh.to_json())
            self._write({c.name: self._seal(c, fresh) for c in opened})
            _replace_file(self._key_path, fresh.only_current().to_json())
            return len(opened)

    # -- files

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            with open(self.path, "rb") as file:
                found = json.load(file)
            if found["version"] > _FORMAT:
                raise UsageError(f"{self.path} was written by a newer version of Entrepot", hint="upgrade Entrepot")
            connections: dict[str, dict[str, Any]] = found["connections"]
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise UsageError(f"{self.path} may not be read", hint="check its owner and mode") from None
        except (ValueError, KeyError, TypeError) as fault:
            raise UsageError(
                f"{self.path} is damaged: {fault}",
                hint="restore it from a backup, or remove it and add the connections again",
            ) from None
        return connections

    def _write(self, stored: dict[str, dict[str, Any]]) -> None:
        text = json.dumps({"version": _FORMAT, "connections": stored}, indent=2, sort_keys=True)
        _replace_file(self.path, text.encode() + b"\n")

    @property
    def _key_path(self) -> str:
        return os.path.join(self.directory, KEY_FILE)

    def _keys(self) -> Keyring:
        try:
            return load(self._key_path)
        except MissingKeyFileError:
            return Keyring("", {})  # opens nothing, and says of each secret that its key is lost

    def _made_keys(self) -> Keyring:
        ring = self._keys()
        if not ring.keys:
            ring = Keyring.new(self._random, self._clock())
            _replace_file(self._key_path, ring.to_json())
        return ring

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            fd = os.open(os.path.join(self.directory, "connections.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as fault:
            raise UsageError(
                f"{self.directory}: {fault.strerror}: connections cannot be stored there",
                hint="set ENTREPOT_CONFIG_DIR to a directory of yours",
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    # -- encryption

    def _seal(self, connection: Connection, keys: Keyring) -> dict[str, Any]:
        values: dict[str, Any] = {}
        secrets: dict[str, str] = {}
        defaults = Connection(connection.name, connection.provider)
        for field in fields(Connection):
            value = getattr(connection, field.name)
            if field.name in SECRET_FIELDS:
                if value:
                    secrets[field.name] = keys.seal(value, _place(connection.name, field.name), self._random)
            elif field.name != "name" and (value != getattr(defaults, field.name) or field.name == "provider"):
                values[field.name] = value
        if secrets:
            values["secrets"] = secrets
        return values

    def _open(self, name: str, row: dict[str, Any], keys: Keyring) -> Connection:
        plain = {k: v for k, v in row.items() if k != "secrets"}
        secrets = {
            field: self._decrypt(name, field, text, keys)
            for field, text in row.get("secrets", {}).items()
            if field in SECRET_FIELDS
        }
        return _build(name, plain, secrets)

    def _decrypt(self, name: str, field: str, text: str, keys: Keyring) -> Secret:
        hint = f"enter it again: entrepot connection add {name} --replace"
        try:
            return keys.open(text, _place(name, field))
        except LostKeyError:
            raise UsageError(f"the {field} of connection {name!r} was encrypted under another key", hint=hint) from None
        except BrokenSealError:
            raise UsageError(
                f"the {field} of connection {name!r} does not decrypt: {self.path} was changed", hint=hint
            ) from None


def check(connection: Connection) -> None:
    """Raise UsageError for a connection that could not work: name, provider, addressing, endpoint."""
    if not _NAME.fullmatch(connection.name):
        raise UsageError(
            f"{connection.name!r} is no name for a connection",
            hint="a letter, then letters, digits, - and _ (at most 63 characters)",
        )
    if connection.provider not in get_args(Provider):
        raise UsageError(f"unknown provider {connection.provider!r}", hint="one of: " + ", ".join(get_args(Provider)))
    if connection.addressing not in get_args(Addressing):
        raise UsageError(
            f"unknown addressing {connection.addressing!r}", hint="one of: " + ", ".join(get_args(Addressing))
        )
    _check_endpoint(connection.endpoint, connection.provider)


def _check_endpoint(endpoint: str, provider: str) -> None:
    if not endpoint:
        return
    from urllib.parse import urlsplit

    web = provider not in {"sftp", "hdfs"}
    try:
        parts = urlsplit(endpoint)
        port_ok = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the endpoint holds a user name or password",
            hint="leave them out of the URL: use --access-key and --secret-file",
        )  # the endpoint itself is not repeated: it holds a secret
    if web and (parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok):
        raise UsageError(f"{endpoint!r} is no endpoint", hint="write https://HOST[:PORT], without the bucket")
    if web and (parts.query or parts.fragment):
        raise UsageError(f"the endpoint {endpoint.partition('?')[0]!r} has a query", hint="write https://HOST[:PORT]")


def _build(name: str, plain: dict[str, Any], secrets: dict[str, Secret]) -> Connection:
    known = {f.name for f in fields(Connection)} - set(SECRET_FIELDS) - {"name"}
    try:
        connection = Connection(name=name, **{k: v for k, v in plain.items() if k in known})
    except TypeError:
        raise UsageError(
            f"connection {name!r} is stored incompletely", hint=f"entrepot connection add {name} --replace"
        ) from None
    return replace(connection, **secrets)  # type: ignore[arg-type]


def _place(name: str, field: str) -> str:
    return f"{name}\0{field}"


def _known(name: str, stored: Mapping[str, Any]) -> str:
    import difflib

    near = difflib.get_close_matches(name, stored, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if stored:
        return "stored connections: " + ", ".join(sorted(stored))
    return f"none is stored yet: entrepot connection add {name} --provider … --endpoint …"
