"""/api/v1/usage: what was moved by scope and day, and the quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from entrepot.ledger import usage
from parts.api_server import Server
from plan_parts import end_task, filed_task

ONE_DATABASE = pytest.mark.parametrize("ledger_place", ["sqlite"], indirect=True)
BASE = "/api/v1/usage"
QUOTAS = f"{BASE}/quotas"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _end(server: Server, scope: str, copied: int) -> None:
    end_task(server.control.pool, filed_task(server.control.pool, scope), copied=copied, copied_bytes=copied * 10)


def test_usage_of_ended_tasks(api: TestClient, server: Server) -> None:
    for scope, copied in (("a", 1), ("a", 2), ("b", 4)):
        _end(server, scope, copied)
    found = api.get(BASE).json()
    assert found["next_page_token"] == ""
    shown = [{**row, "day": "today"} for row in found["usage"]]
    assert shown == [
        {"scope": "a", "day": "today", "tasks": 2, "entries": 3, "bytes": 30, "failed": 0},
        {"scope": "b", "day": "today", "tasks": 1, "entries": 4, "bytes": 40, "failed": 0},
    ]
    assert [row["scope"] for row in api.get(BASE, params={"scope": "b"}).json()["usage"]] == ["b"]


def test_days_are_bounds_and_both_included(api: TestClient, server: Server) -> None:
    _end(server, "a", 1)
    # The test may run over midnight.
    day = api.get(BASE).json()["usage"][0]["day"]
    before = (datetime.fromisoformat(day) - timedelta(days=1)).date().isoformat()
    assert len(api.get(BASE, params={"from": day, "to": day}).json()["usage"]) == 1
    assert api.get(BASE, params={"to": before}).json()["usage"] == []
    assert api.get(BASE, params={"from": before, "to": before}).json()["usage"] == []


def test_usage_is_paged(api: TestClient, server: Server) -> None:
    for number in range(5):
        _end(server, f"s{number}", 1)
    seen: list[str] = []
    token = ""
    while True:
        page = api.get(BASE, params={"page_size": 2, "page_token": token}).json()
        seen += [row["scope"] for row in page["usage"]]
        token = page["next_page_token"]
        if not token:
            break
    assert seen == [f"s{number}" for number in range(5)]
    first = api.get(BASE, params={"page_size": 2}).json()["next_page_token"]
    assert api.get(BASE, params={"page_size": 2, "page_token": first, "scope": "s1"}).status_code == 400


def test_one_sees_ones_own_scopes_only(server: Server) -> None:
    for scope in ("team/a", "team/b"):
        _end(server, scope, 1)
    reader = server.client("reader", "team/a")
    assert [row["scope"] for row in reader.get(BASE).json()["usage"]] == ["team/a"]
    assert [row["scope"] for row in reader.get(BASE, params={"scope": "team"}).json()["usage"]] == ["team/a"]
    assert reader.get(BASE, params={"scope": "team/b"}).status_code == 403
    assert server.client(None).get(BASE).status_code == 403


def test_quotas_are_set_and_dropped_by_administrators(server: Server, api: TestClient) -> None:
    made = api.put(QUOTAS, json={"scope": "team", "name": "max_running", "amount": 3})
    assert (made.status_code, made.json()) == (200, {"scope": "team", "name": "max_running", "amount": 3})
    assert api.put(QUOTAS, json={"scope": "team", "name": "max_running", "amount": 2}).status_code == 200
    assert api.get(QUOTAS).json()["quotas"] == [{"scope": "team", "name": "max_running", "amount": 2}]
    with server.control.pool.read() as c:
        assert usage.quotas(c) == [usage.Quota("team", "max_running", 2)]
    for role in ("reader", "editor", "operator"):
        client = server.client(role)
        assert client.put(QUOTAS, json={"name": "max_running", "amount": 9}).status_code == 403
        assert client.delete(QUOTAS, params={"name": "max_running", "scope": "team"}).status_code == 403
        assert len(client.get(QUOTAS).json()["quotas"]) == 1
    assert server.client("reader", "other").get(QUOTAS).json()["quotas"] == []
    assert api.delete(QUOTAS, params={"name": "max_running", "scope": "team"}).status_code == 204
    assert api.delete(QUOTAS, params={"name": "max_running", "scope": "team"}).status_code == 404


@ONE_DATABASE
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "20260101"}, "from"),
        ({"from": "２０２６-01-01"}, "from"),
        ({"from": "2026-01-01T00:00:00"}, "from"),
        ({"to": "0000-01-01"}, "to"),
        ({"to": "2026-1-1"}, "to"),
        ({"to": "' OR 1=1"}, "to"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"to": "0001-01-05"}, "to"),
        ({"to": "1969-12-31"}, "to"),
        ({"scope": "a//b"}, "scope"),
        ({"scope": "x" * 2000}, "scope"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"page_token": "nonsense"}, "page_token"),
        ({"day": "2026-01-01"}, "day"),
    ],
)
def test_wrong_queries(api: TestClient, query: dict[str, Any], field: str) -> None:
    answer = api.get(BASE, params=query)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field


@ONE_DATABASE
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "fun"}, "name"),
        ({"name": 1}, "name"),
        ({"amount": -1}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"amount": "3"}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": 2**63}, "amount"),
        ({"amount": None}, "amount"),
        ({"scope": "/"}, "scope"),
        ({"scope": "a\x00"}, "scope"),
        ({"scope": None}, "scope"),
        ({"unit": "GB"}, "unit"),
    ],
)
def test_wrong_quotas(api: TestClient, wrong: dict[str, Any], field: str) -> None:
    answer = api.put(QUOTAS, json={"scope": "a", "name": "max_running", "amount": 1, **wrong})
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["fieldViolations"][0]["field"] == field
    assert api.get(QUOTAS).json()["quotas"] == []
    if field in ("name", "scope"):
        refused = api.delete(QUOTAS, params={"name": "max_running", **{k: str(v) for k, v in wrong.items()}})
        assert refused.status_code in (400, 404)
