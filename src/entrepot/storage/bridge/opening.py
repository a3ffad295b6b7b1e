"""From a location (and its connection or the environment) to a place."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.location import Location
from entrepot.model.secret import Secret
from entrepot.storage.wire.resolve import allowed, guarded, system_lookup

from .faults import missing_extra, store_error
from .filesystem import FsspecPlace
from .place import Place
from .sftp import SftpPlace
from .webdav import WebdavPlace

PROVIDERS = {"gs": "gcs", "gcs": "gcs", "webdav": "webdav", "webdavs": "webdav", "sftp": "sftp", "hdfs": "hdfs"}


def open_place(
    location: Location, connection: Connection | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Place, bytes]:
    """The place that ``location`` lies at, and the path of the location there. Nothing is sent yet.

    Raises UsageError when a package is missing or the location makes no sense.
    """
    env = os.environ if environ is None else environ
    provider = connection.provider if connection is not None else PROVIDERS.get(location.scheme, "")
    connection = connection or _from_environment(provider, env)
    match provider:
        case "webdav":
            return _webdav(location, connection)
        case "sftp":
            return _sftp(location, connection)
        case "gcs":
            return _gcs(location, connection, env), location.prefix
        case "hdfs":
            return _hdfs(location, connection)
    raise UsageError(f"{location}: no bridge leads there", hint="gs://, webdav://, webdavs://, sftp:// or hdfs://")


def _from_environment(provider: str, env: Mapping[str, str]) -> Connection:
    """WEBDAV_USER, WEBDAV_PASSWORD, SFTP_USER, SFTP_PASSWORD, SFTP_KEY_FILE, SFTP_KNOWN_HOSTS, …_CA_FILE."""
    name = provider.upper()
    options = {
        option: env[f"{name}_{option.upper()}"]
        for option in ("key_file", "known_hosts")
        if env.get(f"{name}_{option.upper()}")
    }
    return Connection(
        "",
        provider,  # type: ignore[arg-type]
        access_key=env.get(f"{name}_USER", ""),
        secret_key=Secret(env.get(f"{name}_PASSWORD", "")),
        ca_file=env.get(f"{name}_CA_FILE", ""),
        options=options,
    )


@dataclass(slots=True, frozen=True)
class _Where:
    user: str
    host: str
    port: int | None
    base: str
    """Path of the endpoint URL, without slashes at its ends."""
    path: bytes
    """Path of the location below the base."""


def _where(location: Location, connection: Connection) -> _Where:
    """The endpoint of a stored connection (the location's bucket is then a directory there), else the location's."""
    path, text, base = location.prefix, location.bucket, ""
    if connection.endpoint:
        parts = urlsplit(connection.endpoint if "://" in connection.endpoint else f"x://{connection.endpoint}")
        text, base = parts.netloc, parts.path.strip("/")
        path = (os.fsencode(location.bucket) + b"/" if location.bucket else b"") + location.prefix
    parts = urlsplit(f"x://{text}")
    if parts.password:
        raise UsageError(
            f"a password stands in the address of {parts.hostname}",
            hint="store it: entrepot connection add, or set it in the environment",
        )
    try:
        port = parts.port
    except ValueError:
        raise UsageError(f"{parts.hostname}: the port is not a number") from None
    if not parts.hostname:
        raise UsageError(f"{location}: no host named")
    return _Where(parts.username or connection.access_key, parts.hostname, port, base, path)


def _webdav(location: Location, connection: Connection) -> tuple[Place, bytes]:
    where = _where(location, connection)
    secure = connection.endpoint.startswith("https") or location.scheme == "webdavs"
    if connection.endpoint and not connection.endpoint.startswith("http"):
        secure = not connection.disable_ssl
    bare = f"[{where.host}]" if ":" in where.host else where.host
    port = f":{where.port}" if where.port else ""
    place = WebdavPlace(
        f"{'https' if secure else 'http'}://{bare}{port}/{quote(where.base, safe='/%~')}",
        where.user,
        connection.secret_key,
        verify=not connection.insecure_skip_verify,
        ca_file=connection.ca_file,
    )
    return place, where.path


def _sftp(location: Location, connection: Connection) -> tuple[Place, bytes]:
    where = _where(location, connection)
    place = SftpPlace(
        where.host,
        where.port or 22,
        where.user,
        connection.secret_key,
        key_file=connection.options.get("key_file", ""),
        verify=not connection.insecure_skip_verify,
        known_hosts=connection.options.get("known_hosts", ""),
    )
    return place, _below(where)


def _below(where: _Where) -> bytes:
    return (os.fsencode(where.base) + b"/" if where.base else b"") + where.path


def _gcs(location: Location, connection: Connection, env: Mapping[str, str]) -> Place:
    try:
        from gcsfs.core import GCSFileSystem  # the plain one: JSON over HTTP, which emulators speak too
    except ImportError as fault:
        raise missing_extra("Google Cloud Storage", fault) from None
    endpoint = connection.endpoint or env.get("STORAGE_EMULATOR_HOST", "")
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if endpoint:
        options["endpoint_url"] = endpoint
    token = connection.options.get("token_file") or connection.options.get("token", "")
    if token or endpoint:
        options["token"] = token or "anon"
    if guarded():
        parts = urlsplit(endpoint)
        _look(parts.hostname or "storage.googleapis.com", parts.port or 443)
        options["session_kwargs"] = {"connector": _guarded_connector()}
    try:
        filesystem = GCSFileSystem(**options)
    except Exception as fault:
        raise store_error(fault, str(location)) from None
    identity = endpoint.rstrip("/") or "storage.googleapis.com"
    return FsspecPlace(
        filesystem, location.bucket, protocol="gcs", renames=False, identity=f"{identity}/{location.bucket}"
    )


def _hdfs(location: Location, connection: Connection) -> tuple[Place, bytes]:
    where = _Where("", "default", None, "", location.prefix)
    if location.bucket or connection.endpoint:
        where = _where(location, connection)
        if guarded():
            _look(where.host, where.port or 8020)  # once: the Java client looks names up by itself
    try:
        from fsspec.implementations.arrow import HadoopFileSystem
    except ImportError as fault:
        raise missing_extra("HDFS", fault) from None
    try:
        filesystem = HadoopFileSystem(host=where.host, port=where.port or 0, user=where.user or None)
    except ImportError as fault:
        raise missing_extra("HDFS", fault) from None
    except Exception as fault:
        raise UsageError(
            f"{location}: HDFS cannot be used: {str(fault)[:200]}",
            hint="set HADOOP_HOME, JAVA_HOME and CLASSPATH (hadoop classpath --glob)",
        ) from None
    identity = f"{where.host}:{where.port or 0}"
    return FsspecPlace(filesystem, "", protocol="hdfs", renames=True, identity=identity), _below(where)


def _look(host: str, port: int) -> None:
    """Refuse a host that may not be connected to before a library is asked to; one that is unknown fails there."""
    try:
        found = system_lookup(host, port)
    except OSError:
        return
    allowed(host, port, found)


def _guarded_connector() -> Any:
    """The connections of gcsfs's HTTP client, redirects too: each socket is made for an address that may be used."""
    import aiohttp
    from fsspec.asyn import get_loop, sync

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        allowed(address[0], address[1], [(family, address)])
        return socket.socket(family, kind, protocol)

    async def connector() -> Any:
        return aiohttp.TCPConnector(socket_factory=make)

    return sync(get_loop(), connector)
