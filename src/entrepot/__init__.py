"""Entrepot: an open, self-hosted port for AI data.

``entrepot.Client`` and ``entrepot.AsyncClient`` ask a server; they are loaded when they are first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]

if TYPE_CHECKING:
    from .sdk.client import AsyncClient, Client


def __getattr__(name: str) -> object:
    if name in {"Client", "AsyncClient"}:
        from .sdk import client

        return getattr(client, name)
    raise AttributeError(f"module 'entrepot' has no attribute {name!r}")
