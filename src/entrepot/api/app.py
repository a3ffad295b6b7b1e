"""The HTTP application: one door, one error form, and every face behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import entrepot
from entrepot.control.context import Control
from entrepot.model.errors import EntrepotError
from entrepot.storage.wire.resolve import guard

from .door import Door
from .errors import explain
from .live import Hub
from .metrics import Metrics
from .naming import operation_id
from .openapi import document
from .routers import routers


def build(control: Control) -> FastAPI:
    """The application over a control plane. Start it with any ASGI server; it keeps no state of its own."""
    app = FastAPI(
        title="Entrepot",
        version=entrepot.__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        lifespan=_lifespan,
    )
    app.state.control = control
    # What this process connects to, it does for somebody who asked.
    guard(control.egress.check)
    app.state.metrics = metrics = Metrics()
    app.state.hub = Hub(control)
    for kind in (EntrepotError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)
    for router in routers():
        app.include_router(router)
    app.add_middleware(Door, control=control, watch=metrics.watch)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    control: Control = app.state.control
    to_thread.current_default_thread_limiter().total_tokens = control.settings.api_threads
    yield
    app.state.hub.close()


async def _answer(request: Request, error: Exception) -> Response:
    state: dict[str, Any] = request.scope.get("state", {})
    return explain(error).response(state.get("request_id", ""))
