"""What the pages on schedules and webhooks say is what the code does."""

from __future__ import annotations

import ast
import json
import re
import time
from typing import Any

import pytest
from docs_parts import ROOT, text

from entrepot.ledger.schedules import OVERLAPS
from entrepot.ledger.trail import Filters
from entrepot.ledger.usage import QUOTAS
from entrepot.model import cron
from entrepot.model.secret import Secret
from entrepot.model.signature import ATTEMPT_HEADER, DELIVERY_HEADER, EVENT_HEADER, HEADER, TOLERANCE, sign
from entrepot.model.task import END_STATES
from entrepot.service import courier

SCHEDULES, WEBHOOKS = text("docs/schedules.md"), text("docs/webhooks.md")


def _check() -> Any:
    found = re.search(r"```python\n(.*?)```", WEBHOOKS, re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)
    return names["is_genuine"]


def test_the_check_of_a_signature_that_is_shown_works() -> None:
    check = _check()
    secret, body, now = "whsec_0123456789abcdef", '{"a":"☃"}'.encode(), int(time.time())
    good = sign(Secret(secret), now, body)
    assert check(secret, good, body)
    assert not check(secret, good, body + b" ")
    assert not check("another", good, body)
    assert not check(secret, sign(Secret(secret), now - int(TOLERANCE) - 60, body), body)


def test_the_headers_states_and_numbers_are_those_of_the_code() -> None:
    for header in (HEADER, EVENT_HEADER, DELIVERY_HEADER, ATTEMPT_HEADER):
        assert f"`{header}`" in WEBHOOKS
    for state in END_STATES:
        assert f"`{state}`" in WEBHOOKS
        assert f"`task.{state.lower()}`" in WEBHOOKS
    assert f"{courier.TRIES} times in all" in WEBHOOKS
    assert f"for {courier.KEEP_DAYS}" in WEBHOOKS
    assert courier.SECONDS == 10
    assert courier.EACH == 2
    waits = [courier.delay(attempt, lambda: 0.5) for attempt in range(1, courier.TRIES)]
    assert waits[:3] == [5, 15, 45]
    assert max(waits) == 4 * 3600


def test_the_expressions_and_policies_are_those_of_the_code() -> None:
    for name in cron.MACROS:
        assert f"`{name}`" in SCHEDULES
    for policy in OVERLAPS:
        assert f"`{policy}`" in SCHEDULES
    shown = re.findall(r"`([^`\s]+(?: [^`\s]+){4})`", SCHEDULES)
    assert len(shown) >= 3
    for expression in shown:
        if expression == "0 0 30 2 *":
            with pytest.raises(cron.UsageError):
                cron.parse(expression, now=0)
        else:
            cron.parse(expression, now=0)
    for field in ("1-5", "1,15,30-40", "*/10", "8-18/2"):
        assert f"`{field}`" in SCHEDULES
        cron.parse(f"{field} * * * *", now=0)
    for expression in ("0 0 L * *", "0 0 LW * *", "0 0 * * 5#2", "0 0 * * 5L"):
        cron.parse(expression, now=0)


@pytest.mark.parametrize("page", [SCHEDULES, WEBHOOKS], ids=["schedules", "webhooks"])
def test_the_bodies_that_are_shown_are_json(page: str) -> None:
    bodies = re.findall(r"-d '(.*?)'", page, re.DOTALL) + re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert bodies
    for body in bodies:
        json.loads(body)


def test_the_settings_of_the_generator_are_those_that_are_tested() -> None:
    page = text("docs/openapi.md")
    found = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert found
    tested = (ROOT / "tests" / "api" / "test_openapi_client.py").read_text(encoding="utf-8")
    config = next(
        node.value
        for node in ast.parse(tested).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONFIG"
    )
    assert json.loads(found[1]) == ast.literal_eval(config)


def test_the_quotas_and_filters_are_those_of_the_code() -> None:
    page = text("docs/usage-and-audit.md")
    for name, meaning in QUOTAS.items():
        assert f"| `{name}` | {meaning} |" in page
    for name in Filters.__slots__:
        assert f"`{name}`" in page
