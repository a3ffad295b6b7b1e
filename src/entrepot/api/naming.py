"""Names in the OpenAPI document: what a client that is generated from it calls its functions and types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi.routing import APIRoute

_FAMILIES: Final = {"datasync": "DataSync"}
"""By module: what the types of a compatible family begin with where the native API has the same name."""
_SCHEMAS: Final = "#/components/schemas/"


def operation_id(route: APIRoute) -> str:
    """The noun and the verb, such as ``schedules_create``: short, and it stays when paths change."""
    noun = str(route.tags[0]) if route.tags else "server"
    return f"{noun}_{route.name}".replace("-", "_")


def shorten(document: dict[str, Any]) -> None:
    """Give types that several families have under one name short names again, in place."""
    schemas: dict[str, Any] = document["components"]["schemas"]
    renamed = {name: new for name in schemas if (new := _short(name)) != name and new not in schemas}
    if len(set(renamed.values())) != len(renamed):
        raise ValueError(f"two types of the API have the same name: {sorted(renamed)}")
    for old, new in renamed.items():
        schemas[new] = {**schemas.pop(old), "title": new}
    for node in _nodes(document):
        target = node.get("$ref")
        if isinstance(target, str) and target.removeprefix(_SCHEMAS) in renamed:
            node["$ref"] = _SCHEMAS + renamed[target.removeprefix(_SCHEMAS)]


def _short(name: str) -> str:
    parts = name.split("__")
    if len(parts) == 1:
        return name
    prefix = next((text for module, text in _FAMILIES.items() if module in parts), "")
    return prefix + parts[-1]


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)
