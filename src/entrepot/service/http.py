"""One process that answers HTTP: the application over the control plane, on a socket that it shares with others."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrepot.model.errors import UsageError

if TYPE_CHECKING:
    from entrepot.control.context import Control

SWITCH_SECONDS = 0.0005
GRACE_SECONDS = 5
"""How long answers that are on their way (and live streams) may take when the server stops."""


def answer(control: Control, listening: socket.socket, ready: Callable[[], None]) -> int:
    """Answer requests until SIGTERM. ``ready`` is called when the first one can come."""
    try:
        import uvicorn
    except ImportError as fault:
        raise UsageError(
            f"a server needs packages that are not there ({fault.name})", hint="pip install 'entrepot[server]'"
        ) from None

    from entrepot.api.app import build

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Live streams would be waited for, and cut in the middle of a message.
            app.state.hub.close()
            await super().shutdown(sockets)

    # Threads that answer wait for each other's turn of the interpreter: short turns make short waits.
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = control.settings
    app = build(control)
    app.openapi()  # made now, not while the first request waits for it
    config = uvicorn.Config(
        app,
        log_config=None,  # its lines go where ours go, through the same mask
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=2048,
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
    )
    Server(config).run(sockets=[listening])
    return 0
