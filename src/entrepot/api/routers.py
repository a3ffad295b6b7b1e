"""The one list of what is mounted: modules that have a ``router``. A new face is one more line here."""

from __future__ import annotations

from importlib import import_module

from fastapi import APIRouter

MODULES = (
    "entrepot.api.health",
    "entrepot.api.docs",
    "entrepot.api.native.tasks",
    "entrepot.api.native.syncs",
    "entrepot.api.native.connections",
    "entrepot.api.native.volumes",
    "entrepot.api.native.users",
    "entrepot.api.native.tokens",
    "entrepot.api.native.schedules",
    "entrepot.api.native.webhooks",
    "entrepot.api.native.usage",
    "entrepot.api.native.audit",
    "entrepot.api.compat.datasync.routes",
    "entrepot.api.runners",
)


def routers() -> list[APIRouter]:
    """All routers, in order."""
    return [import_module(name).router for name in MODULES]
