"""The door of the HTTP application: credentials, limits, headers, and the one form of errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from parts.api_server import Server


def _code(answer: object) -> int:
    return answer.json()["code"]  # type: ignore[attr-defined, no-any-return]


def test_health_needs_no_credentials_and_all_else_does(server: Server) -> None:
    nobody = server.client(token="-")
    assert nobody.get("/healthz").json() == {"status": "ok"}
    assert nobody.get("/readyz").json()["ledger"] is True
    for path in ("/openapi.json", "/metrics", "/nothing", "/api/v1/tasks"):
        answer = nobody.get(path)
        assert (answer.status_code, _code(answer)) == (401, 16), path
        assert answer.headers["www-authenticate"] == "Bearer"


def test_an_unknown_path_and_method_have_the_one_form(api: TestClient) -> None:
    assert (api.get("/nothing").status_code, _code(api.get("/nothing"))) == (404, 5)
    assert (api.post("/healthz").status_code, _code(api.post("/healthz"))) == (405, 12)


def test_the_document_knows_no_other_form_of_errors(api: TestClient) -> None:
    made = api.get("/openapi.json").json()
    assert "HTTPValidationError" not in made["components"]["schemas"]
    for path, item in made["paths"].items():
        for method, operation in item.items():
            assert "422" not in operation["responses"], (path, method)


def test_every_answer_has_the_safe_headers_and_an_id(server: Server) -> None:
    for answer in (server.client(token="-").get("/healthz"), server.client(token="-").get("/x")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
    named = server.client().get("/healthz", headers={"X-Request-Id": "a-name-of-mine"})
    assert named.headers["x-request-id"] == "a-name-of-mine"


@pytest.mark.parametrize("bad", ["", "Bearer", "Basic eDp5", "Bearer nope", "Bearer ent_000000000000_" + "0" * 43])
def test_bad_credentials_are_refused(server: Server, bad: str) -> None:
    answer = server.client(token="-").get("/metrics", headers={"Authorization": bad})
    assert answer.status_code == 401
    assert "0000" not in answer.text


def test_the_token_header_works_as_well(server: Server) -> None:
    _, token = server.user()
    assert server.client(token="-").get("/metrics", headers={"X-Auth-Token": token}).status_code == 200


def test_a_large_body_is_refused_before_it_is_read(make_server: Callable[..., Server]) -> None:
    client = make_server(max_body=2048).client()
    answer = client.post("/healthz", content=b"x" * 2049)
    assert (answer.status_code, _code(answer)) == (413, 3)
    pieces = client.post("/healthz", content=(b"x" * 1024 for _ in range(3)))
    assert pieces.status_code == 413


def test_requests_of_one_token_are_limited(make_server: Callable[..., Server]) -> None:
    server = make_server(rate=0.001, rate_burst=2)
    client, other = server.client(), server.client()
    assert [client.get("/metrics").status_code for _ in range(3)] == [200, 200, 429]
    refused = client.get("/metrics")
    assert int(refused.headers["retry-after"]) >= 1
    assert _code(refused) == 8
    assert other.get("/metrics").status_code == 200


def test_guessing_is_limited_by_address(make_server: Callable[..., Server]) -> None:
    client = make_server(refusal_rate=0.001, refusal_burst=2).client(token="-")
    assert [client.get("/metrics").status_code for _ in range(3)] == [401, 401, 429]


def test_a_failure_inside_tells_nothing_but_the_id(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr("entrepot.control.observation.figures", fail)
    answer = server.client().get("/metrics")
    assert (answer.status_code, _code(answer)) == (500, 13)
    assert "secret inside" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
