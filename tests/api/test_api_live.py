"""Live streams of tasks over a real socket: what happens is told, in order, until the end, and streams are bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from entrepot.ledger import events, live, tasks
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.ledger.live import Live
from entrepot.ledger.tasks import NewTask
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec, TaskState
from parts.api_server import Server, control_over, listening


def _task(server: Server, scope: str = "") -> str:
    task_id = new_id()
    spec = TaskSpec("sync", "volume://a/", "volume://b/", SyncOptions().to_json())
    filing = Filing(name="t", family="native", type="sync", scope=scope, creator="somebody")
    with server.control.pool.write() as c:
        tasks.create(c, NewTask(task_id, spec, "", filing=filing))
    return task_id


def _move(server: Server, task_id: str, to: TaskState, reason: str = "") -> None:
    with server.control.pool.write() as c:
        tasks.transition(c, task_id, to, reason)


class Reader:
    """Reads one stream message by message."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()
        self.comments = 0

    def __iter__(self) -> Iterator[tuple[str, str, dict[str, object]]]:
        kind = event_id = data = ""
        for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif not line and data:
                yield kind, event_id, json.loads(data)
                kind = event_id = data = ""
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                event_id = value
            elif name == "data":
                data = value


@pytest.fixture
def make_live(tmp_path: Path) -> Iterator[Callable[..., tuple[Server, str, dict[str, str]]]]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make(**settings: float) -> tuple[Server, str, dict[str, str]]:
            server = Server(*control_over(str(tmp_path / "ledger.db"), tmp_path / "data", **settings))
            stack.callback(server.close)
            address = stack.enter_context(listening(server))
            return server, address, {"Authorization": f"Bearer {server.user()[1]}"}

        yield make


def test_a_stream_tells_states_figures_and_the_end(
    make_live: Callable[..., tuple[Server, str, dict[str, str]]],
) -> None:
    server, address, headers = make_live(heartbeat_seconds=0.1)
    task_id = _task(server)
    seen: list[tuple[str, str, dict[str, object]]] = []
    with httpx.stream("GET", f"{address}/api/v1/tasks/{task_id}/events", headers=headers, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        reader = Reader(answer)
        for message in reader:
            seen.append(message)
            told = [text for kind, _, one in seen if kind == "state" for text in [one["text"]]]
            if told == ["QUEUED"] and message[0] == "progress":
                _move(server, task_id, TaskState.SCANNING)
                with server.control.pool.write() as c:
                    live.save(c, task_id, Live("scan", True, 1000.0, 10.0, 5.0))
            elif told[-1:] == ["SCANNING"] and message[0] == "progress" and message[2]["rate_bytes"] == 1000.0:
                assert message[2]["eta_seconds"] == 5.0
                with server.control.pool.write() as c:
                    events.append(c, task_id, "warning", "look here")
                _move(server, task_id, TaskState.SUCCEEDED)
        assert seen[-1][0] == "end"
        assert seen[-1][2]["state"] == "SUCCEEDED"
    kinds = [kind for kind, _, _ in seen]
    assert kinds.count("end") == 1 and "warning" in kinds
    ids = [int(event_id) for _, event_id, _ in seen if event_id]
    assert ids == sorted(ids)
    again = httpx.get(
        f"{address}/api/v1/tasks/{task_id}/events", headers={**headers, "Last-Event-ID": str(ids[-1])}, timeout=20
    )
    assert again.status_code == 204


def test_a_reader_goes_on_after_the_last_event(make_live: Callable[..., tuple[Server, str, dict[str, str]]]) -> None:
    server, address, headers = make_live()
    task_id = _task(server)
    for to in (TaskState.PAUSED, TaskState.QUEUED, TaskState.CANCELLED):
        _move(server, task_id, to)
    with server.control.pool.read() as c:
        happened = events.since(c, task_id)
    url = f"{address}/api/v1/tasks/{task_id}/events"
    with httpx.stream("GET", url, headers={**headers, "Last-Event-ID": str(happened[1].id)}, timeout=20) as answer:
        told = [one["text"] for kind, _, one in Reader(answer) if kind == "state"]
    assert told == ["QUEUED", "CANCELLED"]


def test_a_silent_stream_shows_that_it_lives(make_live: Callable[..., tuple[Server, str, dict[str, str]]]) -> None:
    server, address, headers = make_live(heartbeat_seconds=0.05, stream_seconds=1.0)
    task_id = _task(server)
    with httpx.stream("GET", f"{address}/api/v1/tasks/{task_id}/events", headers=headers, timeout=20) as answer:
        reader = Reader(answer)
        messages = list(reader)
    assert [kind for kind, _, _ in messages] == ["state", "progress"]
    assert reader.comments >= 1


def test_streams_are_bounded_and_give_their_place_back(
    make_live: Callable[..., tuple[Server, str, dict[str, str]]],
) -> None:
    server, address, headers = make_live(streams=3, streams_per_token=2, heartbeat_seconds=0.05)
    task_id = _task(server)
    url = f"{address}/api/v1/tasks/{task_id}/events"
    other = {"Authorization": f"Bearer {server.user()[1]}"}
    with (
        httpx.stream("GET", url, headers=headers, timeout=20) as one,
        httpx.stream("GET", url, headers=headers, timeout=20) as two,
    ):
        assert (one.status_code, two.status_code) == (200, 200)
        refused = httpx.get(url, headers=headers, timeout=20)
        assert refused.status_code == 429 and refused.headers["retry-after"]
        with httpx.stream("GET", url, headers=other, timeout=20) as three:
            assert three.status_code == 200
            assert httpx.get(url, headers={"Authorization": f"Bearer {server.user()[1]}"}).status_code == 429
    _move(server, task_id, TaskState.CANCELLED)
    for _ in range(200):
        if httpx.get(url, headers=headers, timeout=20).status_code == 200:
            break
    assert httpx.get(url, headers=headers, timeout=20).status_code == 200
    assert server.app.state.hub.streams.open <= 1


def test_nobody_watches_what_they_may_not_see(make_live: Callable[..., tuple[Server, str, dict[str, str]]]) -> None:
    server, address, _ = make_live()
    task_id = _task(server, "team/a")
    url = f"{address}/api/v1/tasks/{task_id}/events"
    stranger = {"Authorization": f"Bearer {server.user('reader', 'team/b')[1]}"}
    assert httpx.get(url, headers=stranger, timeout=20).status_code == 404


def test_a_stream_ends_when_its_token_does(
    make_live: Callable[..., tuple[Server, str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrepot.api.live.CHECK_AGAIN", 0.1)
    server, address, headers = make_live(heartbeat_seconds=0.05)
    task_id = _task(server)
    with httpx.stream("GET", f"{address}/api/v1/tasks/{task_id}/events", headers=headers, timeout=20) as answer:
        reader = iter(Reader(answer))
        assert next(reader)[0] == "state"
        with server.control.pool.write() as c:
            c.change("UPDATE token SET revoked = now()")
        assert all(kind == "progress" for kind, _, _ in reader)
