"""The clients: one that waits, one for event loops; the same nouns with the same methods."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret

from .settings import PATIENCE, RETRIES, TIMEOUT, Settings

try:
    from . import anouns, nouns
    from .transport import AsyncWire, Wire
except ImportError as _fault:
    if TYPE_CHECKING or (_fault.name or "").partition(".")[0] != "httpx":
        raise
    _WITHOUT = True
else:
    _WITHOUT = False


def _need_httpx() -> None:
    if _WITHOUT:
        raise UsageError("the client needs httpx", hint="pip install 'entrepot[client]'")


class Client:
    """Asks a server. One for all threads; to be closed, or used in a ``with`` block.

    ``server`` and ``token`` come from ENTREPOT_SERVER and ENTREPOT_TOKEN (or ENTREPOT_TOKEN_FILE) where they are left
    out. ``timeout`` is for one answer, ``retries`` for requests that may be repeated, ``patience`` for live streams
    that break; all in seconds but ``retries``.
    """

    def __init__(
        self,
        server: str = "",
        token: str | Secret = "",
        *,
        token_file: str = "",
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        patience: float = PATIENCE,
        ca_file: str = "",
        insecure_skip_verify: bool = False,
        transport: Any = None,
    ) -> None:
        _need_httpx()
        settings = Settings(
            server,
            token,
            token_file=token_file,
            timeout=timeout,
            retries=retries,
            patience=patience,
            ca_file=ca_file,
            insecure_skip_verify=insecure_skip_verify,
            transport=transport,
        )
        self.server = settings.server
        self._wire = wire = Wire(settings)
        self.tasks = nouns.Tasks(wire)
        self.syncs = nouns.Syncs(wire)
        self.schedules = nouns.Schedules(wire)
        self.connections = nouns.Connections(wire)
        self.volumes = nouns.Volumes(wire)
        self.users = nouns.Users(wire)
        self.tokens = nouns.Tokens(wire)
        self.webhooks = nouns.Webhooks(wire)
        self.usage = nouns.UsageNoun(wire)
        self.audit = nouns.Audit(wire)
        self.runners = nouns.Runners(wire)

    def close(self) -> None:
        """Close the connections to the server."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"


class AsyncClient:
    """Asks a server from an event loop. To be closed, or used in an ``async with`` block; else as :class:`Client`."""

    def __init__(
        self,
        server: str = "",
        token: str | Secret = "",
        *,
        token_file: str = "",
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        patience: float = PATIENCE,
        ca_file: str = "",
        insecure_skip_verify: bool = False,
        transport: Any = None,
    ) -> None:
        _need_httpx()
        settings = Settings(
            server,
            token,
            token_file=token_file,
            timeout=timeout,
            retries=retries,
            patience=patience,
            ca_file=ca_file,
            insecure_skip_verify=insecure_skip_verify,
            transport=transport,
        )
        self.server = settings.server
        self._wire = wire = AsyncWire(settings)
        self.tasks = anouns.AsyncTasks(wire)
        self.syncs = anouns.AsyncSyncs(wire)
        self.schedules = anouns.AsyncSchedules(wire)
        self.connections = anouns.AsyncConnections(wire)
        self.volumes = anouns.AsyncVolumes(wire)
        self.users = anouns.AsyncUsers(wire)
        self.tokens = anouns.AsyncTokens(wire)
        self.webhooks = anouns.AsyncWebhooks(wire)
        self.usage = anouns.AsyncUsageNoun(wire)
        self.audit = anouns.AsyncAudit(wire)
        self.runners = anouns.AsyncRunners(wire)

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"
