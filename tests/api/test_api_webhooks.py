"""/api/v1/webhooks: made, changed, tried; what was sent; and every field that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from entrepot.model.secret import Secret
from entrepot.model.signature import verify
from entrepot.service.courier import Courier
from entrepot.service.posting import guarded
from parts.api_server import Server
from plan_parts import Receiver, end_task, filed_task, until

ONE_DATABASE = pytest.mark.parametrize("ledger_place", ["sqlite"], indirect=True)
URL = "https://hooks.example/in?x=1"
BASE = "/api/v1/webhooks"


def _make(api: TestClient, **more: Any) -> dict[str, Any]:
    answer = api.post(BASE, json={"name": "one", "url": URL, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.fixture
def courier(server: Server) -> Iterator[Courier]:
    control = server.control
    made = Courier(control.pool, lambda: control.keyring, guarded(control.egress.check))
    made.start()
    yield made
    made.stop()


def test_a_webhook_is_made_read_changed_and_removed(api: TestClient) -> None:
    made = _make(api, scope="team/a", states=["FAILED"])
    assert made["secret"].startswith("whsec_")
    assert made["url"] == URL
    there = api.get(f"{BASE}/{made['id']}").json()
    assert there == {**made, "secret": ""}
    changed = api.patch(f"{BASE}/{made['id']}", json={"name": "two", "states": [], "enabled": False}).json()
    assert (changed["name"], changed["states"], changed["enabled"], changed["url"]) == ("two", [], False, URL)
    fresh = api.patch(f"{BASE}/{made['id']}", json={"secret": ""}).json()
    assert fresh["secret"].startswith("whsec_")
    assert fresh["secret"] != made["secret"]
    assert api.delete(f"{BASE}/{made['id']}").status_code == 204
    assert api.get(f"{BASE}/{made['id']}").status_code == 404
    assert api.delete(f"{BASE}/{made['id']}").status_code == 404


def test_case_78_a_webhooks_secret_that_was_given_is_never_shown(api: TestClient, server: Server) -> None:
    planted = "planted-secret-of-a-webhook"
    made = _make(api, secret=planted)
    assert made["secret"] == ""
    everything = api.get(BASE).text + api.get("/api/v1/audit").text
    with server.control.pool.read() as c:
        everything += str(c.execute("SELECT * FROM webhook")) + str(c.execute("SELECT * FROM idempotency"))
    assert planted not in everything


def test_an_event_reaches_the_receiver_signed_with_the_secret_that_was_shown(
    api: TestClient, server: Server, courier: Courier
) -> None:
    with Receiver() as receiver:
        made = _make(api, url=receiver.url(), scope="a")
        task = filed_task(server.control.pool, "a/b")
        end_task(server.control.pool, task)
        until(lambda: receiver.received)
        [got] = receiver.received
        at = float(got.headers["X-Entrepot-Signature"].split(",")[0].removeprefix("t="))
        assert verify(Secret(made["secret"]), got.headers["X-Entrepot-Signature"], got.body, now=at)
        where = f"{BASE}/{made['id']}/deliveries"
        until(lambda: api.get(where).json()["deliveries"][0]["state"] == "delivered")
        [row] = api.get(where, params={"state": "delivered"}).json()["deliveries"]
        assert (row["task_id"], row["status"], row["attempts"], row["last_error"]) == (task, 204, 1, "")
        assert api.get(where, params={"state": ["pending", "dead"]}).json()["deliveries"] == []
        again = api.post(f"{where}/{row['id']}:redeliver")
        assert again.status_code == 200
        until(lambda: len(receiver.received) == 2)
        assert len({got.headers["X-Entrepot-Event"] for got in receiver.received}) == 1


def test_a_test_message_arrives(api: TestClient, courier: Courier) -> None:
    with Receiver() as receiver:
        made = _make(api, url=receiver.url())
        sent = api.post(f"{BASE}/{made['id']}:test").json()
        until(lambda: receiver.received)
        body = json.loads(receiver.received[0].body)
        assert body == {"event": sent["event"], "type": "webhook.test", "webhook_id": made["id"]}


def test_names_are_free_or_taken_by_scope(api: TestClient) -> None:
    first = _make(api, scope="a")
    other = _make(api, scope="b")
    taken = api.post(BASE, json={"name": "one", "url": URL, "scope": "a"})
    assert (taken.status_code, taken.json()["code"]) == (409, 6)
    assert api.patch(f"{BASE}/{other['id']}", json={"name": "one"}).status_code == 200
    third = _make(api, scope="b", name="three")
    assert api.patch(f"{BASE}/{third['id']}", json={"name": "one"}).status_code == 409
    assert first["id"] != other["id"]


def test_the_same_key_makes_one_webhook_with_the_same_answer(api: TestClient, server: Server) -> None:
    body = {"name": "one", "url": URL}
    headers = {"Idempotency-Key": "k1"}
    first, second = api.post(BASE, json=body, headers=headers), api.post(BASE, json=body, headers=headers)
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert len(api.get(BASE).json()["webhooks"]) == 1
    assert api.post(BASE, json={**body, "name": "two"}, headers=headers).status_code == 409
    with server.control.pool.read() as c:
        assert first.json()["secret"] not in str(c.execute("SELECT * FROM idempotency"))


def test_lists_are_paged(api: TestClient) -> None:
    ids = sorted(_make(api, name=f"n{n}")["id"] for n in range(5))
    seen: list[str] = []
    token = ""
    while True:
        page = api.get(BASE, params={"page_size": 2, "page_token": token}).json()
        seen += [one["id"] for one in page["webhooks"]]
        token = page["next_page_token"]
        if not token:
            break
    assert seen == ids


def test_rights(server: Server, api: TestClient) -> None:
    made = _make(api, scope="team/a")
    body = {"name": "x", "url": URL, "scope": "team/a"}
    for role in ("reader", "reviewer", "editor"):
        client = server.client(role, "team/a")
        assert client.get(f"{BASE}/{made['id']}").status_code == 404
        assert client.get(BASE).json()["webhooks"] == []
        assert client.post(BASE, json=body).status_code == 403
    near, far = server.client("operator", "team"), server.client("operator", "team/b")
    assert near.get(f"{BASE}/{made['id']}").status_code == 200
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", ":test"),
        ("GET", "/deliveries"),
        ("POST", "/deliveries/1:redeliver"),
    ):
        answer = far.request(method, f"{BASE}/{made['id']}{path}", json={} if method == "PATCH" else None)
        assert answer.status_code == 404, (method, path)
    assert far.post(BASE, json=body).status_code == 403
    assert [one["id"] for one in near.get(BASE).json()["webhooks"]] == [made["id"]]
    assert near.delete(f"{BASE}/{made['id']}").status_code == 204


@ONE_DATABASE
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("HTTPS://Hooks.Example:443", "https://hooks.example/"),
        ("http://hooks.example.:80/In?A=%20", "http://hooks.example/In?A=%20"),
        ("http://hooks.example:8080/a//b/../c", "http://hooks.example:8080/a//b/../c"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[2606:4700::1111]:81/x", "http://[2606:4700::1111]:81/x"),
        ("http://0x08080808/", "http://8.8.8.8/"),
        ("http://hooks.example/?a=1?b=/x@y:z", "http://hooks.example/?a=1?b=/x@y:z"),
    ],
)
def test_a_url_has_one_reading(api: TestClient, given: str, kept: str) -> None:
    assert _make(api, url=given)["url"] == kept


LONG = "x" * 5000
BAD: list[tuple[str, dict[str, Any]]] = [
    ("name", {"name": ""}),
    ("name", {"name": "   "}),
    ("name", {"name": LONG}),
    ("name", {"name": "a\x00b"}),
    ("name", {"name": "a\nb"}),
    ("name", {"name": "\u202e"}),
    ("name", {"name": 7}),
    ("name", {"name": None}),
    ("url", {"url": ""}),
    ("url", {"url": "hooks.example"}),
    ("url", {"url": "ftp://hooks.example/"}),
    ("url", {"url": "file:///etc/passwd"}),
    ("url", {"url": "http://user:pass@hooks.example/"}),
    ("url", {"url": "http://"}),
    ("url", {"url": "http://a b/"}),
    ("url", {"url": "http://hooks.example/\r\nX: y"}),
    ("url", {"url": "http://hooks.example/ü"}),
    ("url", {"url": "http://hooks.example/#f"}),
    ("url", {"url": "http://hooks.example:0/"}),
    ("url", {"url": "http://hooks.example:99999/"}),
    ("url", {"url": "http://169.254.169.254/latest"}),
    ("url", {"url": "http://[fe80::1]/"}),
    ("url", {"url": "http://metadata.google.internal/"}),
    ("url", {"url": "http://2852039166/"}),
    ("url", {"url": "https://hooks.example/" + LONG}),
    ("url", {"url": ["https://hooks.example/"]}),
    ("scope", {"scope": "/a"}),
    ("scope", {"scope": "a//b"}),
    ("scope", {"scope": "../a"}),
    ("scope", {"scope": "a\x00"}),
    ("scope", {"scope": LONG}),
    ("scope", {"scope": 1}),
    ("states", {"states": ["DONE"]}),
    ("states", {"states": ["RUNNING"]}),
    ("states", {"states": "FAILED"}),
    ("states", {"states": [None]}),
    ("states", {"states": ["FAILED"] * 17}),
    ("enabled", {"enabled": "yes"}),
    ("enabled", {"enabled": 1}),
    ("secret", {"secret": "short"}),
    ("secret", {"secret": LONG}),
    ("secret", {"secret": "sixteen characters\x00"}),
    ("secret", {"secret": "é" * 20}),
    ("secret", {"secret": 1234567890123456}),
    ("color", {"color": "red"}),
]


@ONE_DATABASE
@pytest.mark.parametrize(("field", "wrong"), BAD, ids=lambda value: str(value)[:60])
def test_a_wrong_field_is_named_and_nothing_is_made(api: TestClient, field: str, wrong: dict[str, Any]) -> None:
    answer = api.post(BASE, json={"name": "one", "url": URL, **wrong})
    assert (answer.status_code, answer.json()["code"]) == (400, 3), answer.text
    named = answer.json()["details"][0]["fieldViolations"][0]["field"]
    assert named.split(".")[0] == field
    assert api.get(BASE).json()["webhooks"] == []
    if field == "scope":
        return
    made = _make(api)
    answer = api.patch(f"{BASE}/{made['id']}", json=wrong)
    if wrong.get(field) is None:
        return
    assert answer.status_code == 400, answer.text
    assert api.get(f"{BASE}/{made['id']}").json() == {**made, "secret": ""}


@ONE_DATABASE
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("?page_size=0", "page_size"),
        ("?page_size=1001", "page_size"),
        ("?page_size=x", "page_size"),
        ("?page_token=x", "page_token"),
        ("?page_token=%00", "page_token"),
        ("?what=1", "what"),
        ("/nope", "webhook_id"),
        ("/../../etc", ""),
        ("/01ARZ3NDEKTSV4RRFFQ69G5FAV/deliveries?state=x", "state"),
        ("/01ARZ3NDEKTSV4RRFFQ69G5FAV' OR '1'='1", "webhook_id"),
    ],
)
def test_wrong_queries_and_paths(api: TestClient, path: str, field: str) -> None:
    answer = api.get(BASE + path)
    assert answer.status_code in (400, 404), answer.text
    if answer.status_code == 400:
        assert answer.json()["details"][0]["fieldViolations"][0]["field"].split(".")[0] == field


@ONE_DATABASE
@pytest.mark.parametrize("number", ["0", "-1", "x", "1e3", str(2**63), "9" * 400])
def test_wrong_numbers_of_deliveries(api: TestClient, number: str) -> None:
    made = _make(api)
    answer = api.post(f"{BASE}/{made['id']}/deliveries/{number}:redeliver")
    assert answer.status_code in (400, 404)
    assert api.post(f"{BASE}/{made['id']}/deliveries/7:redeliver").status_code == 404


def test_another_webhooks_delivery_is_not_found(api: TestClient) -> None:
    one, two = _make(api, name="a"), _make(api, name="b")
    sent = api.post(f"{BASE}/{one['id']}:test").json()
    assert api.post(f"{BASE}/{two['id']}/deliveries/{sent['id']}:redeliver").status_code == 404


def test_what_was_done_and_refused_is_in_the_audit(server: Server, api: TestClient) -> None:
    _make(api)
    server.client("editor").post(BASE, json={"name": "x", "url": URL})
    found = api.get("/api/v1/audit", params={"action": "webhook.write"}).json()["records"]
    assert [(row["outcome"], row["subject"]) for row in found] == [
        ("refused", "webhook x"),
        ("done", "webhook one"),
    ]
