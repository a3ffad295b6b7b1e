"""How the client sends: what is repeated and what is not, what refusals become, how a cut stream goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import entrepot
from entrepot.model.errors import EntrepotError, UsageError
from entrepot.sdk import errors
from entrepot.sdk.saving import format_of

TASK = "01M80D3XH8PT4DG99REVFPGTBA"
Answer = httpx.Response | Exception


class Scripted:
    """Answers one request after the other as it was told; keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options: Any) -> entrepot.Client:
        made = entrepot.Client("http://server.example", "t", transport=httpx.MockTransport(self), **options)
        self.slept: list[float] = []
        made._wire.sleep = self.slept.append
        return made


def ok(value: Any = None, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json={} if value is None else value)


def refused(status: int, message: str = "no", *, code: int = 3, details: Any = (), **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": message, "details": list(details)}, headers=headers)


def test_credentials_and_queries_are_sent() -> None:
    script = Scripted(ok({"tasks": [], "total": 0}))
    with script.client() as client:
        assert list(client.tasks.list(state=["FAILED", "PAUSED"], text="a&b")) == []
    request = script.requests[0]
    assert request.headers["Authorization"] == "Bearer t"
    assert request.headers["User-Agent"] == f"entrepot/{entrepot.__version__}"
    assert request.url.query == b"state=FAILED&state=PAUSED&text=a%26b"


def test_pages_are_fetched_while_one_goes_through_them() -> None:
    pages = [
        {"volumes": [{"name": "a"}, {"name": "b"}], "next_page_token": "more=="},
        {"volumes": [{"name": "c"}], "next_page_token": ""},
    ]
    script = Scripted(*map(ok, pages), *map(ok, pages))
    with script.client() as client:
        listing = client.volumes.list(page_size=2)
        assert not script.requests
        seen = iter(listing)
        assert next(seen).name == "a" and len(script.requests) == 1
        assert [one.name for one in seen] == ["b", "c"]
        assert [len(page.items) for page in listing.pages()] == [2, 1]
    assert script.requests[1].url.query == b"page_size=2&page_token=more%3D%3D"


def test_a_create_is_repeated_under_the_same_key() -> None:
    script = Scripted(httpx.ReadError("cut"), refused(503), ok({"name": "v"}, 201))
    with script.client() as client:
        assert client.volumes.create("v", "/data").name == "v"
    keys = {request.headers["Idempotency-Key"] for request in script.requests}
    assert len(keys) == 1 and len(script.requests) == 3
    assert script.slept == [0.2, 0.6]


def test_what_may_have_been_done_is_not_done_twice() -> None:
    script = Scripted(httpx.ReadError("cut"))
    with script.client() as client, pytest.raises(errors.NotReachable):
        client.tasks.retry(TASK)
    assert len(script.requests) == 1
    script = Scripted(httpx.ConnectError("[Errno 111] Connection refused"), ok({"id": TASK}))
    with script.client() as client:
        assert client.tasks.retry(TASK).id == TASK


def test_a_server_that_is_busy_says_how_long() -> None:
    script = Scripted(refused(429, **{"Retry-After": "2"}), ok({"id": TASK}))
    with script.client() as client:
        client.tasks.approve(TASK)
    assert script.slept == [2.0]
    script = Scripted(*[refused(429, **{"Retry-After": "1"}) for _ in range(5)])
    with script.client() as client, pytest.raises(errors.RateLimited) as caught:
        client.tasks.get(TASK)
    assert caught.value.retry_after == 1.0 and len(script.requests) == 5


def detail(kind: str, **values: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **values}


@pytest.mark.parametrize(
    ("status", "code", "reason", "kind", "exit_code"),
    [
        (400, 3, "INVALID", errors.InvalidRequest, 2),
        (400, 9, "WRONG_STATE", errors.WrongState, 2),
        (400, 9, "GUARD", errors.WrongState, 4),
        (400, 9, "PLACE", errors.WrongState, 3),
        (400, 9, "STORE_FORBIDDEN", errors.WrongState, 3),
        (401, 16, "UNAUTHENTICATED", errors.NotAuthenticated, 3),
        (403, 7, "NOT_ALLOWED", errors.Forbidden, 3),
        (404, 5, "NO_SUCH", errors.NotFound, 3),
        (409, 6, "CONFLICT", errors.Conflict, 2),
        (413, 3, "", errors.InvalidRequest, 2),
        (500, 13, "INTERNAL", errors.ServerError, 5),
    ],
)
def test_refusals(status: int, code: int, reason: str, kind: type[EntrepotError], exit_code: int) -> None:
    details = [
        detail("ErrorInfo", reason=reason, metadata={"hint": "do that"}),
        detail("BadRequest", fieldViolations=[{"field": "name", "description": "too long"}]),
        detail("RequestInfo", requestId="r1"),
    ]
    script = Scripted(refused(status, "it is wrong", code=code, details=details))
    with script.client() as client, pytest.raises(errors.ApiError) as caught:
        client.tasks.retry(TASK)
    fault = caught.value
    assert type(fault) is kind
    assert (fault.message, fault.hint, fault.exit_code) == ("it is wrong", "do that", exit_code)
    assert (fault.status, fault.reason, fault.request_id) == (status, reason, "r1")
    assert fault.fields == (errors.FieldError("name", "too long"),)


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        (httpx.Response(404, text="<html>nginx"), "answered 404 Not Found", "is it an Entrepot server"),
        (httpx.Response(200, text="<html>hello"), "answered something else", "is it an Entrepot server"),
        (ok(["no", "object"]), "answered something else", "is it an Entrepot server"),
        (httpx.Response(301, headers={"Location": "https://other.example/"}), "sends on to https://other", "address"),
    ],
)
def test_answers_of_something_else(answer: httpx.Response, message: str, hint: str) -> None:
    with Scripted(answer).client() as client, pytest.raises(errors.ApiError, match=message) as caught:
        client.tasks.get(TASK)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("fault", "message", "hint"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "nothing listens there", "check the address"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "there is no such host", "check the address"),
        (httpx.ConnectTimeout("timed out"), "no connection", "check the address"),
        (httpx.ReadTimeout("timed out"), "no answer in time", "overloaded"),
        (httpx.RemoteProtocolError("Server disconnected"), "without an answer", "https://server.example"),
        (
            httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1)"),
            "cannot be trusted: self-signed",
            "--ca-file",
        ),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version"), "does not speak TLS", "http://"),
    ],
)
def test_a_server_that_cannot_be_reached(fault: Exception, message: str, hint: str) -> None:
    with Scripted(fault).client(retries=0) as client, pytest.raises(errors.NotReachable, match=message) as caught:
        client.tasks.get(TASK)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 3


def event(kind: str, data: Any, number: int = 0) -> str:
    head = f"id: {number}\n" if number else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n"


def stream(*pieces: str, cut: bool = False) -> httpx.Response:
    def body() -> Iterator[bytes]:
        for piece in pieces:
            yield piece.encode()
        if cut:
            raise httpx.ReadError("cut")

    return httpx.Response(200, content=body(), headers={"Content-Type": "text/event-stream"})


def shown(state: str, copied: int = 0) -> dict[str, Any]:
    return {"id": TASK, "state": state, "totals": {"copied": {"entries": copied, "bytes": 0}}}


def test_a_stream_goes_on_where_it_was_cut() -> None:
    script = Scripted(
        stream("retry: 2000\n\n", event("state", {"at": 1.0, "text": "RUNNING"}, 5),
               event("progress", shown("RUNNING", 1), 5), "event: progress\ndata: {", cut=True),
        httpx.ConnectError("away"),
        refused(503),
        stream(": alive\n\n", event("progress", shown("RUNNING", 2), 6)),
        stream(event("end", shown("SUCCEEDED", 3), 7)),
        ok({**shown("SUCCEEDED", 3), "failures": {"timeout": 1}}),
    )  # fmt: skip
    with script.client() as client:
        seen = list(client.tasks.follow(TASK))
    assert [(one.state, one.totals.copied.entries) for one in seen] == [
        ("RUNNING", 1), ("RUNNING", 2), ("SUCCEEDED", 3),
    ]  # fmt: skip
    assert seen[-1].failures == {"timeout": 1}
    assert [request.headers.get("Last-Event-ID") for request in script.requests[:5]] == [None, "5", "5", "5", "6"]


def test_a_stream_that_stays_away_is_given_up() -> None:
    def away(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused")

    client = entrepot.Client("http://server.example", transport=httpx.MockTransport(away), patience=30)
    slept: list[float] = []
    client._wire.sleep = slept.append
    with client, pytest.raises(errors.NotReachable):
        list(client.tasks.follow(TASK))
    assert 30 <= sum(slept) < 60


def test_a_refused_stream_is_no_reason_to_come_again() -> None:
    script = Scripted(refused(404, "there is no task", code=5))
    with script.client() as client, pytest.raises(errors.NotFound):
        list(client.tasks.follow(TASK))
    script = Scripted(stream(event("gone", {"id": TASK})))
    with script.client() as client, pytest.raises(errors.NotFound, match="deleted"):
        list(client.tasks.follow(TASK))
    script = Scripted(httpx.Response(204), ok(shown("FAILED")))
    with script.client() as client:
        assert [one.state for one in client.tasks.follow(TASK)] == ["FAILED"]


def test_a_server_without_streams_to_give_is_looked_at_now_and_then() -> None:
    script = Scripted(
        refused(429, code=8), ok(shown("RUNNING", 1)), ok(shown("RUNNING", 2)),
        ok(shown("SUCCEEDED")), ok(shown("SUCCEEDED")),
    )  # fmt: skip
    with script.client() as client:
        assert [one.state for one in client.tasks.follow(TASK)] == ["RUNNING", "RUNNING", "SUCCEEDED"]
    assert script.slept == [2.0, 2.0]


def test_waiting_looks_less_and_less_often() -> None:
    script = Scripted(*[ok(shown("RUNNING")) for _ in range(12)], ok(shown("FAILED")))
    with script.client() as client:
        assert client.tasks.wait(TASK).state == "FAILED"
    assert script.slept == sorted(script.slept) and script.slept[-1] == 2.0
    script = Scripted(ok(shown("REVIEW")))
    with script.client() as client:
        assert client.tasks.wait(TASK).state == "REVIEW"


def test_waiting_ends_in_time() -> None:
    script = Scripted(*[ok(shown("RUNNING")) for _ in range(3)])
    with script.client() as client, pytest.raises(TimeoutError) as caught:
        client.tasks.wait(TASK, timeout=0)
    assert isinstance(caught.value, errors.StillGoing) and caught.value.task.state == "RUNNING"


def test_a_report_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "report.csv"
    target.write_text("old")
    script = Scripted(stream("key,outcome\n", cut=True))
    with script.client() as client, pytest.raises(errors.NotReachable):
        client.tasks.report(TASK, target)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    script = Scripted(stream("key,outcome\n", "a,copied\n"))
    with script.client() as client:
        client.tasks.report(TASK, target)
    assert target.read_text() == "key,outcome\na,copied\n"
    assert script.requests[0].url.query == b"format=csv"
    with script.client() as client, pytest.raises(UsageError, match="cannot be written"):
        client.tasks.report(TASK, tmp_path / "none" / "r.csv")


def test_the_form_of_a_report() -> None:
    assert [format_of(f"a{end}", "") for end in (".jsonl", ".CSV", ".parquet")] == ["jsonl", "csv", "parquet"]
    assert format_of("a.txt", "csv") == "csv"
    with pytest.raises(UsageError, match="no such form"):
        format_of("a.txt", "")


def _async(script: Callable[[httpx.Request], httpx.Response]) -> entrepot.AsyncClient:
    client = entrepot.AsyncClient("http://server.example", "t", transport=httpx.MockTransport(script))

    async def no_time(_seconds: float) -> None:
        await asyncio.sleep(0)

    client._wire.sleep = no_time  # type: ignore[method-assign]
    return client


def test_the_other_client_does_the_same(tmp_path: Path) -> None:
    async def body() -> Any:
        yield event("progress", shown("RUNNING", 1), 5).encode()
        raise httpx.ReadError("cut")

    async def end() -> Any:
        yield event("end", shown("SUCCEEDED", 2), 6).encode()

    async def rows() -> Any:
        yield b"key\n"

    script = Scripted(
        httpx.ReadError("cut"), refused(503), ok({"id": TASK}, 201),
        ok({"volumes": [{"name": "a"}], "next_page_token": "x"}), ok({"volumes": [{"name": "b"}]}),
        httpx.Response(200, content=body()), httpx.Response(200, content=end()), ok(shown("SUCCEEDED", 2)),
        ok(shown("RUNNING")), ok(shown("SUCCEEDED")), httpx.Response(200, content=rows()), refused(403, code=7),
    )  # fmt: skip

    async def use() -> list[Any]:
        async with _async(script) as client:
            found: list[Any] = [(await client.syncs.create("a:b", "c:d")).id]
            found.append([one.name async for one in client.volumes.list()])
            found.append([one.state async for one in client.tasks.follow(TASK)])
            found.append((await client.tasks.wait(TASK, timeout=60)).state)
            await client.tasks.report(TASK, tmp_path / "r.csv")
            with pytest.raises(errors.Forbidden):
                await client.runners.list()
            return found

    assert asyncio.run(use()) == [TASK, ["a", "b"], ["RUNNING", "SUCCEEDED"], "SUCCEEDED"]
    assert (tmp_path / "r.csv").read_text() == "key\n"
    assert len({request.headers["Idempotency-Key"] for request in script.requests[:3]}) == 1
    assert script.requests[6].headers["Last-Event-ID"] == "5"
