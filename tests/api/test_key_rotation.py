"""A new key for the secrets: nothing is lost, the old key opens nothing any more, a running server notices."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient

from entrepot.control import connections
from entrepot.control.rotation import rotate
from entrepot.ledger import places
from entrepot.security import keyring
from parts.api_server import Server

SECRET = "planted-secret-of-a-connection"


def _fill(api: TestClient) -> None:
    for number in range(3):
        body: dict[str, Any] = {"name": f"c{number}", "provider": "minio", "endpoint": "http://127.0.0.1:1",
                                "access_key": "planted-access", "secret_key": SECRET}  # fmt: skip
        assert api.post("/api/v1/connections", json=body).status_code in {200, 201}
    body = {"name": "hook", "url": "https://example.org/x", "secret": "planted-secret-of-a-webhook"}
    assert api.post("/api/v1/webhooks", json=body).status_code in {200, 201}


def _secret(server: Server, name: str) -> str:
    with server.control.pool.read() as c:
        row = places.connection_in(c, "", name)
    assert row is not None
    return connections.opened(server.control.keyring, row).secret_key.reveal()


def test_every_secret_is_sealed_anew_and_the_old_key_goes(server: Server, api: TestClient) -> None:
    _fill(api)
    before = server.control.keyring
    done = rotate(server.control.pool, server.control.keys.path)
    assert (done.resealed, done.lost, done.retired) == (4, (), (before.current,))
    after = server.control.keyring
    assert set(after.keys) == {done.key_id}
    assert [_secret(server, f"c{number}") for number in range(3)] == [SECRET] * 3
    with server.control.pool.read() as c:
        texts = c.execute("SELECT secrets AS text FROM connection") + c.execute("SELECT secret AS text FROM webhook")
    assert not any(before.current in row.text for row in texts)
    assert rotate(server.control.pool, server.control.keys.path).resealed == 4


def test_a_text_that_no_key_opens_keeps_the_old_keys(server: Server, api: TestClient) -> None:
    _fill(api)
    with server.control.pool.write() as c:
        row = places.connection_in(c, "", "c1")
        assert row is not None
        broken = {name: text[:-4] + "AAAA" for name, text in json.loads(row.secrets).items()}
        c.change("UPDATE connection SET secrets = :text WHERE id = :id", {"text": json.dumps(broken), "id": row.id})
    former = set(server.control.keyring.keys)
    done = rotate(server.control.pool, server.control.keys.path)
    assert done.lost == (f"connection {row.id}",)
    assert done.retired == ()
    assert former < set(keyring.load(server.control.keys.path).keys)
    assert _secret(server, "c0") == _secret(server, "c2") == SECRET


def test_a_rotation_that_was_stopped_half_way_loses_nothing(server: Server, api: TestClient) -> None:
    _fill(api)
    keyring.rotate(server.control.keys.path, lambda n: b"\x07" * n, 1e9)
    assert _secret(server, "c0") == SECRET
    done = rotate(server.control.pool, server.control.keys.path)
    assert (done.resealed, len(done.retired)) == (4, 2)
    assert _secret(server, "c2") == SECRET
