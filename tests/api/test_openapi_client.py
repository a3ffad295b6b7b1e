"""A client that is generated from /openapi.json works: it talks to a real server over loopback with every type."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn

from entrepot.ledger import tasks
from parts.api_server import Server
from plan_parts import until

CONFIG = {
    "post_hooks": [],
    "literal_enums": True,
    # Lines of JSON and live events are no documents: clients take them as they come.
    "content_type_overrides": {"application/x-ndjson": "text/plain", "text/event-stream": "text/plain"},
}

pytestmark = pytest.mark.parametrize("ledger_place", ["sqlite"], indirect=True)
Load = Callable[[str], ModuleType]


@pytest.fixture
def address(server: Server) -> Iterator[str]:
    """The server on a port of loopback."""
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(server.app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: running.started)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join(20)
    listening.close()


@pytest.fixture
def token(server: Server) -> str:
    return server.user("admin")[1]


@pytest.fixture
def load(address: str, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """``load("api.tasks.tasks_read")`` is that module of the client that was generated."""
    answer = httpx.get(f"{address}/openapi.json", headers={"Authorization": f"Bearer {token}"})
    (tmp_path / "openapi.json").write_text(answer.text)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    done = subprocess.run(
        [
            sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--config",
            "config.json", "--meta", "none", "--output-path", "generated_entrepot", "--fail-on-warning",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "arning" not in said, said
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda name: importlib.import_module(f"generated_entrepot.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "generated_entrepot"]:
        del sys.modules[name]


@pytest.fixture
def client(load: Load, address: str, token: str) -> Iterator[Any]:
    with load("client").AuthenticatedClient(base_url=address, token=token) as made:
        yield made


def test_every_call_has_a_name_of_its_own_and_no_type_a_qualified_one(server: Server, ledger_place: str) -> None:
    document = server.app.openapi()
    calls = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(calls) == len(set(calls))
    assert all(name.replace("_", "").isalnum() and "__" not in name for name in calls)
    types = document["components"]["schemas"]
    assert [name for name in types if "__" in name or name.endswith(("-Input", "-Output"))] == []
    assert {"Task", "Schedule", "Webhook", "Connection", "Status"} <= set(types)


def test_a_person_goes_through_a_day_with_the_generated_client(
    load: Load, client: Any, server: Server, tmp_path: Path
) -> None:
    models = load("models")

    def call(name: str, *args: Any, **more: Any) -> Any:
        noun = name.partition("_")[0]
        return load(f"api.{noun}.{name}").sync(*args, client=client, **more)

    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        made = call("volumes_create", body=models.NewVolume(name=name, path=str(tmp_path / name)))
        assert isinstance(made, models.Volume), made
    stored = models.NewConnection(
        name="store", provider="generic", endpoint="http://127.0.0.1:9", access_key="AK", secret_key="a-secret-key"
    )
    connection = call("connections_create", body=stored)
    assert isinstance(connection, models.Connection), connection
    assert connection.secret_key == ""

    wanted = models.NewSync(
        source="volume://in/a", destination="volume://out/b", options=models.Options(compare="size", exclude=["*.tmp"])
    )
    task = call("syncs_create", body=wanted)
    assert isinstance(task, models.TaskDetail), task
    assert (task.state, task.totals.copied.entries) == ("QUEUED", 0)
    assert call("tasks_read", task.id).options.to_dict() == {"compare": "size", "exclude": ["*.tmp"]}
    assert [one.id for one in call("tasks_listing", state=["QUEUED"]).tasks] == [task.id]
    assert call("tasks_cancel", task.id).state == "CANCELLED"
    wrong = call("tasks_pause", task.id)
    assert isinstance(wrong, models.Status)
    assert wrong.code == 9

    schedule = call(
        "schedules_create",
        body=models.ScheduleWanted(
            name="nightly",
            cron="@daily",
            zone="Asia/Shanghai",
            request=models.SyncToSchedule(source="volume://in/a", destination="volume://out/c"),
        ),
    )
    assert isinstance(schedule, models.Schedule), schedule
    assert schedule.request.destination.startswith("volume://out/c")
    ran = call("schedules_run", schedule.id)
    with server.control.pool.read() as c:
        assert tasks.read(c, ran.last_task).filing.schedule_id == schedule.id
    assert len(call("schedules_preview", body=models.SchedulePreview(cron="@hourly", count=3)).times) == 3

    webhook = call("webhooks_create", body=models.WebhookWanted(name="w", url="https://hooks.example/"))
    assert webhook.secret.startswith("whsec_")
    changed = call("webhooks_change", webhook.id, body=models.WebhookChange(enabled=False, states=["FAILED"]))
    assert (changed.enabled, changed.states) == (False, ["FAILED"])
    assert call("webhooks_deliveries", webhook.id).deliveries == []

    assert call("usage_set_quota", body=models.QuotaWanted(name="max_running", amount=3)).amount == 3
    [day] = call("usage_read").usage
    assert (day.tasks, day.entries) == (1, 0)
    verdict = call("audit_verify", body=models.AuditCheck())
    assert verdict.good
    assert len(call("audit_listing", action="schedule.write").records) == 2

    fresh = call("tokens_mint", body=models.NewToken(name="mine"))
    assert fresh.token.startswith("ent_")


def test_refusals_have_the_one_form_in_the_client_too(load: Load, client: Any, address: str) -> None:
    models = load("models")
    create = load("api.schedules.schedules_create")
    wanted = models.ScheduleWanted(
        name="x", cron="61 * * * *", request=models.SyncToSchedule(source="volume://a/", destination="volume://b/")
    )
    refused = create.sync_detailed(client=client, body=wanted)
    assert refused.status_code == 400
    assert refused.parsed.details[0].field_violations[0].field == "cron"
    nobody = load("client").Client(base_url=address)
    with nobody:
        answer = load("api.tasks.tasks_listing").sync_detailed(client=nobody)
    assert (answer.status_code, answer.parsed.code) == (401, 16)


def test_the_family_of_datasync_is_in_the_client(load: Load, client: Any) -> None:
    models = load("models")
    listed = load("api.datasync.datasync_list_tasks").sync(
        "sub",
        "rg",
        "zone",
        "tool-a",
        client=client,
        body=models.ListTasks(page=models.WantedPage(page=1, page_size=10)),
    )
    assert listed.data_sync_task == []
    assert listed.page.total == 0
