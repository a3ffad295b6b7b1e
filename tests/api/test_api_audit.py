"""/api/v1/audit: found, checked and exported, by those who may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from entrepot.control import audit
from entrepot.ledger.audit import Entry, append
from parts.api_server import Server

ONE_DATABASE = pytest.mark.parametrize("ledger_place", ["sqlite"], indirect=True)
BASE = "/api/v1/audit"


def _fill(server: Server, count: int = 7) -> None:
    with server.control.pool.write() as c:
        for number in range(count):
            scope = f"team/{'ab'[number % 2]}"
            append(c, Entry("ann", "task.create", f"task {number}", scope, "done", "192.0.2.1", "détail"))


def test_records_are_found(api: TestClient, server: Server) -> None:
    _fill(server)
    found = api.get(BASE).json()["records"]
    assert [row["subject"] for row in found] == [f"task {n}" for n in range(6, -1, -1)]
    assert found[0]["detail"] == "détail"
    assert found[0]["at"].endswith("Z")
    assert [row["subject"] for row in api.get(BASE, params={"subject": "task 3"}).json()["records"]] == ["task 3"]
    assert len(api.get(BASE, params={"scope": "team/a"}).json()["records"]) == 4
    assert api.get(BASE, params={"until": found[0]["at"][:4] + "-01-01T00:00:00Z"}).json()["records"] == []
    assert len(api.get(BASE, params={"since": "2020-01-01T00:00:00+01:00"}).json()["records"]) == 7
    assert api.get(BASE, params={"outcome": "refused"}).json()["records"] == []


def test_records_are_paged(api: TestClient, server: Server) -> None:
    _fill(server)
    seen: list[int] = []
    token = ""
    while True:
        page = api.get(BASE, params={"page_size": 3, "page_token": token, "principal": "ann"}).json()
        seen += [row["id"] for row in page["records"]]
        token = page["next_page_token"]
        if not token:
            break
    assert seen == list(range(7, 0, -1))


def test_the_chain_is_checked(api: TestClient, server: Server) -> None:
    _fill(server)
    good = api.post(f"{BASE}:verify", json={}).json()
    assert (good["good"], good["rows"], good["head"], good["broken"]) == (True, 7, 7, None)
    known = {"known": {"id": good["head"], "hash": good["head_hash"]}}
    assert api.post(f"{BASE}:verify", json=known).json()["good"]
    with server.control.pool.write() as c:
        c.change("UPDATE audit SET subject = 'task 99' WHERE id = 4")
    bad = api.post(f"{BASE}:verify", json={}).json()
    assert (bad["good"], bad["broken"], bad["rows"]) == (False, 4, 3)
    assert bad["reason"]


def test_a_cut_end_is_found_with_the_head_that_was_kept(api: TestClient, server: Server) -> None:
    _fill(server)
    good = api.post(f"{BASE}:verify", json={}).json()
    with server.control.pool.write() as c:
        c.change("DELETE FROM audit WHERE id = 7")
    assert api.post(f"{BASE}:verify", json={}).json()["good"]
    known = {"known": {"id": good["head"], "hash": good["head_hash"]}}
    assert not api.post(f"{BASE}:verify", json=known).json()["good"]


def test_all_of_it_as_lines(api: TestClient, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_PAGE", 100)
    _fill(server, 450)
    answer = api.get(f"{BASE}:export", params={"scope": "team"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == list(range(450, 0, -1))
    assert lines[-1]["subject"] == "task 0"
    assert api.get(f"{BASE}:export", params={"principal": "nobody"}).text == ""


def test_rights(server: Server) -> None:
    _fill(server)
    for role in ("reader", "reviewer", "editor", "operator"):
        client = server.client(role)
        assert client.get(BASE).status_code == 403
        assert client.get(f"{BASE}:export").status_code == 403
        assert client.post(f"{BASE}:verify", json={}).status_code == 403
    part = server.client("admin", "team/a")
    found = part.get(BASE).json()["records"]
    assert {row["scope"] for row in found} == {"team/a"}
    assert len(part.get(f"{BASE}:export").text.splitlines()) == len(found)
    assert part.get(BASE, params={"scope": "team/b"}).status_code == 403
    assert part.post(f"{BASE}:verify", json={}).status_code == 403


@ONE_DATABASE
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"until": "1969-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"outcome": "maybe"}, "outcome"),
        ({"principal": "x" * 2000}, "principal"),
        ({"action": "a\x00b"}, "action"),
        ({"text": "\x01"}, "text"),
        ({"subject": "x" * 2000}, "subject"),
        ({"address": "x" * 2000}, "address"),
        ({"scope": "../x"}, "scope"),
        ({"page_size": 0}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"who": "ann"}, "who"),
        ([("action", "a"), ("action", "b")], "action"),
    ],
)
def test_wrong_queries(api: TestClient, query: Any, field: str) -> None:
    for path in (BASE, f"{BASE}:export"):
        if "page" in field and path != BASE:
            continue
        answer = api.get(path, params=query)
        assert answer.status_code == 400, answer.text
        assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field


@ONE_DATABASE
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"known": {}}, "known.id"),
        ({"known": {"id": 0, "hash": "0" * 64}}, "known.id"),
        ({"known": {"id": "1", "hash": "0" * 64}}, "known.id"),
        ({"known": {"id": 2**70, "hash": "0" * 64}}, "known.id"),
        ({"known": {"id": 1, "hash": "xyz"}}, "known.hash"),
        ({"known": {"id": 1, "hash": "0" * 63 + "\n"}}, "known.hash"),
        ({"known": 7}, "known"),
        ({"head": 7}, "head"),
    ],
)
def test_wrong_checks(api: TestClient, body: dict[str, Any], field: str) -> None:
    answer = api.post(f"{BASE}:verify", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field
