"""The page of the API: its tables name every native route and every option, and nothing else."""

from __future__ import annotations

import re
from importlib import import_module

from docs_parts import text

from entrepot.control.syncoptions import NAMES

PAGE = text("docs/api.md")
OWN = ("tasks", "syncs", "connections", "volumes", "users", "tokens")


def _between(mark: str) -> str:
    return PAGE.partition(f"<!-- {mark}:start -->")[2].partition(f"<!-- {mark}:end -->")[0]


def _told() -> set[tuple[str, str]]:
    found = set()
    for line in _between("routes").splitlines():
        path = method = ""
        for piece in re.findall(r"`([^`]+)`", line.split("|")[1] if line.startswith("|") else ""):
            word, _, rest = piece.partition(" ")
            if piece.startswith(":"):
                found.add((method, path.partition(":")[0] + piece))
                continue
            method, path = word, path if rest == "…" else rest
            found.add((method, path))
    return found


def test_every_native_route_is_told() -> None:
    real = {
        (method, route.path)
        for name in OWN
        for route in import_module(f"entrepot.api.native.{name}").router.routes
        for method in route.methods
    }
    assert _told() == real


def test_every_option_is_told() -> None:
    cells = [line.split("|")[1] for line in _between("options").splitlines() if line.startswith("| `")]
    assert sorted(name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)) == sorted(NAMES)
