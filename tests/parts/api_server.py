"""The HTTP application in this process over a ledger of its own, with users and tokens for every role."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from entrepot.api.app import build
from entrepot.control import grants
from entrepot.control.context import Control
from entrepot.control.issuer import verifier_of
from entrepot.control.settings import Settings
from entrepot.ledger import access
from entrepot.ledger.ids import new_id
from entrepot.ledger.pool import LedgerPool
from entrepot.security import tokens
from entrepot.security.egress import EgressPolicy
from entrepot.security.identity import Grant, Kind, Principal, Role
from entrepot.security.keyring import KeyFile, load_or_make
from entrepot.storage.wire.resolve import guard

_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Bell:
    """Stands for the scheduler: counts how often it was rung."""

    rings: int = 0

    def __call__(self) -> None:
        self.rings += 1


@dataclass(slots=True)
class Server:
    """An application and what it stands on. ``settings`` can be changed with ``rebuilt``."""

    control: Control
    bell: Bell
    app: FastAPI = field(init=False)
    clients: list[TestClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app = build(self.control)

    def user(self, role: str | None = "admin", scope: str = "", name: str = "") -> tuple[Principal, str]:
        """A new user with one role (None: with none), and a token of theirs."""
        given = (Grant(Role(role), scope),) if role else ()
        principal = Principal(new_id(), name or f"{role}-{next(_NUMBERS)}", Kind.USER, given)
        minted = tokens.mint(os.urandom)
        with self.control.pool.write() as c:
            access.add_principal(c, principal.id, principal.name, "user", grants.to_json(given))
            access.add_token(c, access.NewToken(minted.id, principal.id, minted.digest))
        return replace(principal, token_id=minted.id), minted.text.reveal()

    def client(self, role: str | None = "admin", scope: str = "", *, token: str = "") -> TestClient:
        """A client with the token of a new user of that role; ``token`` "-" for none at all."""
        text = token or self.user(role, scope)[1]
        headers = {} if text == "-" else {"Authorization": f"Bearer {text}"}
        made = TestClient(self.app, base_url="http://testserver", headers=headers, raise_server_exceptions=False)
        self.clients.append(made)
        made.__enter__()
        return made

    def close(self) -> None:
        for client in self.clients:
            client.__exit__(None, None, None)
        self.control.pool.close()
        guard(None)


def control_over(place: str, data: Path, **settings: Any) -> tuple[Control, Bell]:
    """A control plane over the ledger at ``place``."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    bell = Bell()
    chosen = Settings(data=str(data), **{"rate": 0.0, "refusal_rate": 0.0, "egress_loopback": True} | settings)
    state = data / "state"
    state.mkdir(exist_ok=True)
    load_or_make(str(data / "keys.json"), os.urandom, 1e9)
    control = Control(
        pool=LedgerPool(place),
        keys=KeyFile(str(data / "keys.json")),
        settings=chosen,
        egress=EgressPolicy.of(loopback=True),
        wake=bell,
        state_dir=str(state),
        oidc=verifier_of(chosen),
    )
    return control, bell


@contextmanager
def listening(server: Server) -> Iterator[str]:
    """The application behind a real socket on loopback; its address."""
    config = uvicorn.Config(server.app, "127.0.0.1", 0, log_level="warning", timeout_graceful_shutdown=2)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not running.started:
        assert thread.is_alive() and time.monotonic() < until, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.app.state.hub.close()
        running.should_exit = True
        thread.join(20)
