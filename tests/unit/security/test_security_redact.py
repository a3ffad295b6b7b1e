"""Masking: planted secrets in every usual encoding, and all that looks like one; plain text stays as it is."""

from __future__ import annotations

import base64
import json
import logging
import os
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.secret import Secret
from entrepot.security.identity import Action
from entrepot.security.redact import MASK, RedactingFormatter, Redactor, is_secret_name, redact, redact_fields
from entrepot.security.signing import sign
from entrepot.security.tokens import TaskToken, mint, mint_task_token

PLANTED = "pl4nt/ed+S3cret=="


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {s}",
        "authorization:{s}",
        "X-Auth-Token: {s}",
        "Cookie: session={s}; other=1",
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {s}\r\nAccept: */*",
        "headers={{'Authorization': 'Bearer {s}', 'Host': 'x'}}",
        '{{"Authorization": "Bearer {s}"}}',
        '{{"secret_key": "{s}", "a": 1}}',
        '{{"access":{{"secretKey":"{s}"}}}}',
        "secret_key={s}&x=1",
        "AWS_SECRET_ACCESS_KEY={s}",
        "password: {s}",
        "--secret-key {s2}",
        "https://user:{s}@host/path",
        "postgresql://entrepot:{s}@db:5432/x",
        "https://h/k?X-Amz-Signature={s}&X-Amz-Date=1",
        "https://h/k?sv=1&sig={s}",
        "https://h/k?a=1&access_token={s}",
        "sent Bearer {s} to them",
        "(\"token\": '{s}')",
        'payload "{{\\"password\\": \\"{s}\\"}}"',
        "-----BEGIN RSA PRIVATE KEY-----\n{s}\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n{s}",
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    secret = "Zq8LkPw0vT3xYn7R"
    if "{s2}" in text:
        masked = Redactor([Secret(secret)])(text.format(s2=secret))  # only planting helps there
    else:
        masked = redact(text.format(s=secret))
    assert secret not in masked and MASK in masked


def test_tokens_of_our_own_are_masked_and_keep_their_id() -> None:
    made = mint(os.urandom)
    task = mint_task_token(TaskToken("t", 5, actions=frozenset({Action.RUNNER_WORK})), "k1", b"k" * 32).reveal()
    signed = sign("AKID", Secret("sk"), 1_700_000_000)
    text = f"came {made.text.reveal()} and {task} with {signed['Authorization']}"
    masked = redact(text)
    assert made.id in masked and made.text.reveal().rpartition("_")[2] not in masked
    assert task.partition("_")[2] not in masked
    assert signed["Authorization"].rpartition("signature=")[2].strip('"') not in masked


@pytest.mark.parametrize(
    "text",
    [
        "copied 17 objects to s3://bucket/secret-plans/token.txt in 3 s",
        "Basic usage: entrepot sync A B",
        "connection 'lab' was not found",
        "GET /api/v1/tokens?page_size=10 200 0.003",
        "the key file /data/keys.json does not exist",
        "user@example.org logged in",
        "2024-01-01T00:00:00Z INFO ready at http://127.0.0.1:8400/",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "form",
    [PLANTED, quote(PLANTED, safe=""), json.dumps(PLANTED), base64.b64encode(PLANTED.encode()).decode(), repr(PLANTED)],
)
def test_planted_secrets_are_found_in_their_usual_encodings(form: str) -> None:
    masked = Redactor([Secret(PLANTED)])(f"what <{form}> is")
    assert PLANTED not in masked and form.strip("\"'") not in masked
    assert masked.startswith("what <") and masked.endswith("> is")


@given(st.text(min_size=6, max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_planted_secret_never_comes_out(secret: str, before: str, after: str) -> None:
    masked = Redactor([Secret(secret)])(before + secret + after)
    assert secret not in masked.replace(MASK, "") or secret in (before + after)


def test_short_secrets_do_not_mask_everything() -> None:
    assert Redactor([Secret("a"), Secret("")])("banana") == "banana"


@given(st.text(max_size=300))
def test_masking_twice_is_masking_once_for_planted_text_and_never_breaks(text: str) -> None:
    redact(redact(text))


EVIL = [
    ('"', 60_000), ("a:", 30_000), ("://", 20_000), ("secret_", 15_000), ("token=", 15_000), ("eyJ", 30_000),
    ("-----BEGIN PRIVATE KEY-----", 3_000), ("Bearer ", 10_000), ("x-", 40_000), ("secret='", 10_000), ("\\", 60_000),
    ("a", 100_000), ("a_", 50_000), ("eyJaaaaaaaa.a", 10_000), ("hmac a=", 10_000), ("sk ", 30_000), ("\n\t ", 30_000),
]  # fmt: skip


@pytest.mark.parametrize("evil", [piece * count for piece, count in EVIL], ids=[piece for piece, _ in EVIL])
def test_no_text_takes_long(evil: str) -> None:
    start = time.process_time()
    redact(evil)
    assert time.process_time() - start < 10


def test_fields_are_masked_by_their_names_at_any_depth() -> None:
    value: dict[str, Any] = {
        "name": "lab",
        "secret_key": "x",
        "secretKey": "x",
        "accessKeySecret": "x",
        "list": [{"password": "x"}, {"sk": "x", "ak": "AK"}],
        "empty": {"token": "", "sas": None, "has_secret": True},
        "held": Secret("x"),
        "url": "https://u:x1234@h/",
        "page_token": "abc",
    }
    shown = redact_fields(value)
    assert shown["name"] == "lab" and shown["list"][1]["ak"] == "AK"
    assert {shown["secret_key"], shown["secretKey"], shown["list"][0]["password"], shown["list"][1]["sk"]} == {MASK}
    assert shown["held"] == MASK and shown["url"] == f"https://{MASK}@h/"
    assert shown["empty"] == {"token": "", "sas": None, "has_secret": True}
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    assert MASK in json.dumps(redact_fields(deep))


@pytest.mark.parametrize(
    "name", ["secret_key", "SecretKey", "sk", "session_token", "X-Auth-Token", "db_password", "api-key", "sas"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["access_key", "key", "name", "task", "tokens_used", "secretary", "risk", "description"]
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_log_lines_are_masked_with_their_tracebacks() -> None:
    formatter = RedactingFormatter(logging.Formatter("%(levelname)s %(message)s"), Redactor([Secret(PLANTED)]))
    try:
        raise ValueError(f"bad {PLANTED}")
    except ValueError as fault:
        record = logging.LogRecord(
            "n", logging.ERROR, "f", 1, "for %s", (PLANTED,), (type(fault), fault, fault.__traceback__)
        )
    line = formatter.format(record)
    assert PLANTED not in line and "ValueError" in line and line.startswith(f"ERROR for {MASK}")
