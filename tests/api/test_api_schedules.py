"""/api/v1/schedules: made, changed, run; and every field that is wrong."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from entrepot.ledger import places
from entrepot.ledger.ids import new_id
from entrepot.ledger.places import StoredVolume
from entrepot.service import planner
from parts.api_server import Server
from plan_parts import Receiver, end_task

ONE_DATABASE = pytest.mark.parametrize("ledger_place", ["sqlite"], indirect=True)
BASE = "/api/v1/schedules"
REQUEST = {"source": "volume://in/a", "destination": "volume://out/b"}
BODY = {"name": "nightly", "cron": "30 2 * * *", "request": REQUEST, "scope": "team"}


@pytest.fixture(autouse=True)
def volumes(server: Server, tmp_path: Path) -> None:
    with server.control.pool.write() as c:
        for name in ("in", "out"):
            (tmp_path / name).mkdir()
            places.add_volume(c, StoredVolume(new_id(), name, str(tmp_path / name)))


def _make(api: TestClient, **more: Any) -> dict[str, Any]:
    answer = api.post(BASE, json={**BODY, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_schedule_is_made_read_changed_and_removed(api: TestClient, server: Server) -> None:
    request = {**REQUEST, "options": {"compare": "size", "list": None, "exclude": ["*.tmp"]}, "priority": 7}
    made = _make(api, request=request, zone="Europe/Berlin", max_count=3, overlap="queue")
    assert made["request"] == {
        **REQUEST, "options": {"compare": "size", "exclude": ["*.tmp"]}, "priority": 7, "name": "", "kind": "sync",
    }  # fmt: skip
    assert made["next_due"].endswith("30:00.000Z")
    assert (made["enabled"], made["runs"], made["waiting"], made["last_task"]) == (True, 0, False, "")
    assert server.bell.rings == 1
    where = f"{BASE}/{made['id']}"
    assert api.get(where).json() == made
    changed = api.patch(where, json={"cron": "@hourly", "name": "hourly", "max_count": 0}).json()
    assert (changed["cron"], changed["name"], changed["max_count"]) == ("@hourly", "hourly", 0)
    assert changed["next_due"] != made["next_due"]
    paused = api.patch(where, json={"enabled": False}).json()
    assert (paused["enabled"], paused["next_due"]) == (False, None)
    assert api.patch(where, json={"enabled": True}).json()["next_due"]
    assert api.patch(where, json={}).json()["enabled"]
    assert api.delete(where).status_code == 204
    assert api.get(where).status_code == 404


def test_it_runs_now_and_when_it_is_due(api: TestClient, server: Server) -> None:
    made = _make(api)
    where = f"{BASE}/{made['id']}"
    ran = api.post(f"{where}:run").json()
    task = api.get(f"/api/v1/tasks/{ran['last_task']}").json()
    assert (task["schedule_id"], task["name"], task["scope"], task["state"]) == (
        made["id"], "nightly", "team", "QUEUED",
    )  # fmt: skip
    busy = api.post(f"{where}:run")
    assert (busy.status_code, busy.json()["code"]) == (400, 9)
    end_task(server.control.pool, task["id"])
    planner.due(server.control, datetime.fromisoformat(made["next_due"]).timestamp())
    again = api.get(where).json()
    assert again["runs"] == 2
    assert again["last_task"] not in ("", task["id"])
    assert again["last_run"] == made["next_due"]


def test_a_scheduled_run_is_told_to_webhooks_like_the_api_tells_it(api: TestClient, server: Server) -> None:
    with Receiver() as receiver:
        api.post("/api/v1/webhooks", json={"name": "w", "url": receiver.url(), "scope": "team"})
        ran = api.post(f"{BASE}/{_make(api)['id']}:run").json()
        end_task(server.control.pool, ran["last_task"], copied=2, copied_bytes=20, total=2, total_bytes=20)
    with server.control.pool.read() as c:
        import json

        told = json.loads(c.value("SELECT body FROM delivery"))["task"]
    shown = api.get(f"/api/v1/tasks/{ran['last_task']}").json()
    assert told == {name: shown[name] for name in told}
    assert told["totals"]["copied"] == {"entries": 2, "bytes": 20}


def test_names_keys_and_pages(api: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.post(BASE, json=BODY, headers=headers)
    second = api.post(BASE, json=BODY, headers=headers)
    assert (first.status_code, first.content) == (201, second.content)
    assert api.post(BASE, json=BODY).status_code == 409
    _make(api, scope="team/b")
    _make(api, name="other")
    seen: list[str] = []
    token = ""
    while True:
        page = api.get(BASE, params={"page_size": 1, "page_token": token, "scope": "team"}).json()
        seen += [one["name"] for one in page["schedules"]]
        token = page["next_page_token"]
        if not token:
            break
    assert sorted(seen) == ["nightly", "nightly", "other"]
    assert [one["scope"] for one in api.get(BASE, params={"scope": "team/b"}).json()["schedules"]] == ["team/b"]
    other = next(one for one in api.get(BASE).json()["schedules"] if one["name"] == "other")
    assert api.patch(f"{BASE}/{other['id']}", json={"name": "nightly"}).status_code == 409


def test_rights(server: Server, api: TestClient) -> None:
    made = _make(api)
    reader, editor, far = (
        server.client("reader", "team"), server.client("editor", "team"), server.client("operator", "other"),
    )  # fmt: skip
    where = f"{BASE}/{made['id']}"
    assert reader.get(where).status_code == 200
    for method, path, body in (
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("POST", ":run", None),
    ):
        assert reader.request(method, where + path, json=body).status_code == 403
        assert far.request(method, where + path, json=body).status_code == 404
    assert far.get(where).status_code == 404
    assert far.get(BASE).json()["schedules"] == []
    assert far.post(BASE, json=BODY).status_code == 403
    assert reader.post(BASE, json={**BODY, "name": "x"}).status_code == 403
    assert editor.post(BASE, json={**BODY, "name": "x"}).status_code == 201
    assert server.client(None).post(f"{BASE}:preview", json={"cron": "@daily"}).status_code == 403


def test_a_preview_of_times(api: TestClient) -> None:
    found = api.post(f"{BASE}:preview", json={"cron": "0 12 * * *", "zone": "Asia/Tokyo", "count": 3}).json()["times"]
    assert len(found) == 3
    assert all(time.endswith("T03:00:00.000Z") for time in found)
    assert found == sorted(found)


LONG = "x" * 5000
BAD: list[tuple[str, dict[str, Any]]] = [
    ("name", {"name": ""}),
    ("name", {"name": LONG}),
    ("name", {"name": "a\x00"}),
    ("name", {"name": 1}),
    ("cron", {"cron": ""}),
    ("cron", {"cron": "* * * *"}),
    ("cron", {"cron": "61 * * * *"}),
    ("cron", {"cron": "0 0 30 2 *"}),
    ("cron", {"cron": "@reboot"}),
    ("cron", {"cron": LONG}),
    ("cron", {"cron": "0 0 * * *\n"}),
    ("cron", {"cron": "0 0 * * *; rm -rf /"}),
    ("cron", {"cron": 5}),
    ("cron", {"cron": "４ ４ * * *"}),
    ("zone", {"zone": "Mars/Base"}),
    ("zone", {"zone": ""}),
    ("zone", {"zone": "../../etc/passwd"}),
    ("zone", {"zone": "Europe"}),
    ("zone", {"zone": "x" * 65}),
    ("zone", {"zone": 1}),
    ("max_count", {"max_count": -1}),
    ("max_count", {"max_count": "3"}),
    ("max_count", {"max_count": 1.5}),
    ("max_count", {"max_count": 2**64}),
    ("max_count", {"max_count": True}),
    ("overlap", {"overlap": "both"}),
    ("overlap", {"overlap": 1}),
    ("enabled", {"enabled": "true"}),
    ("enabled", {"enabled": 1}),
    ("scope", {"scope": "a//b"}),
    ("scope", {"scope": 7}),
    ("request", {"request": "sync"}),
    ("request", {"request": []}),
    ("request.source", {"request": {"destination": "volume://out/b"}}),
    ("request.source", {"request": {**REQUEST, "source": ""}}),
    ("request.source", {"request": {**REQUEST, "source": "/etc/passwd"}}),
    ("request.source", {"request": {**REQUEST, "source": "volume://nowhere/"}}),
    ("request.source", {"request": {**REQUEST, "source": "volume://in/../../etc"}}),
    ("request.source", {"request": {**REQUEST, "source": "s3://bucket/"}}),
    ("request.destination", {"request": {**REQUEST, "destination": "nobody:bucket/x"}}),
    ("request.destination", {"request": {**REQUEST, "destination": "volume://in/a"}}),
    ("request.destination", {"request": {**REQUEST, "destination": LONG}}),
    ("request.destination", {"request": {**REQUEST, "destination": "volume://out/\x00"}}),
    ("request.kind", {"request": {**REQUEST, "kind": "delete"}}),
    ("request.priority", {"request": {**REQUEST, "priority": 101}}),
    ("request.priority", {"request": {**REQUEST, "priority": "1"}}),
    ("request.options.compare", {"request": {**REQUEST, "options": {"compare": "guess"}}}),
    ("request.options.speed", {"request": {**REQUEST, "options": {"speed": 1}}}),
    ("request.name", {"request": {**REQUEST, "name": "\x07"}}),
    ("request.scope", {"request": {**REQUEST, "scope": "team"}}),
    ("request.not_before", {"request": {**REQUEST, "not_before": "2026-01-01T00:00:00Z"}}),
    ("color", {"color": "red"}),
]


@ONE_DATABASE
@pytest.mark.parametrize(("field", "wrong"), BAD, ids=lambda value: str(value)[:60])
def test_a_wrong_field_is_named_and_nothing_is_made(api: TestClient, field: str, wrong: dict[str, Any]) -> None:
    answer = api.post(BASE, json={**BODY, **wrong})
    assert (answer.status_code, answer.json()["code"]) == (400, 3), answer.text
    named = answer.json()["details"][0]["fieldViolations"][0]["field"]
    assert named == field
    assert api.get(BASE).json()["schedules"] == []
    if field == "scope":
        return
    made = _make(api)
    answer = api.patch(f"{BASE}/{made['id']}", json=wrong)
    assert answer.status_code == 400, answer.text
    assert api.get(f"{BASE}/{made['id']}").json() == made


@ONE_DATABASE
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "cron"),
        ({"cron": "x"}, "cron"),
        ({"cron": "@daily", "zone": "x"}, "zone"),
        ({"cron": "@daily", "count": 0}, "count"),
        ({"cron": "@daily", "count": 101}, "count"),
        ({"cron": "@daily", "count": "5"}, "count"),
        ({"cron": "@daily", "from": "now"}, "from"),
    ],
)
def test_wrong_previews(api: TestClient, body: dict[str, Any], field: str) -> None:
    answer = api.post(f"{BASE}:preview", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field
