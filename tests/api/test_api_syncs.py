"""Syncs and tasks over HTTP: created once, listed by filters, ordered about, reported; and the first token."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from entrepot.control import users
from entrepot.control.settings import Settings
from entrepot.ledger import journal, tasks
from entrepot.model.errors import FailureClass
from entrepot.model.secret import Secret
from entrepot.model.shard import Failure
from entrepot.model.task import TaskState
from entrepot.security import signing
from parts.api_server import Server

SYNC = {"source": "volume://data/a", "destination": "volume://data/b"}


@pytest.fixture
def client(server: Server, tmp_path: Path) -> TestClient:
    """An administrator, with a volume called data."""
    (tmp_path / "opened").mkdir()
    made = server.client()
    assert made.post("/api/v1/volumes", json={"name": "data", "path": str(tmp_path / "opened")}).status_code == 201
    return made


def _create(client: TestClient, **more: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/syncs", json={**SYNC, **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_sync_is_queued_as_it_was_asked_for(server: Server, client: TestClient) -> None:
    options = {"compare": "size", "include": ["*.jpg"], "exclude": ["*"], "report": True, "resource_spec": "2Core_4GiB"}
    made = _create(client, name="photos", options=options, priority=5, not_before="2030-01-01T00:00:00Z")
    assert (made["state"], made["priority"], made["not_before"]) == ("QUEUED", 5, "2030-01-01T00:00:00.000Z")
    assert made["options"] == options
    assert server.bell.rings == 1
    with server.control.pool.read() as c:
        found = tasks.read(c, made["id"])
    kept = json.loads(found.spec.options)
    assert (kept["compare"], kept["filters"], bool(kept["report"])) == ("size", ["+ *.jpg", "- *"], True)
    assert found.filing.family == "native"
    assert client.get(f"/api/v1/tasks/{made['id']}").json() == made


def test_a_preview_changes_nothing(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    client.post("/api/v1/volumes", json={"name": "closed", "path": str(tmp_path / "closed"), "read_only": True})
    wanted = {"source": "volume://data/a", "destination": "volume://closed/b"}
    refused = client.post("/api/v1/syncs", json=wanted)
    assert refused.status_code == 400 and "destination" in refused.text
    made = client.post("/api/v1/syncs:preview", json=wanted)
    assert made.status_code == 201 and made.json()["dry_run"] is True


def test_the_same_request_twice_makes_one_task(server: Server, client: TestClient) -> None:
    key = {"Idempotency-Key": "night-1"}
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/api/v1/syncs", json=SYNC, headers=key)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert client.get("/api/v1/tasks").json()["total"] == 1
    other = client.post("/api/v1/syncs", json={**SYNC, "name": "x"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, 6)
    somebody = server.client()
    assert somebody.post("/api/v1/syncs", json=SYNC, headers=key).json() != answers[0].json()
    with server.control.pool.write() as c:
        c.change("UPDATE idempotency SET at = at - 86401")
    assert client.post("/api/v1/syncs", json=SYNC, headers=key).json() != answers[0].json()


def test_a_failed_request_may_be_sent_again_with_its_key(client: TestClient) -> None:
    key = {"Idempotency-Key": "k"}
    bad = {"source": "volume://later/a", "destination": "volume://data/b"}
    assert client.post("/api/v1/syncs", json=bad, headers=key).status_code == 400
    assert client.post("/api/v1/syncs", json=SYNC, headers=key).status_code == 201


def test_lists_are_filtered_and_turned_page_by_page(server: Server, client: TestClient) -> None:
    made = [_create(client, name=f"task {n}", kind="verify" if n % 3 == 0 else "sync")["id"] for n in range(7)]
    client.post(f"/api/v1/tasks/{made[1]}:cancel")

    def ids(**query: Any) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = client.get("/api/v1/tasks", params={**query, "page_size": 2, "page_token": token}).json()
            found += [one["id"] for one in page["tasks"]]
            token = page["next_page_token"]
            if not token:
                assert page["total"] == len(found)
                return found

    assert ids() == made[::-1]
    assert ids(sort="created") == made
    assert ids(kind="verify") == [made[6], made[3], made[0]]
    assert ids(state="CANCELLED") == [made[1]]
    assert ids(state=["CANCELLED", "QUEUED"], kind="sync") == [made[n] for n in (5, 4, 2, 1)]
    assert ids(text="task 3") == [made[3]]
    assert ids(creator="nobody") == []
    assert ids(created_after="2020-01-01T00:00:00Z") == made[::-1]
    assert ids(created_before="2020-01-01T00:00:00+08:00") == []
    assert ids(family="datasync") == []


def test_only_what_one_may_see_is_listed(server: Server, client: TestClient) -> None:
    mine = _create(client, scope="team/a")["id"]
    theirs = _create(client, scope="team/b")["id"]
    reader = server.client("reader", "team/a")
    assert [one["id"] for one in reader.get("/api/v1/tasks").json()["tasks"]] == [mine]
    assert reader.get("/api/v1/tasks", params={"scope": "team/b"}).json()["total"] == 0
    assert reader.get(f"/api/v1/tasks/{theirs}").status_code == 404
    assert reader.post(f"/api/v1/tasks/{mine}:cancel").status_code == 403
    assert reader.post(f"/api/v1/tasks/{theirs}:cancel").status_code == 404
    assert server.client("editor", "team/a").post(f"/api/v1/tasks/{mine}:cancel").status_code == 200


def test_a_volume_for_some_is_none_for_others(server: Server, client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    client.post("/api/v1/volumes", json={"name": "team", "path": str(tmp_path / "team"), "scope": "team/a"})
    wanted = {"source": "volume://team/x", "destination": "volume://data/y"}
    assert server.client("editor", "team/a").post("/api/v1/syncs", json=wanted).status_code == 201
    assert server.client("editor", "team/b").post("/api/v1/syncs", json=wanted).status_code == 400
    assert server.client("reader", "team/b").get("/api/v1/volumes/team").status_code == 404
    seen = server.client("reader", "team/a").get("/api/v1/volumes/team").json()
    assert seen["path"] == "", "where it is on the server is not told to all"


def test_connections_for_all_and_for_some(server: Server, client: TestClient) -> None:
    body = {"name": "lab", "provider": "minio", "endpoint": "http://127.0.0.1:9"}
    assert client.post("/api/v1/connections", json=body).status_code == 201
    for scope, port in (("team/a", 7), ("team/b", 8)):
        mine = {**body, "scope": scope, "endpoint": f"http://127.0.0.1:{port}", "name": "own"}
        assert client.post("/api/v1/connections", json=mine).status_code == 201
    editor = server.client("editor", "team/a")
    listed = editor.get("/api/v1/connections").json()["connections"]
    assert [(one["name"], one["scope"]) for one in listed] == [("lab", ""), ("own", "team/a")]
    assert editor.get("/api/v1/connections/own").json()["endpoint"].endswith(":7")
    assert editor.get("/api/v1/connections/lab").status_code == 200
    assert editor.get("/api/v1/connections/own", params={"scope": "team/b"}).status_code == 404
    assert editor.patch("/api/v1/connections/lab", json={"max_tasks": 1}).status_code == 403
    operator = server.client("operator", "team/a")
    assert operator.patch("/api/v1/connections/lab", json={"max_tasks": 1}).status_code == 404
    assert operator.patch("/api/v1/connections/own", json={"max_tasks": 1}).status_code == 200
    made = editor.post("/api/v1/syncs", json={"source": "own:b/x", "destination": "volume://data/y"}).json()
    with server.control.pool.read() as c:
        used = tasks.read(c, made["id"]).filing.source_connection
        assert c.value("SELECT scope FROM connection WHERE id = :id", {"id": used}) == "team/a"


def test_orders_and_wrong_states(client: TestClient) -> None:
    task = _create(client)["id"]

    def order(verb: str) -> Any:
        return client.post(f"/api/v1/tasks/{task}:{verb}")

    assert order("pause").json()["state"] == "PAUSED"
    assert order("pause").json()["state"] == "PAUSED"
    refused = order("retry")
    assert (refused.status_code, refused.json()["code"]) == (400, 9)
    assert "PAUSED" in refused.json()["message"]
    assert order("resume").json()["state"] == "QUEUED"
    assert client.delete(f"/api/v1/tasks/{task}").status_code == 400
    assert order("cancel").json()["state"] == "CANCELLED"
    assert order("cancel").json()["state"] == "CANCELLED"
    assert client.delete(f"/api/v1/tasks/{task}").status_code == 204
    assert client.get(f"/api/v1/tasks/{task}").status_code == 404


def test_a_review_is_decided_by_a_reviewer(server: Server, client: TestClient) -> None:
    task = _create(client)["id"]
    with server.control.pool.write() as c:
        tasks.transition(c, task, TaskState.REVIEW, "too many deletes")
    url = f"/api/v1/tasks/{task}:reject"
    assert server.client("editor").post(url, json={}).status_code == 403
    assert server.client("reviewer").post(url, json={"reason": "not today"}).json()["state"] == "REJECTED"


def test_failures_and_their_classes(server: Server, client: TestClient) -> None:
    task = _create(client)["id"]
    found = [Failure(f"k{n}".encode(), FailureClass.FORBIDDEN, "no", 1, 5) for n in range(5)]
    found.append(Failure(b"\xff", FailureClass.NAME, "odd", 1, 5))
    with server.control.pool.write() as c:
        journal.add_failures(c, task, "scan", found, 0)
    url = f"/api/v1/tasks/{task}/failures"
    first = client.get(url, params={"page_size": 4}).json()
    rest = client.get(url, params={"page_size": 4, "page_token": first["next_page_token"]}).json()
    assert len(first["failures"]) == 4 and len(rest["failures"]) == 2
    odd = first["failures"][0]
    assert (odd["key"], odd["key_hex"], odd["failure"]) == ("\\xff", "ff", "name")
    assert client.get(f"/api/v1/tasks/{task}").json()["failures"] == {"forbidden": 5, "name": 1}


def test_a_report_in_three_forms(server: Server, client: TestClient) -> None:
    task = _create(client, options={"report": True})["id"]
    url = f"/api/v1/tasks/{task}/report"
    missing = client.get(url)
    assert missing.status_code == 404 and "when the task ends" in missing.text
    rows = [
        {"key": f'a,"{n}"\n=x', "outcome": "copied", "size": n, "proof": "md5", "note": "", "key_hex": ""}
        for n in range(50_000)
    ]
    place = Path(server.control.state_dir) / "reports" / f"{task}.jsonl"
    place.parent.mkdir(exist_ok=True)
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [json.loads(line) for line in client.get(url).text.splitlines()] == rows
    table = list(csv.DictReader(io.StringIO(client.get(url, params={"format": "csv"}).text, newline="")))
    assert [(row["key"], int(row["size"])) for row in table] == [(row["key"], row["size"]) for row in rows]
    import pyarrow.parquet as pq

    found = pq.read_table(io.BytesIO(client.get(url, params={"format": "parquet"}).content))
    assert found.to_pylist() == rows
    assert client.get(url, params={"format": "xml"}).status_code == 400
    client.post(f"/api/v1/tasks/{task}:cancel")
    client.delete(f"/api/v1/tasks/{task}")
    assert not place.exists()


def test_a_list_of_keys_is_copied_out_of_its_volume(server: Server, client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "opened" / "keys.txt").write_text("a\nb\n")
    (tmp_path / "secret.txt").write_text("root:x\n")
    (tmp_path / "opened" / "link.txt").symlink_to(tmp_path / "secret.txt")
    made = _create(client, options={"list": "volume://data/keys.txt"})
    with server.control.pool.read() as c:
        kept = json.loads(tasks.read(c, made["id"]).spec.options)["list"]
    assert Path(kept).read_text() == "a\nb\n"
    assert Path(kept).is_relative_to(server.control.state_dir)
    for bad in ("volume://data/link.txt", "volume://data/none.txt", "volume://data", "/etc/passwd", "lab:b/k"):
        answer = client.post("/api/v1/syncs", json={**SYNC, "options": {"list": bad}})
        assert answer.status_code == 400 and "options.list" in answer.text, bad
        assert str(tmp_path) not in answer.text


def test_a_quota_of_tasks_is_kept(client: TestClient) -> None:
    client.put("/api/v1/usage/quotas", json={"name": "max_queued", "amount": 1})
    _create(client)
    refused = client.post("/api/v1/syncs", json=SYNC)
    assert (refused.status_code, refused.json()["code"]) == (429, 8)
    assert refused.headers["retry-after"]


def test_what_is_in_use_cannot_be_taken_away(client: TestClient) -> None:
    body = {"name": "lab", "provider": "minio", "endpoint": "http://127.0.0.1:9"}
    assert client.post("/api/v1/connections", json=body).status_code == 201
    task = _create(client, source="lab:bucket/x")["id"]
    for noun in ("connections/lab", "volumes/data"):
        refused = client.delete(f"/api/v1/{noun}")
        assert (refused.status_code, refused.json()["code"]) == (400, 9)
        assert task in refused.json()["message"]
    client.post(f"/api/v1/tasks/{task}:cancel")
    for noun in ("connections/lab", "volumes/data"):
        assert client.delete(f"/api/v1/{noun}").status_code == 204


def test_signed_requests_open_the_door(server: Server) -> None:
    pair = server.client().post("/api/v1/access-keys", json={}).json()
    nobody = server.client(token="-")
    good = signing.sign(pair["access_key"], Secret(pair["secret_key"]), server.control.wall())
    assert nobody.get("/api/v1/tasks", headers=good).status_code == 200
    old = signing.sign(pair["access_key"], Secret(pair["secret_key"]), server.control.wall() - 1000)
    assert nobody.get("/api/v1/tasks", headers=old).status_code == 401
    forged = signing.sign(pair["access_key"], Secret("x"), server.control.wall())
    assert nobody.get("/api/v1/tasks", headers=forged).status_code == 401


def test_the_first_administrator(make_server: Callable[..., Server]) -> None:
    server = make_server()
    first = users.first_admin(server.control)
    assert first is not None
    assert server.client(token=first.reveal()).get("/api/v1/users").status_code == 200
    assert users.first_admin(server.control) is None


def test_an_administrator_token_of_the_operators_own(make_server: Callable[..., Server]) -> None:
    own = "an-admin-token-of-my-own-0123456789"
    server = make_server(admin_token=Secret(own))
    assert isinstance(server.control.settings, Settings)
    for _ in range(2):
        assert users.first_admin(server.control) is None
    assert server.client(token=own).get("/api/v1/users").status_code == 200


def test_metrics_count_tasks_and_answers(server: Server, client: TestClient) -> None:
    task = _create(client)["id"]
    client.get(f"/api/v1/tasks/{task}")
    page = client.get("/metrics").text
    assert 'entrepot_tasks{family="native",state="QUEUED"} 1.0' in page
    assert 'route="/api/v1/tasks/{task_id}"' in page
    assert task not in page, "no label of a single task"


def test_the_page_of_the_document_needs_nothing_from_elsewhere(server: Server) -> None:
    nobody = server.client(token="-")
    for path in ("/docs", "/docs/page.js", "/docs/page.css"):
        answer = nobody.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text and "https://" not in answer.text
    assert "script-src 'self'" in nobody.get("/docs").headers["content-security-policy"]
