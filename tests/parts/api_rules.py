"""What every route of the HTTP application asks of whoever calls it, and a call that is good but for the rights.

A new route needs a line here: ``tests/api/test_api_rights.py`` fails until it has one. ``{…}`` in paths and bodies are
filled in from the stage, which has one object of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrepot.security.identity import Action

NONE = "everybody, also without credentials"
ANYBODY = "everybody with credentials"
SEEN = "everybody with credentials, who sees what is theirs"


@dataclass(slots=True, frozen=True)
class Rule:
    """``needs`` is the action, or one of the three words above."""

    needs: Action | str
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False
    """Never open to a person of any role: runners have tokens of their own."""


_TOOL = (
    "/storage/ads/data/v1/subscriptions/{subscription_name}/resourceGroups/{resource_group_name}"
    "/zones/{zone}/dataSyncs/{data_sync_name}"
)
_SYNC = {"source": "volume://data/a", "destination": "volume://data/b"}
_DATASYNC = {
    "task_name": "t",
    "type": "FSTOFS",
    "src_info": [{"name": "data", "prefix": "a"}],
    "dst_info": {"name": "data", "prefix": "b"},
}
_CONNECTION = {
    "name": "fresh", "provider": "minio", "endpoint": "http://127.0.0.1:9", "access_key": "AK", "secret_key": "SK",
}  # fmt: skip
_SCHEDULE = {"name": "nightly-2", "cron": "0 3 * * *", "request": _SYNC}

_RUNNER: dict[str, Any] = {
    "lease": {"limit": 1},
    "report": {},
    "release": {"shard_ids": []},
    "split": {"shard_id": 1, "fence": 1, "at": ["YQ=="]},
    "partials": {"low": "YQ=="},
    "save_partial": {"key": "YQ==", "size": 1, "evidence": None, "part_size": 1},
    "drop_partial": {"key": "YQ=="},
    "next_doomed": {"shard": {}, "limit": 1},
    "failed_keys": {"shard": {}},
    "farewell": {"outcome": "stopped"},
}
"""What a runner does to its task, with a token for that task only."""

RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/healthz"): Rule(NONE),
    ("GET", "/readyz"): Rule(NONE),
    ("GET", "/docs"): Rule(NONE),
    ("GET", "/docs/page.js"): Rule(NONE),
    ("GET", "/docs/page.css"): Rule(NONE),
    ("GET", "/metrics"): Rule(Action.METRICS_READ),
    ("GET", "/openapi.json"): Rule(ANYBODY),
    ("GET", "/api/v1/tasks"): Rule(SEEN),
    ("GET", "/api/v1/tasks/{task_id}"): Rule(Action.TASK_READ),
    ("DELETE", "/api/v1/tasks/{task_id}"): Rule(Action.TASK_DELETE),
    ("POST", "/api/v1/tasks/{task_id}:cancel"): Rule(Action.TASK_CONTROL),
    ("POST", "/api/v1/tasks/{task_id}:pause"): Rule(Action.TASK_CONTROL),
    ("POST", "/api/v1/tasks/{task_id}:resume"): Rule(Action.TASK_CONTROL),
    ("POST", "/api/v1/tasks/{task_id}:retry"): Rule(Action.TASK_CONTROL),
    ("POST", "/api/v1/tasks/{task_id}:approve"): Rule(Action.REVIEW_DECIDE, {"reason": "seen"}),
    ("POST", "/api/v1/tasks/{task_id}:reject"): Rule(Action.REVIEW_DECIDE, {"reason": "seen"}),
    ("GET", "/api/v1/tasks/{task_id}/failures"): Rule(Action.TASK_READ),
    ("GET", "/api/v1/tasks/{task_id}/report"): Rule(Action.TASK_READ),
    ("GET", "/api/v1/tasks/{task_id}/events"): Rule(Action.TASK_READ),
    ("POST", "/api/v1/syncs"): Rule(Action.TASK_CREATE, _SYNC),
    ("POST", "/api/v1/syncs:preview"): Rule(Action.TASK_CREATE, _SYNC),
    ("POST", "/api/v1/connections"): Rule(Action.CONNECTION_WRITE, _CONNECTION),
    ("GET", "/api/v1/connections"): Rule(SEEN),
    ("GET", "/api/v1/connections/{name}"): Rule(Action.CONNECTION_READ),
    ("PATCH", "/api/v1/connections/{name}"): Rule(Action.CONNECTION_WRITE, {"max_tasks": 2}),
    ("DELETE", "/api/v1/connections/{name}"): Rule(Action.CONNECTION_WRITE),
    ("POST", "/api/v1/connections/{name}:test"): Rule(Action.CONNECTION_USE, {}),
    ("GET", "/api/v1/connections/{name}/browse"): Rule(Action.CONNECTION_USE, query={"place": "b"}),
    ("POST", "/api/v1/volumes"): Rule(Action.VOLUME_WRITE, {"name": "fresh", "path": "{directory}"}),
    ("GET", "/api/v1/volumes"): Rule(SEEN),
    ("GET", "/api/v1/volumes/{name}"): Rule(Action.VOLUME_READ),
    ("DELETE", "/api/v1/volumes/{name}"): Rule(Action.VOLUME_WRITE),
    ("POST", "/api/v1/users"): Rule(Action.USER_WRITE, {"name": "fresh"}),
    ("GET", "/api/v1/users"): Rule(Action.USER_READ),
    ("GET", "/api/v1/users/-/me"): Rule(ANYBODY),
    ("GET", "/api/v1/users/{name}"): Rule(Action.USER_READ),
    ("PATCH", "/api/v1/users/{name}"): Rule(Action.USER_WRITE, {"disabled": False}),
    ("DELETE", "/api/v1/users/{name}"): Rule(Action.USER_WRITE),
    ("POST", "/api/v1/tokens"): Rule(Action.TOKEN_WRITE, {"user": "{user}"}),
    ("GET", "/api/v1/tokens"): Rule(Action.TOKEN_READ, query={"user": "{user}"}),
    ("DELETE", "/api/v1/tokens/{token_id}"): Rule(Action.TOKEN_WRITE),
    ("POST", "/api/v1/access-keys"): Rule(Action.TOKEN_WRITE, {"user": "{user}"}),
    ("GET", "/api/v1/access-keys"): Rule(Action.TOKEN_READ, query={"user": "{user}"}),
    ("DELETE", "/api/v1/access-keys/{access_key}"): Rule(Action.TOKEN_WRITE),
    ("POST", "/api/v1/schedules"): Rule(Action.SCHEDULE_WRITE, _SCHEDULE),
    ("GET", "/api/v1/schedules"): Rule(SEEN),
    ("POST", "/api/v1/schedules:preview"): Rule(Action.SCHEDULE_READ, {"cron": "0 3 * * *"}),
    ("GET", "/api/v1/schedules/{schedule_id}"): Rule(Action.SCHEDULE_READ),
    ("PATCH", "/api/v1/schedules/{schedule_id}"): Rule(Action.SCHEDULE_WRITE, {"max_count": 3}),
    ("DELETE", "/api/v1/schedules/{schedule_id}"): Rule(Action.SCHEDULE_WRITE),
    ("POST", "/api/v1/schedules/{schedule_id}:run"): Rule(Action.SCHEDULE_WRITE),
    ("POST", "/api/v1/webhooks"): Rule(Action.WEBHOOK_WRITE, {"name": "fresh", "url": "https://example.com/"}),
    ("GET", "/api/v1/webhooks"): Rule(SEEN),
    ("GET", "/api/v1/webhooks/{webhook_id}"): Rule(Action.WEBHOOK_READ),
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): Rule(Action.WEBHOOK_WRITE, {"enabled": False}),
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): Rule(Action.WEBHOOK_WRITE),
    ("POST", "/api/v1/webhooks/{webhook_id}:test"): Rule(Action.WEBHOOK_WRITE),
    ("GET", "/api/v1/webhooks/{webhook_id}/deliveries"): Rule(Action.WEBHOOK_READ),
    ("POST", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}:redeliver"): Rule(Action.WEBHOOK_WRITE),
    ("GET", "/api/v1/usage"): Rule(Action.USAGE_READ),
    ("GET", "/api/v1/usage/quotas"): Rule(Action.USAGE_READ),
    ("PUT", "/api/v1/usage/quotas"): Rule(Action.SETTINGS_WRITE, {"name": "max_queued", "amount": 1000}),
    ("DELETE", "/api/v1/usage/quotas"): Rule(Action.SETTINGS_WRITE, query={"name": "max_queued"}),
    ("GET", "/api/v1/audit"): Rule(Action.AUDIT_READ),
    ("GET", "/api/v1/audit:export"): Rule(Action.AUDIT_READ),
    ("POST", "/api/v1/audit:verify"): Rule(Action.AUDIT_READ, {}),
    ("GET", "/api/v1/runners"): Rule(Action.METRICS_READ),
    ("POST", "/api/v1/runners/{node}:ask"): Rule(Action.RUNNER_WORK, {"processes": 1}),
    ("POST", "/api/v1/runners/{node}:beat"): Rule(Action.RUNNER_WORK, {}),
    ("POST", "/api/v1/runners/{node}:leave"): Rule(Action.RUNNER_WORK),
    **{
        ("POST", "/api/v1/runners/tasks/{task}/{runner}:" + verb): Rule(Action.RUNNER_WORK, body, closed=True)
        for verb, body in _RUNNER.items()
    },
    ("POST", "/api/v1/runners/tasks/{task}/{runner}:segment"): Rule(
        Action.RUNNER_WORK, query={"name": "00000001-000001.segment", "offset": "0"}, closed=True
    ),
    ("POST", _TOOL + "/tasks:list"): Rule(Action.TASK_READ, {"page": {"page": 1, "page_size": 10}}),
    ("POST", _TOOL + "/tasks"): Rule(Action.TASK_CREATE, _DATASYNC),
    ("GET", _TOOL + "/tasks/{task_id}"): Rule(Action.TASK_READ),
    ("DELETE", _TOOL + "/tasks/{task_id}"): Rule(Action.TASK_DELETE),
    ("POST", _TOOL + "/tasks/{task_id}:pause"): Rule(Action.TASK_CONTROL),
    ("POST", _TOOL + "/tasks/{task_id}:resume"): Rule(Action.TASK_CONTROL),
    ("POST", _TOOL + "/tasks/{task_id}:cancel"): Rule(Action.TASK_CONTROL),
    ("POST", _TOOL + "/tasks/{task_id}:retry"): Rule(Action.TASK_CONTROL),
    ("GET", _TOOL + "/tasks/{task_id}/failures"): Rule(Action.TASK_READ),
    ("GET", _TOOL): Rule(Action.TOOL_READ),
    ("PUT", _TOOL): Rule(Action.TOOL_WRITE, {"description": "d"}),
    ("DELETE", _TOOL): Rule(Action.TOOL_WRITE),
}
