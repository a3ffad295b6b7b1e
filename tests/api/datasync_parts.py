"""Small helpers for tests of the datasync family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

SITE = ("sub1", "rg1", "cn-sh-01a", "tool1")
SCOPE = "ads/" + "/".join(SITE)
KEYS = {"access_key": "AKIDEXAMPLE0001", "secret_key": "planted-secret-of-a-connection"}


def base(*names: str) -> str:
    """The path of a tool; ``names`` replace the usual ones from the last."""
    sub, group, zone, name = (*SITE[: 4 - len(names)], *names)
    return f"/storage/ads/data/v1/subscriptions/{sub}/resourceGroups/{group}/zones/{zone}/dataSyncs/{name}"


BASE = base()


def add_places(api: TestClient, folder: Path, endpoint: str = "http://127.0.0.1:9", **connection: Any) -> None:
    """The connection "default" and the volume "lake"."""
    (folder / "lake").mkdir(exist_ok=True)
    made = api.post("/api/v1/volumes", json={"name": "lake", "path": str(folder / "lake")})
    assert made.status_code == 201, made.text
    about = {"name": "default", "provider": "minio", "endpoint": endpoint, **KEYS, **connection}
    made = api.post("/api/v1/connections", json=about)
    assert made.status_code == 201, made.text


def wanted(**changes: Any) -> dict[str, Any]:
    """A request that is good; ``changes`` replace fields, None takes one out."""
    body = {
        "task_name": "nightly",
        "type": "AOSSTOFS",
        "src_info": [{"name": "bucket1", "prefix": "raw/2026"}],
        "dst_info": {"name": "lake", "prefix": "in"},
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def third(**changes: Any) -> dict[str, Any]:
    """A third-party source that is good."""
    body = {
        "type": "OSS", "host": "oss-cn-hangzhou.aliyuncs.com", "ak": "LTAI5tPlantedKey", "sk": "planted-third-secret",
        "path": "bucket2/raw",
    } | changes  # fmt: skip
    return {name: value for name, value in body.items() if value is not None}


def make(api: TestClient, **changes: Any) -> dict[str, Any]:
    """A task that was made."""
    answer = api.post(f"{BASE}/tasks", json=wanted(**changes))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def listed(api: TestClient, **body: Any) -> dict[str, Any]:
    """A page of tasks."""
    answer = api.post(f"{BASE}/tasks:list", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def names_of(page: dict[str, Any]) -> list[str]:
    return [one["task_name"] for one in page["data_sync_task"]]


def refused_fields(answer: Any) -> list[str]:
    """The fields that a refusal names."""
    assert answer.status_code == 400, (answer.status_code, answer.text)
    body = answer.json()
    assert set(body) == {"code", "message", "details"} and body["code"] == 3
    bad = [one for one in body["details"] if one["@type"].endswith("BadRequest")]
    return [one["field"] for detail in bad for one in detail["fieldViolations"]]


def shape_of(value: Any) -> Any:
    """Names and types of a JSON value; a list by its first element."""
    if isinstance(value, dict):
        return {name: shape_of(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


PUBLISHED = json.loads("""
{"data_sync_task": [{"task_id": "string", "task_name": "string", "uid": "string", "user_id": "string",
  "tenant_id": "string", "type": "AOSSTOFS", "state": "SCANNING",
  "src_info": [{"id": "string", "region": "string", "prefix": "string", "name": "string", "endpoint": "string",
    "zone": "string"}],
  "dst_info": {"id": "string", "region": "string", "prefix": "string", "name": "string", "endpoint": "string",
    "zone": "string"},
  "size_unit": "EB", "size": 0, "start": 0, "end": 0, "percent": 0, "rate": "string", "time_cost": "string",
  "create": 0, "src_third_info": {"type": "OSS", "host": "string", "ak": "string", "sk": "string", "path": "string"},
  "err_msg": "string", "total_num": 0, "complete_num": 0, "exist_num": 0}],
 "page": {"page": 0, "page_size": 0, "total": 0}}
""")
"""The example of the published page of the task list."""
