"""From a location to its store. Each kind is imported when it is first asked for: start-up stays short."""

from __future__ import annotations

from importlib import import_module

from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.location import AZURE_SCHEMES, BRIDGE_SCHEMES, S3_SCHEMES, Location

from .base import Store

BRIDGE_PROVIDERS = frozenset({"gcs", "webdav", "sftp", "hdfs"})

_CODE = {
    "file": (".posix.store",),
    "s3": (".environment", ".s3.store", ".s3.lane"),
    "azure": (".azure.store",),
    "bridge": (),  # its libraries may start threads, which a fork would not carry along
}
"""What each kind of store is made of."""


def open_store(location: Location, connection: Connection | None = None, *, state_dir: str | None = None) -> Store:
    """The store of ``location``; sends nothing yet.

    ``connection`` is the stored one for ``NAME:…`` locations; without it endpoint and keys come from the
    environment. ``state_dir`` is where facts about endpoints are remembered. Raises UsageError for a place
    that no store is for, PlaceError when credentials are missing.
    """
    kind = _kind(location, connection)
    if kind == "file":
        return _posix(location)
    if kind == "s3":
        return _s3(location, connection, state_dir)
    if kind == "azure":
        return _azure(location, connection)
    return _bridge(location, connection)


def preload(location: Location, connection: Connection | None = None) -> None:
    """Import what the store and the lane of ``location`` need: before a fork, for all processes at once.

    Raises UsageError for a place that no store is for.
    """
    for name in _CODE[_kind(location, connection)]:
        import_module(name, __package__)


def _kind(location: Location, connection: Connection | None) -> str:
    scheme = location.scheme
    if scheme == "file":
        return "file"
    if scheme == "connection":
        if connection is None:
            raise UsageError(
                f"{location}: no connection named {location.connection!r}",
                hint=f"store it: entrepot connection add {location.connection}",
            )
        if not location.bucket and connection.provider not in BRIDGE_PROVIDERS:
            raise UsageError(f"{location}: no bucket named", hint=f"write {location.connection}:BUCKET/prefix")
        if connection.provider == "azure":
            return "azure"
        return "bridge" if connection.provider in BRIDGE_PROVIDERS else "s3"
    if scheme in S3_SCHEMES:
        return "s3"
    if scheme in AZURE_SCHEMES:
        return "azure"
    if scheme in BRIDGE_SCHEMES:
        return "bridge"
    if scheme == "volume":
        raise UsageError(f"{location}: volumes are places of a server", hint="name the directory itself")
    known = ", ".join(sorted(S3_SCHEMES | AZURE_SCHEMES | BRIDGE_SCHEMES | {"file"}))
    raise UsageError(f"{location}: no store for {scheme}://", hint=f"known schemes: {known}")


def _posix(location: Location) -> Store:
    from .posix.store import PosixStore

    store = PosixStore(location.prefix)
    if location.shown:
        store.location = location
    return store


def _s3(location: Location, connection: Connection | None, state_dir: str | None) -> Store:
    from .environment import connection_for
    from .s3.store import S3Store

    return S3Store.open(location, connection or connection_for(location), state_dir=state_dir)


def _azure(location: Location, connection: Connection | None) -> Store:
    from .azure.store import AzureStore

    store: Store = AzureStore.open(location, connection)
    return store


def _bridge(location: Location, connection: Connection | None) -> Store:
    try:
        from .bridge import BridgeStore
    except ImportError as fault:
        raise UsageError(
            f"{location}: this needs the extra packages of the bridge ({fault.name or fault})",
            hint="pip install 'entrepot[bridge]'",
        ) from None
    store: Store = BridgeStore(location, connection)
    return store
