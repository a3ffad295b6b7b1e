"""Every route asks for the right that it should: no credentials, no role, and each role, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from entrepot.api.routers import routers
from entrepot.control.identify import RUNNERS
from entrepot.security.identity import RIGHTS, Action, Role
from entrepot.security.tokens import TaskToken, mint_task_token
from parts.api_rules import ANYBODY, NONE, RULES, SEEN, Rule
from parts.api_server import Server

ROUTES = sorted(
    (method, route.path)  # type: ignore[attr-defined]
    for router in routers()
    for route in router.routes
    for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
)
REFUSED = (401, 403, 404)


class Stage:
    """One object of each kind, made again when a call has taken it away."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.admin = server.client()
        self.names: dict[str, str] = {
            "directory": str(directory / "fresh"), "user": "bob", "subscription_name": "sub",
            "resource_group_name": "group", "zone": "zone", "data_sync_name": "tool", "delivery_id": "1",
            "node": "01AAAAAAAAAAAAAAAAAAAAAAAA", "task": "01AAAAAAAAAAAAAAAAAAAAAAAA",
            "runner": "01AAAAAAAAAAAAAAAAAAAAAAAA",
        }  # fmt: skip
        for name in ("opened", "fresh"):
            (directory / name).mkdir()
        self._post("volumes", name="data", path=str(directory / "opened"))

    def _post(self, noun: str, **body: Any) -> Any:
        return self.admin.post(f"/api/v1/{noun}", json=body).json()

    def set_up(self, path: str) -> None:
        """Whatever the path names is there; whatever the call would make is not."""
        self._post("connections", name="lab", provider="minio", endpoint="http://127.0.0.1:9")
        self._post("volumes", name="spare", path=self.names["directory"]) if "volumes/{" in path else None
        self._post("users", name="bob")
        for noun in ("connections", "users", "volumes"):
            self.admin.delete(f"/api/v1/{noun}/fresh")
        self.names["name"] = "lab" if "connections" in path else "spare" if "volumes" in path else "bob"
        if "volumes" in path and "{" not in path:
            self.admin.delete("/api/v1/volumes/spare")
        if "{data_sync_name}" in path:
            self.admin.get(self.fill(path.partition("{data_sync_name}")[0] + "{data_sync_name}"))
        if "quotas" in path:
            self.admin.put(path, json=RULES["PUT", path].body)
        if "{task_id}" in path:
            self.names["task_id"] = self._task(path)
        if "{token_id}" in path:
            self.names["token_id"] = self._post("tokens", user="bob")["id"]
        if "{access_key}" in path:
            self.names["access_key"] = self._post("access-keys", user="bob")["access_key"]
        if "{webhook_id}" in path:
            self.names["webhook_id"] = self._listed("webhooks", name="w", url="https://example.com/")
        if "{schedule_id}" in path:
            request = {"source": "volume://data/a", "destination": "volume://data/b"}
            self.names["schedule_id"] = self._listed("schedules", name="s", cron="0 3 * * *", request=request)

    def _listed(self, noun: str, **body: Any) -> str:
        made = self._post(noun, **body)
        return str(made.get("id") or self.admin.get(f"/api/v1/{noun}").json()[noun][0]["id"])

    def _task(self, path: str) -> str:
        if path.startswith("/api"):
            made = self._post("syncs", source="volume://data/a", destination="volume://data/b")
            self.admin.post(f"/api/v1/tasks/{made['id']}:cancel")
            return str(made["id"])
        rule = RULES["POST", path.partition("/{task_id}")[0]]
        made = self.admin.post(self.fill(path.partition("/{task_id}")[0]), json=rule.body).json()
        return str(made.get("data_sync_task_id") or made.get("task_id") or made.get("id"))

    def fill(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace("{" + name + "}", value)
        return text

    def call(self, client: TestClient, method: str, path: str, rule: Rule) -> Any:
        body = None if rule.body is None else json.loads(self.fill(json.dumps(rule.body)))
        query = {name: self.fill(value) for name, value in rule.query.items()}
        return client.request(method, self.fill(path), json=body, params=query)


@pytest.fixture
def stage(server: Server, tmp_path: Path) -> Stage:
    return Stage(server, tmp_path)


def test_every_route_has_a_rule() -> None:
    assert sorted(ROUTES) == sorted(RULES), "a route without a rule, or a rule without a route: see parts.api_rules"


def test_nothing_is_mounted_past_the_list(server: Server) -> None:
    listed = {path for _, path in ROUTES}
    assert set(server.app.openapi()["paths"]) <= listed


def test_without_credentials_only_health_answers(server: Server) -> None:
    nobody = server.client(token="-")
    open_routes = []
    for method, path in ROUTES:
        status = nobody.request(method, path, json=RULES[method, path].body).status_code
        if status != 401:
            open_routes.append((method, path))
            assert status in (200, 503)
    assert open_routes == [route for route in ROUTES if RULES[route].needs == NONE]


@pytest.mark.parametrize("role", [None, *Role])
def test_each_role_may_what_the_table_says_and_no_more(stage: Stage, role: Role | None) -> None:
    client = stage.server.client(role)
    rights = RIGHTS[role] if role else frozenset()
    wrong = []
    for method, path in ROUTES:
        rule = RULES[method, path]
        stage.set_up(path)
        answer = stage.call(client, method, path, rule)
        if isinstance(rule.needs, Action):
            good = _admitted(answer) if rule.needs in rights and not rule.closed else answer.status_code in REFUSED
        else:
            good = _admitted(answer)
            if rule.needs == SEEN and not rights:
                good = good and _empty(answer)
        if not good or (answer.status_code >= 500 and answer.status_code != 503):
            wrong.append((method, path, answer.status_code, answer.text[:200]))
    assert not wrong


def _admitted(answer: Any) -> bool:
    """Let in: what it says then is about the object, not about rights."""
    if answer.status_code == 404:
        return any(word in answer.text for word in ("no report", "deliver", "no runner"))
    return answer.status_code not in (401, 403)


def _empty(answer: Any) -> bool:
    return answer.status_code == 403 or not any(answer.json()[key] for key in answer.json() if key != "total")


def test_a_role_elsewhere_is_none_here(stage: Stage) -> None:
    client = stage.server.client("operator", "elsewhere")
    wrong = []
    for method, path in ROUTES:
        rule = RULES[method, path]
        # These are about the asker's own scope when none is named, and what is for all is there for all.
        if not isinstance(rule.needs, Action) or rule.needs in (
            Action.USAGE_READ, Action.SCHEDULE_READ, Action.USER_READ, Action.VOLUME_READ,
            Action.CONNECTION_READ, Action.CONNECTION_USE,
        ) or (method == "POST" and "{" not in path):  # fmt: skip
            continue
        stage.set_up(path)
        answer = stage.call(client, method, path, rule)
        if answer.status_code not in REFUSED:
            wrong.append((method, path, answer.status_code, answer.text[:200]))
    assert not wrong


def test_the_token_of_a_task_opens_nothing_for_people(stage: Stage) -> None:
    control = stage.server.control
    token = TaskToken("01AAAAAAAAAAAAAAAAAAAAAAAA", int(control.wall()) + 60)
    key_id = control.keyring.current
    text = mint_task_token(token, key_id, control.keyring.derive(RUNNERS)[key_id]).reveal()
    client = stage.server.client(token=text)
    wrong = []
    for method, path in ROUTES:
        rule = RULES[method, path]
        if rule.needs in (NONE, ANYBODY) or rule.needs is Action.RUNNER_WORK:
            continue
        stage.set_up(path)
        answer = stage.call(client, method, path, rule)
        if answer.status_code not in REFUSED and not (rule.needs == SEEN and _empty(answer)):
            wrong.append((method, path, answer.status_code, answer.text[:200]))
    assert not wrong


def test_every_refusal_is_in_the_audit(stage: Stage) -> None:
    reader = stage.server.client("reader")
    with stage.server.control.pool.read() as c:
        before = int(c.value("SELECT count(*) FROM audit WHERE outcome = 'refused'"))
    assert reader.post("/api/v1/users", json={"name": "eve"}).status_code == 403
    assert reader.delete("/api/v1/connections/lab").status_code == 403
    with stage.server.control.pool.read() as c:
        rows = c.execute("SELECT * FROM audit WHERE outcome = 'refused' ORDER BY id")
        users = {row.name for row in c.execute("SELECT name FROM principal")}
    assert len(rows) == before + 2
    assert {row.action for row in rows[-2:]} == {"user.write", "connection.write"}
    assert "eve" not in users


def test_nobody_gives_what_they_do_not_have(server: Server) -> None:
    local = server.client("admin", "team")
    give = {"name": "eve", "grants": [{"role": "reader", "scope": ""}]}
    assert local.post("/api/v1/users", json=give).status_code == 403
    give["grants"] = [{"role": "admin", "scope": "team/one"}]
    assert local.post("/api/v1/users", json=give).status_code == 201
    boss, _ = server.user("admin", name="boss")
    assert local.patch("/api/v1/users/boss", json={"disabled": True}).status_code == 403
    assert local.post("/api/v1/tokens", json={"user": boss.name}).status_code in (403, 404)
    assert "boss" not in local.get("/api/v1/users").text


def test_a_narrow_token_makes_no_wide_one(server: Server) -> None:
    wide = server.client()
    narrow = wide.post("/api/v1/tokens", json={"grants": [{"role": "reader", "scope": ""}]}).json()["token"]
    client = server.client(token=narrow)
    assert client.post("/api/v1/users", json={"name": "eve"}).status_code == 403
    refused = client.post("/api/v1/tokens", json={})
    assert refused.status_code == 400 and "grants" in refused.text
    assert client.post("/api/v1/tokens", json={"grants": [{"role": "admin", "scope": ""}]}).status_code == 400
    assert client.post("/api/v1/tokens", json={"grants": [{"role": "reader", "scope": "a"}]}).status_code == 201
    assert client.post("/api/v1/access-keys", json={}).status_code == 400


def test_what_is_revoked_or_shut_out_opens_nothing(server: Server) -> None:
    admin = server.client()
    admin.post("/api/v1/users", json={"name": "bob", "grants": [{"role": "reader", "scope": ""}]})
    made = admin.post("/api/v1/tokens", json={"user": "bob"}).json()
    bob = server.client(token=made["token"])
    assert bob.get("/api/v1/tasks").status_code == 200
    admin.patch("/api/v1/users/bob", json={"disabled": True})
    assert bob.get("/api/v1/tasks").status_code == 401
    admin.patch("/api/v1/users/bob", json={"disabled": False})
    assert bob.get("/api/v1/tasks").status_code == 200
    assert bob.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert bob.get("/api/v1/tasks").status_code == 401


def test_a_token_expires(server: Server) -> None:
    made = server.client().post("/api/v1/tokens", json={"expires_days": 0.000001}).json()
    assert made["expires"]
    with server.control.pool.write() as c:
        c.change("UPDATE token SET expires = now() - 1 WHERE id = :id", {"id": made["id"]})
    answer = server.client(token=made["token"]).get("/api/v1/tasks")
    assert answer.status_code == 401 and "expired" in answer.text
