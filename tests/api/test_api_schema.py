"""The whole interface against its own document: made-up requests, good and bad, find no failure of the server."""

from __future__ import annotations

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from parts.api_server import Server, control_over

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = 8
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


@pytest.mark.parametrize("mode", MODES, ids=["good", "bad"])
def test_no_request_makes_the_server_fail(tmp_path: Path, mode: schemathesis.GenerationMode) -> None:
    server = Server(*control_over(str(tmp_path / "ledger.db"), tmp_path / "data", probe_seconds=0.5))
    try:
        headers = {"Authorization": f"Bearer {server.user()[1]}"}
        with server.control.pool.write() as c:
            c.change("INSERT INTO leader (name, holder, until) VALUES ('scheduler', 'nobody', now() + 600)")
        schema = schemathesis.openapi.from_asgi("/openapi.json", server.app, headers=headers)
        wrong = []
        for found in schema.get_all_operations():
            try:
                _try(found.ok(), mode, headers)
            except Unsatisfiable:
                # There is nothing that could be wrong about it.
                assert mode is schemathesis.GenerationMode.NEGATIVE
            except FailureGroup as group:
                wrong += [f"{found.ok().label}: {one}" for one in group.exceptions]
        assert not wrong, "\n".join(wrong)
    finally:
        server.close()


def _try(operation: schemathesis.APIOperation, mode: schemathesis.GenerationMode, headers: dict[str, str]) -> None:
    @seed(20261122)
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    def hold(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("wait"), float | int):
            # Nothing comes, however long one waits.
            case.body["wait"] = min(case.body["wait"], 0)
        checks = (*CHECKS, negative_data_rejection) if operation.path.startswith("/api/v1") else CHECKS
        case.call_and_validate(headers=headers, checks=checks)

    hold()


def test_the_document_is_one(tmp_path: Path) -> None:
    server = Server(*control_over(str(tmp_path / "ledger.db"), tmp_path / "data"))
    try:
        made = server.client().get("/openapi.json").json()
    finally:
        server.close()
    names = [op["operationId"] for item in made["paths"].values() for op in item.values()]
    assert len(names) == len(set(names)) > 50
    assert made["openapi"].startswith("3.1")
