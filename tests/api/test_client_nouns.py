"""Every noun of the Python client against the application behind a real socket, waiting and awaiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

import entrepot
from entrepot.ledger import journal, tasks
from entrepot.model.shard import Failure
from entrepot.model.task import TaskState
from entrepot.sdk import errors
from entrepot.sdk.values import Grant
from parts.api_server import Server, control_over, listening


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    with ExitStack() as stack:
        server = Server(*control_over(str(tmp_path / "ledger.db"), tmp_path / "data"))
        stack.callback(server.close)
        yield server, stack.enter_context(listening(server))


@pytest.fixture
def admin(live: tuple[Server, str]) -> Iterator[entrepot.Client]:
    with entrepot.Client(live[1], live[0].user()[1]) as client:
        yield client


@pytest.fixture
def places(admin: entrepot.Client, tmp_path: Path) -> tuple[str, str]:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
        admin.volumes.create(name, str(tmp_path / name), read_only=name == "from")
    return "volume://from/", "volume://to/"


def _end(server: Server, task_id: str, state: TaskState = TaskState.FAILED) -> None:
    with server.control.pool.write() as c:
        journal.add_failures(c, task_id, "scan", [Failure(b"a\xff", "timeout", "no answer", 3, 10)], 0)
        tasks.transition(c, task_id, TaskState.SCANNING)
        tasks.transition(c, task_id, state)


def test_a_task_from_beginning_to_end(
    live: tuple[Server, str], admin: entrepot.Client, places: tuple[str, str], tmp_path: Path
) -> None:
    made = admin.syncs.create(
        *places, name="first", compare="size", exclude=["*.tmp"], report=True,
        modified_after=datetime(2026, 1, 1, tzinfo=UTC), preserve=("mtime",), priority=3,
    )  # fmt: skip
    assert (made.state, made.name, made.priority, made.ended) == ("QUEUED", "first", 3, False)
    assert made.options["exclude"] == ["*.tmp"]
    assert admin.tasks.pause(made.id).state == "PAUSED"
    assert admin.tasks.resume(made.id).state == "QUEUED"
    with pytest.raises(errors.WrongState):
        admin.tasks.approve(made.id, "looks fine")
    _end(live[0], made.id)
    followed = list(admin.tasks.follow(made.id))
    assert followed[-1].state == "FAILED" and followed[-1].failures == {"timeout": 1}
    assert [one.kind for one in admin.tasks.events(made.id)][-1] == "end"
    assert admin.tasks.wait(made.id, 5).ended
    failure = next(iter(admin.tasks.failures(made.id)))
    assert (failure.raw_key, failure.failure, failure.attempts) == (b"a\xff", "timeout", 3)
    reports = Path(live[0].control.state_dir) / "reports"
    reports.mkdir(exist_ok=True)
    row = {"key": "k", "outcome": "copied", "size": 1, "proof": "", "note": "", "key_hex": ""}
    (reports / f"{made.id}.jsonl").write_text(json.dumps(row) + "\n")
    admin.tasks.report(made.id, tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text().splitlines()[1].startswith("k,copied")
    assert admin.tasks.retry(made.id).state == "QUEUED"
    assert admin.tasks.cancel(made.id).state in {"CANCELLED", "QUEUED"}


def test_lists_of_tasks(live: tuple[Server, str], admin: entrepot.Client, places: tuple[str, str]) -> None:
    names = [f"t{number}" for number in range(5)]
    for name in names:
        admin.syncs.create(*places, name=name, kind="verify" if name == "t0" else "sync")
    assert [one.name for one in admin.tasks.list(page_size=2)] == names[::-1]
    assert [one.name for one in admin.tasks.list(oldest_first=True, kind="sync")] == names[1:]
    page = next(admin.tasks.list(page_size=2, state=["QUEUED", "PAUSED"]).pages())
    assert (len(page.items), page.total) == (2, 5)
    assert not list(admin.tasks.list(created_before=datetime(2020, 1, 1, tzinfo=UTC)))
    last = admin.syncs.preview(*places, name="look")
    assert last.options["dry_run"] is True
    admin.tasks.cancel(last.id)
    admin.tasks.delete(last.id)
    with pytest.raises(errors.NotFound):
        admin.tasks.get(last.id)


def test_the_same_create_twice_is_one_task(admin: entrepot.Client, places: tuple[str, str]) -> None:
    one = admin.syncs.create(*places, idempotency_key="k1")
    assert admin.syncs.create(*places, idempotency_key="k1").id == one.id
    with pytest.raises(errors.Conflict):
        admin.syncs.create(*places, name="other", idempotency_key="k1")


def test_a_wrong_field_is_named(admin: entrepot.Client, places: tuple[str, str]) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        admin.syncs.create(*places, bandwidth_windows=["at night"])
    assert caught.value.fields[0].field.startswith("options.bandwidth_windows")
    with pytest.raises(errors.InvalidRequest) as caught:
        admin.syncs.create("/etc", places[1])
    assert caught.value.fields[0].field == "source"


def test_schedules(admin: entrepot.Client, places: tuple[str, str]) -> None:
    made = admin.schedules.create("nightly", "0 2 * * *", *places, zone="Europe/Berlin", compare="size", delete="none")
    assert made.enabled and made.next_due is not None and made.request.options["compare"] == "size"
    assert not admin.schedules.pause(made.id).enabled
    assert admin.schedules.resume(made.id).enabled
    changed = admin.schedules.update(made.id, cron="@hourly", request=made.request, overlap="queue")
    assert (changed.cron, changed.overlap) == ("@hourly", "queue")
    ran = admin.schedules.run(made.id)
    assert admin.tasks.get(ran.last_task).schedule_id == made.id
    times = admin.schedules.preview("@daily", count=3)
    assert len(times) == 3 and all(one.hour == 0 for one in times)
    assert [one.id for one in admin.schedules.list()] == [made.id]
    admin.schedules.delete(made.id)
    assert not list(admin.schedules.list())


def test_connections(admin: entrepot.Client) -> None:
    made = admin.connections.create(
        "lab", "minio", endpoint="http://127.0.0.1:1", access_key="AKIDEXAMPLE1", secret_key="hush-hush", max_tasks=2,
        disable_ssl=True,
    )  # fmt: skip
    assert "secret_key" in made.has and "hush" not in repr(made) and made.max_tasks == 2
    assert admin.connections.update("lab", max_tasks=5).max_tasks == 5
    found = admin.connections.test("lab")
    assert not found.good and found.checks[-1].verdict == "fail"
    with pytest.raises(errors.ApiError) as caught:
        list(admin.connections.browse("lab", "bucket"))
    assert caught.value.exit_code in {3, 5}
    assert [one.name for one in admin.connections.list()] == ["lab"]
    admin.connections.delete("lab")
    with pytest.raises(errors.NotFound):
        admin.connections.get("lab")


def test_people_tokens_and_what_they_may(live: tuple[Server, str], admin: entrepot.Client) -> None:
    user = admin.users.create("robot", grants=["reader", Grant("editor", "team/a")], kind="service")
    assert user.grants == (Grant("reader"), Grant("editor", "team/a"))
    fresh = admin.tokens.create(user="robot", name="ci", expires_days=3, grants=[{"role": "reader", "scope": ""}])
    assert fresh.expires is not None and fresh.grants == (Grant("reader"),)
    with entrepot.Client(live[1], fresh.token) as robot:
        assert robot.users.me().name == "robot"
        with pytest.raises(errors.Forbidden):
            robot.volumes.create("v", "/")
    assert [one.id for one in admin.tokens.list(user="robot")] == [fresh.id]
    admin.tokens.revoke(fresh.id)
    with entrepot.Client(live[1], fresh.token) as robot, pytest.raises(errors.NotAuthenticated):
        robot.users.me()
    key = admin.tokens.create_key(user="robot")
    assert key.secret_key.reveal() and [one.access_key for one in admin.tokens.list_keys(user="*")] == [key.access_key]
    admin.tokens.revoke_key(key.access_key)
    assert admin.users.update("robot", disabled=True, grants=[]).disabled
    assert admin.users.get("robot").grants == ()
    admin.users.delete("robot")
    assert "robot" not in [one.name for one in admin.users.list()]


def test_webhooks(admin: entrepot.Client) -> None:
    made = admin.webhooks.create("chat", "http://127.0.0.1:1/hook", states=["FAILED"])
    assert made.secret.reveal() and made.states == ("FAILED",)
    assert not admin.webhooks.get(made.id).secret
    assert not admin.webhooks.update(made.id, enabled=False).enabled
    sent = admin.webhooks.test(made.id)
    assert sent.event
    assert [one.id for one in admin.webhooks.deliveries(made.id, state=[sent.state])] == [sent.id]  # type: ignore[list-item]
    assert admin.webhooks.redeliver(made.id, sent.id).attempts >= 0
    assert [one.name for one in admin.webhooks.list()] == ["chat"]
    admin.webhooks.delete(made.id)


def test_usage_audit_and_runners(admin: entrepot.Client, tmp_path: Path) -> None:
    assert list(admin.usage.list(first="2026-01-01", last="2026-01-31")) == []
    assert admin.usage.set_quota("max_queued", 5, scope="team").amount == 5
    assert [(one.scope, one.name) for one in admin.usage.quotas()] == [("team", "max_queued")]
    admin.usage.delete_quota("max_queued", scope="team")
    assert admin.usage.quotas() == ()
    admin.users.create("u1")
    records = list(admin.audit.list(page_size=1, text="u1"))
    assert records and all(one.outcome == "done" for one in records)
    verdict = admin.audit.verify()
    assert verdict.good and admin.audit.verify(verdict.head, verdict.head_hash).good
    assert not admin.audit.verify(verdict.head, "0" * 64).good
    admin.audit.export(tmp_path / "audit.jsonl", text="u1")
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == len(records)
    assert admin.runners.list() == ()


def test_from_an_event_loop(live: tuple[Server, str], admin: entrepot.Client, places: tuple[str, str]) -> None:
    async def use() -> list[str]:
        async with entrepot.AsyncClient(live[1], live[0].user()[1]) as client:
            made = await client.syncs.create(*places, name="later")
            following = asyncio.create_task(_all(client, made.id))
            await asyncio.to_thread(_end, live[0], made.id, TaskState.SUCCEEDED)
            states = await asyncio.wait_for(following, 20)
            assert [one.name async for one in client.tasks.list()] == ["later"]
            assert (await client.tasks.wait(made.id)).state == "SUCCEEDED"
            return states

    assert asyncio.run(use())[-1] == "SUCCEEDED"


async def _all(client: entrepot.AsyncClient, task_id: str) -> list[str]:
    return [one.state async for one in client.tasks.follow(task_id)]
