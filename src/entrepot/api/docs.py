"""/docs: one small page of our own that shows the OpenAPI document; nothing of it comes from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter(tags=["server"], include_in_schema=False)

_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"


@router.get("/docs")
async def page() -> Response:
    """The page. It holds nothing of this server: what it shows it asks for with the reader's token."""
    return Response(_file("docs.html"), headers={"Content-Security-Policy": _POLICY}, media_type="text/html")


@router.get("/docs/page.js")
async def script() -> Response:
    """Its program."""
    return Response(_file("docs.js"), media_type="text/javascript")


@router.get("/docs/page.css")
async def style() -> Response:
    """Its looks."""
    return Response(_file("docs.css"), media_type="text/css")


@cache
def _file(name: str) -> bytes:
    return files("entrepot.api").joinpath("pages", name).read_bytes()
