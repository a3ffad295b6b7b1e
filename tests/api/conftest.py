"""Fixtures of the HTTP tests; what they are made of is in ``parts.api_server``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from entrepot.control.context import Control
from parts.api_server import Server, control_over


@pytest.fixture
def make_server(ledger_place: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """``make_server(**settings)`` gives a server; all are closed at the end."""
    made: list[Server] = []

    def make(**settings: Any) -> Server:
        server = Server(*control_over(ledger_place, tmp_path / "data", **settings))
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """A server in this process, without limits of rate."""
    return make_server()


@pytest.fixture
def server_control(server: Server) -> Control:
    """What it stands on."""
    return server.control


@pytest.fixture
def api(server: Server) -> TestClient:
    """A client with an administrator's token."""
    return server.client()
