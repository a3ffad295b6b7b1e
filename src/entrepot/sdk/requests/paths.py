"""Paths of the native API."""

from __future__ import annotations

from urllib.parse import quote

from entrepot.model.errors import UsageError

ROOT = "/api/v1"


def path(*parts: str, verb: str = "") -> str:
    """``/api/v1/PART/…:VERB``, with names that mean nothing else in a path. Raises UsageError for an empty name."""
    for part in parts:
        if not part or part in {".", ".."}:
            raise UsageError(f"{part!r} names nothing", hint="give the id or name as the server shows it")
    found = "/".join([ROOT, *(quote(part, safe="@") for part in parts)])
    return f"{found}:{verb}" if verb else found
