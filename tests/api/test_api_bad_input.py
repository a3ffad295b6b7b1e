"""Every field of every native endpoint with values that it must not take: 400 that names the field, nothing created."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from parts.api_rules import RULES
from parts.api_server import Server

_OTHER: dict[str, list[Any]] = {
    "string": [5, True, ["x"], {"x": "y"}],
    "integer": ["5", 1.5, True, [1], {}],
    "number": ["0.5", True, [1]],
    "boolean": ["true", 1, 0, []],
    "array": ["x", 5, {}],
    "object": ["x", 5, []],
}
_TEXTS = ["a\x00b", "a\nb", "a\x1b[2J", "a\x7f", "x" * 100_000]
_TRICKS = ["' OR 1=1 --", "a'; DROP TABLE task; --", "../../etc/passwd", "/etc/passwd", "%00", "${jndi:x}", "<script>"]
_FREE = {"name", "reason", "description", "region", "creator", "text", "storage_class", "filters", "include", "exclude"}
"""Fields that hold any printable text; what looks like a trick is a text there."""
BODIES = sorted(
    (method, path)
    for (method, path), rule in RULES.items()
    if rule.body is not None and path.startswith("/api/v1") and "{" not in path
)


class Target:
    """A server with one volume, its document, and a way to see that nothing was made."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.client = server.client()
        self.document = server.app.openapi()
        for name in ("opened", "fresh"):
            (directory / name).mkdir()
        self.directory = str(directory / "fresh")
        made = self.client.post("/api/v1/volumes", json={"name": "data", "path": str(directory / "opened")})
        assert made.status_code == 201
        self.client.post("/api/v1/users", json={"name": "bob"})

    def schema(self, method: str, path: str) -> dict[str, Any]:
        body = self.document["paths"][path][method.lower()]["requestBody"]
        return self.resolve(body["content"]["application/json"]["schema"])

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return self.resolve(self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        if "allOf" in schema:
            return self.resolve(schema["allOf"][0])
        for one in schema.get("anyOf", ()):
            if one.get("type") != "null":
                return self.resolve(one)
        return schema

    def body(self, method: str, path: str) -> Any:
        text = json.dumps(RULES[method, path].body)
        return json.loads(text.replace("{directory}", self.directory).replace("{user}", "bob"))

    def rows(self) -> dict[str, int]:
        tables = ("task", "connection", "volume", "principal", "token", "access_key", "schedule", "webhook", "quota")
        with self.server.control.pool.read() as c:
            return {table: int(c.value(f"SELECT count(*) FROM {table}")) for table in tables}


@pytest.fixture
def target(server: Server, tmp_path: Path) -> Target:
    return Target(server, tmp_path)


def _fields(target: Target, schema: dict[str, Any], place: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, raw in schema.get("properties", {}).items():
        one = target.resolve(raw)
        found.append(((*place, name), one))
        if one.get("type") == "object" and one.get("properties"):
            found += _fields(target, one, (*place, name))
    return found


def _with(body: Any, place: tuple[str, ...], value: Any) -> Any:
    changed = json.loads(json.dumps(body))
    inner = changed
    for name in place[:-1]:
        inner = inner.setdefault(name, {})
    inner[place[-1]] = value
    return changed


def _names(answer: Any) -> list[str]:
    return [
        violation["field"]
        for detail in answer.json().get("details", ())
        for violation in detail.get("fieldViolations", ())
    ]


def test_each_field_is_refused_by_name(target: Target) -> None:
    before = target.rows()
    wrong = [one for method, path in BODIES for one in _accepted(target, method, path)]
    assert not wrong
    assert target.rows() == before


def _accepted(target: Target, method: str, path: str) -> list[Any]:
    body = target.body(method, path)
    wrong: list[Any] = []
    for place, schema in _fields(target, target.schema(method, path)):
        for value in _bad_values(place[-1], schema):
            answer = _send(target.client, method, path, _with(body, place, value))
            good = answer.status_code == 400 and any(name.startswith(".".join(place)) for name in _names(answer))
            if not good:
                wrong.append((method, path, place, str(value)[:40], answer.status_code, answer.text[:200]))
    return wrong


def _bad_values(name: str, schema: dict[str, Any]) -> list[Any]:
    kind = schema.get("type", "string")
    values = list(_OTHER[kind])
    if kind == "string":
        values += _TEXTS
        if "enum" in schema or "const" in schema:
            values += ["nonsense", ""]
        if name not in _FREE and schema.get("maxLength", 10_000) < 10_000:
            values += [text for text in _TRICKS if not _allowed(schema, name)]
    if kind in ("integer", "number"):
        values += [2**80, -(2**80)]
        values += [schema["minimum"] - 1] if "minimum" in schema else []
        values += [schema["maximum"] + 1] if "maximum" in schema else []
    if kind == "array":
        items = schema.get("items", {})
        values += [[5] if items.get("type", "string") == "string" else ["x"]]
        values += [["+ x"] * 100_000]
    return values


def _allowed(schema: dict[str, Any], name: str) -> bool:
    return name in _FREE or name in (
        "scope",
        "endpoint",
        "path",
        "access_key",
        "secret_key",
        "session_token",
        "sas",
        "secret",
    )


def _send(client: TestClient, method: str, path: str, body: Any) -> Any:
    return client.request(method, path, content=json.dumps(body), headers={"Content-Type": "application/json"})


def test_unknown_and_missing_fields_and_no_json(target: Target) -> None:
    before = target.rows()
    for method, path in BODIES:
        _refuses_shapes(target, method, path)
    assert target.rows() == before


def _refuses_shapes(target: Target, method: str, path: str) -> None:
    body = target.body(method, path)
    answer = target.client.request(method, path, json={**body, "surprise": 1})
    assert (answer.status_code, _names(answer)) == (400, ["surprise"])
    for name in target.schema(method, path).get("required", ()):
        without = {key: value for key, value in body.items() if key != name}
        answer = target.client.request(method, path, json=without)
        assert (answer.status_code, _names(answer)[:1]) == (400, [name])
    for raw in (b"{", b"[]", b"5", b"\xff\xfe", b'{"a":' * 5000, b'"x"', b"nul", b'{"name": "\\ud800"}'):
        answer = target.client.request(method, path, content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, raw[:20]
        assert answer.json()["code"] == 3


PLACES = [
    "/etc", "./x", "~", "file:///etc", "s3://bucket/key", "az://c/x", "sftp://host/x", "http://host/x", "volume://",
    "volume://../x", "volume://data/../x", "volume://data/a/../../x", "volume://data/./x", "volume:/data/x",
    "volume://data\\x", "volume://nope/x", "nope:bucket/x", "lab:", "lab:/x", "lab:a?b/x", "lab:../x", "lab:a@b/x",
    "", " ", "\x00", "data", "x" * 5000, "volume://data/" + "x" * 5000,
]  # fmt: skip


def test_only_stored_places_are_places(target: Target) -> None:
    target.client.post(
        "/api/v1/connections", json={"name": "lab", "provider": "minio", "endpoint": "http://127.0.0.1:9"}
    )
    for place in PLACES:
        for field, other in (("source", "destination"), ("destination", "source")):
            answer = target.client.post("/api/v1/syncs", json={field: place, other: "volume://data/good"})
            assert (answer.status_code, _names(answer)[0]) == (400, field), (place, answer.text)
    assert target.rows()["task"] == 0


def test_a_file_that_is_called_like_a_connection_is_none(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab:bucket").mkdir()
    answer = target.client.post("/api/v1/syncs", json={"source": "lab:bucket/x", "destination": "volume://data/b"})
    assert answer.status_code == 400


CONNECTIONS: list[dict[str, Any]] = [
    {"endpoint": "http://169.254.169.254/latest"}, {"endpoint": "http://metadata.google.internal"},
    {"endpoint": "http://0xa9fea9fe"}, {"endpoint": "http://[fe80::1]"}, {"endpoint": "file:///etc/passwd"},
    {"endpoint": "http://user:pass@host"}, {"endpoint": "http://host/?x=y"}, {"endpoint": "gopher://host"},
    {"endpoint": ""}, {"endpoint": "http://"}, {"endpoint": "http://ho st"}, {"endpoint": "http://host:99999"},
    {"options": {"key_file": "/etc/shadow"}}, {"options": {"ca_file": "/etc/shadow"}}, {"options": {"x": "y"}},
    {"provider": "hdfs"}, {"provider": "gcs"}, {"profile": "default"}, {"ca_file": "/etc/shadow"},
    {"access_key": "AK", "secret_key": ""}, {"name": "a b"}, {"name": "1a"}, {"scope": "a//b"}, {"scope": "../a"},
    {"scope": "/a"}, {"max_tasks": -1},
]  # fmt: skip


def test_connections_that_must_not_be(target: Target) -> None:
    for change in CONNECTIONS:
        body = {"name": "lab", "provider": "minio", "endpoint": "http://127.0.0.1:9", **change}
        answer = target.client.post("/api/v1/connections", json=body)
        assert answer.status_code == 400 and _names(answer), (change, answer.text)
    assert target.rows()["connection"] == 0


def test_directories_that_must_not_be_opened(target: Target) -> None:
    own = target.server.control.settings.data
    for path in ("relative", "/", "/etc", "/proc/self", "/nowhere", "/tmp/../etc", "\x00", own):
        answer = target.client.post("/api/v1/volumes", json={"name": "bad", "path": path})
        assert (answer.status_code, _names(answer)) == (400, ["path"]), path


QUERIES = [
    ("/api/v1/tasks", "page_size=0"), ("/api/v1/tasks", "page_size=1001"), ("/api/v1/tasks", "page_size=x"),
    ("/api/v1/tasks", "page_token=%00"), ("/api/v1/tasks", "page_token=WyJ4Il0"), ("/api/v1/tasks", "state=nope"),
    ("/api/v1/tasks", "sort=name"), ("/api/v1/tasks", "created_after=1"), ("/api/v1/tasks", "surprise=1"),
    ("/api/v1/tasks", "created_after=9999-99-99T00:00:00Z"), ("/api/v1/tasks", "kind=x"),
    ("/api/v1/tasks", "text=a%00b"), ("/api/v1/tasks", "creator=a%0Ab"), ("/api/v1/tasks", "scope=a//b"),
    ("/api/v1/tasks", "sort=created&sort=-created"), ("/api/v1/connections", "scope=.."),
    ("/api/v1/tokens", "user=a'b"), ("/api/v1/users", "page_token=bm8"), ("/api/v1/volumes", "page_size=-1"),
]  # fmt: skip


def test_query_parameters(target: Target) -> None:
    for path, query in QUERIES:
        answer = target.client.get(f"{path}?{query}")
        assert answer.status_code == 400, (query, answer.text)
        assert _names(answer)[0].startswith(query.partition("=")[0])


def test_names_in_paths(target: Target) -> None:
    for name in ("..%2f..%2fetc", "%00", "a'b", "x" * 300, "%ff", "a b"):
        for noun in ("tasks", "connections", "volumes", "users"):
            answer = target.client.get(f"/api/v1/{noun}/{name}")
            assert answer.status_code in (400, 404), answer.text
            assert answer.json()["code"] in (3, 5)


def test_idempotency_keys(target: Target) -> None:
    for key in ("a b", "x" * 256, "\x01", "ü"):
        headers = {"Idempotency-Key": key.encode("latin-1")}
        answer = target.client.post("/api/v1/users", json={"name": "carol"}, headers=headers)  # type: ignore[arg-type]
        assert (answer.status_code, _names(answer)) == (400, ["Idempotency-Key"])
    assert target.client.get("/api/v1/users/carol").status_code == 404
