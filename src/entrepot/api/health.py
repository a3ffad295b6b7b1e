"""What operators and machines ask: alive, ready, figures, the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from entrepot.control import observation

from .auth import Ask
from .shape import Answer

router = APIRouter(tags=["server"])


class Health(Answer):
    """The process answers."""

    status: str


class Ready(Answer):
    """What the server needs for its work."""

    ready: bool
    ledger: bool
    scheduler: bool


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """Whether this process answers at all."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "not ready"}})
def readyz(request: Request) -> Response:
    """Whether the ledger can be reached and a scheduler is at work."""
    found = observation.readiness(request.app.state.control)
    shown = {"ready": found.ready, "ledger": found.ledger, "scheduler": found.scheduler}
    return Response(json.dumps(shown), 200 if found.ready else 503, media_type="application/json")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(ask: Ask) -> Response:
    """Figures in the form of Prometheus."""
    page = ask.request.app.state.metrics.render(observation.figures(ask.control, ask.who))
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/openapi.json", response_model=dict[str, Any])
def openapi(request: Request) -> Response:
    """This interface as an OpenAPI document."""
    return Response(json.dumps(request.app.openapi()), media_type="application/json")
