"""No secret comes out again: not in answers, logs, audit, events, live streams, nor from the ledger's file."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.ledger import events, tasks
from entrepot.model.task import TaskState
from parts.api_server import Server

PLANTED = {
    "access_key": "AKPLANTEDACCESSKEY1",
    "secret_key": "planted/secret+key=0123456789",
    "session_token": "planted-session-token-abcdefgh",
    "sas": "sv=2024&sig=plantedsassignature%3D",
}


class Record:
    """Collects everything that a test saw, to be searched at the end."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, answer: Any) -> Any:
        self.seen.append(answer.text + json.dumps(dict(answer.headers)))
        return answer

    def assert_clean(self, secrets: list[str]) -> None:
        whole = "\n".join(self.seen)
        for secret in secrets:
            assert secret not in whole, f"{secret[:12]}… came out"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def _ledger(server: Server) -> bytes:
    place = server.control.pool.name
    if place.startswith("postgresql"):
        with server.control.pool.read() as c:
            names = [
                row.name
                for row in c.execute(
                    "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
                )
            ]
            return "\n".join(str(vars(row)) for name in names for row in c.execute(f"SELECT * FROM {name}")).encode()
    return b"".join(path.read_bytes() for path in Path(place).parent.glob(Path(place).name + "*"))


def test_planted_secrets_never_come_out(server: Server, logged: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    admin, record = server.client(), Record()
    (tmp_path / "opened").mkdir()
    record(admin.post("/api/v1/volumes", json={"name": "data", "path": str(tmp_path / "opened")}))
    body = {"name": "lab", "provider": "minio", "endpoint": "http://127.0.0.1:9", **PLANTED}
    key = {"Idempotency-Key": "once-and-again"}
    for _ in range(2):
        assert record(admin.post("/api/v1/connections", json=body, headers=key)).status_code == 201
    assert record(admin.post("/api/v1/connections", json=body)).status_code == 409
    for change in ({"provider": "nope"}, {"endpoint": "http://u:planted/secret+key=0123456789@h"}, {"extra": 1}):
        assert record(admin.post("/api/v1/connections", json={**body, **change})).status_code == 400
    wrong = {"name": "x", "provider": "minio", "secret_key": [PLANTED["secret_key"]], "sas": 5}
    assert record(admin.post("/api/v1/connections", json=wrong)).status_code == 400
    raw = f'{{"secret_key": "{PLANTED["secret_key"]}", '
    assert record(admin.post("/api/v1/connections", content=raw)).status_code == 400
    assert record(admin.get("/api/v1/connections/lab")).json()["secret_key"] == ""
    record(admin.get("/api/v1/connections"))
    record(admin.patch("/api/v1/connections/lab", json={"secret_key": PLANTED["secret_key"] + "-new"}))
    record(admin.patch("/api/v1/connections/lab", json={"endpoint": "http://127.0.0.2:9"}))
    record(admin.post("/api/v1/connections/lab:test", json={"place": "bucket"}))
    record(admin.get("/api/v1/connections/lab/browse", params={"place": "bucket"}))
    made = record(admin.post("/api/v1/syncs", json={"source": "lab:bucket/x", "destination": "volume://data/y"})).json()
    with server.control.pool.write() as c:
        events.append(c, made["id"], "warning", "something")
        tasks.transition(c, made["id"], TaskState.FAILED, "no")
    record(admin.get(f"/api/v1/tasks/{made['id']}"))
    record(admin.get(f"/api/v1/tasks/{made['id']}/events"))
    record(admin.get("/api/v1/audit"))
    record(admin.get("/metrics"))
    record(admin.get("/openapi.json"))
    _check(server, record, logged, [*PLANTED.values()])


def _check(server: Server, record: Record, logged: pytest.LogCaptureFixture, secrets: list[str]) -> None:
    record.assert_clean(secrets)
    for secret in secrets:
        assert secret not in logged.text
    stored = _ledger(server)
    for secret in secrets:
        assert secret.encode() not in stored, f"{secret[:12]}… lies in the ledger"


def test_tokens_are_shown_once_and_kept_as_digests(server: Server, logged: pytest.LogCaptureFixture) -> None:
    admin, record = server.client(), Record()
    record(admin.post("/api/v1/users", json={"name": "bob"}))
    headers = {"Idempotency-Key": "k"}
    token = admin.post("/api/v1/tokens", json={"user": "bob"}, headers=headers).json()["token"]
    assert admin.post("/api/v1/tokens", json={"user": "bob"}, headers=headers).json()["token"] == token
    pair = admin.post("/api/v1/access-keys", json={"user": "bob"}, headers=headers).json()
    record(admin.get("/api/v1/tokens", params={"user": "*"}))
    record(admin.get("/api/v1/access-keys", params={"user": "*"}))
    record(server.client(token=token).get("/api/v1/tasks"))
    record(server.client(token=token + "x").get("/api/v1/tasks"))
    record(server.client(token=token[:-1] + "x").get("/api/v1/tasks"))
    record(admin.get("/api/v1/audit"))
    _check(server, record, logged, [token, token.rpartition("_")[2], pair["secret_key"]])


def test_a_sealed_secret_fits_nowhere_else(server: Server) -> None:
    admin = server.client()
    for name in ("one", "two"):
        body = {
            "name": name,
            "provider": "minio",
            "endpoint": "http://127.0.0.1:9",
            "access_key": "AK",
            "secret_key": name,
        }
        admin.post("/api/v1/connections", json=body)
    with server.control.pool.write() as c:
        found = c.value("SELECT secrets FROM connection WHERE name = 'one'")
        c.change("UPDATE connection SET secrets = :secrets WHERE name = 'two'", {"secrets": found})
    answer = admin.get("/api/v1/connections/two/browse", params={"place": "b"})
    assert answer.status_code == 400
    assert "one" not in answer.text.replace("connection/", "")


def test_settings_do_not_print_the_admin_token() -> None:
    from entrepot.control.settings import load

    settings = load("", {"ENTREPOT_ADMIN_TOKEN": "planted-admin-token-0123456789"})
    assert "planted" not in repr(settings)
    code = "from entrepot.control.settings import load; load()"
    bad = {"ENTREPOT_ADMIN_TOKEN": "planted", "ENTREPOT_PORT": "planted-by-mistake", "PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], env=bad, capture_output=True, text=True, check=False)
    assert found.returncode != 0 and "planted-by-mistake" not in found.stderr.rpartition("UsageError")[2]
