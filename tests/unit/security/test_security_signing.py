"""Requests signed by access key: the exact text of the published clients, other spellings, and refusals."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import AuthenticationError
from entrepot.model.secret import Secret
from entrepot.security.signing import SKEW, authenticate, is_signed, new_access_key, parse, sign, verify

AK, SK = "AKIDEXAMPLE", Secret("sk/+with=odd characters")
NOW = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


def by_hand(date: str = DATE, key: Secret = SK) -> str:
    return base64.b64encode(
        hmac.new(key.reveal().encode(), f"x-date: {date}".encode(), hashlib.sha256).digest()
    ).decode()


def header(**changes: str) -> str:
    parts = {"accesskey": AK, "algorithm": "hmac-sha256", "headers": "x-date", "signature": by_hand()} | changes
    return "hmac " + ", ".join(f'{name}="{value}"' for name, value in parts.items())


def secret_of(access_key: str) -> Secret | None:
    return {AK: SK, "EMPTY": Secret("")}.get(access_key)


def test_the_headers_are_exactly_those_of_the_published_clients() -> None:
    assert sign(AK, SK, NOW) == {
        "X-Date": DATE,
        "Authorization": f'hmac accesskey="{AK}", algorithm="hmac-sha256", headers="x-date", signature="{by_hand()}"',
    }


def test_a_fixed_signature() -> None:
    made = sign("ak", Secret("sk"), 784111777)
    assert made["X-Date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    # printf 'x-date: Sun, 06 Nov 1994 08:49:37 GMT' | openssl dgst -sha256 -hmac sk -binary | base64
    assert made["Authorization"].endswith('signature="mof/8gdK8u+4rEJzfj3T7ZdYznTw6gT5CVb6BDWsZA0="')


keys = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"\\'), min_size=1, max_size=40)


@given(keys, st.text(min_size=1, max_size=60).filter(lambda s: s.isprintable()), st.integers(0, 4_000_000_000))
def test_what_is_signed_is_accepted(access_key: str, secret: str, now: int) -> None:
    made = sign(access_key, Secret(secret), now)
    find = {access_key: Secret(secret)}.get
    assert authenticate(made["Authorization"], made["X-Date"], find, now + SKEW) == access_key
    assert authenticate(made["Authorization"], made["X-Date"], find, now - SKEW) == access_key
    with pytest.raises(AuthenticationError):
        authenticate(made["Authorization"], made["X-Date"], {access_key: Secret(secret + "x")}.get, now)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_order_of_the_parameters_does_not_matter(order: tuple[int, ...]) -> None:
    parts = header().removeprefix("hmac ").split(", ")
    text = "hmac " + ", ".join(parts[i] for i in order)
    assert authenticate(text, DATE, secret_of, NOW) == AK


@pytest.mark.parametrize(
    "text",
    [
        f'HMAC AccessKey="{AK}",ALGORITHM="HMAC-SHA256",Headers="X-Date",Signature="{by_hand()}"',
        f"hmac accesskey={AK},algorithm=hmac-sha256,headers=x-date,signature={by_hand()}",
        f"hmac accesskey='{AK}', algorithm='hmac-sha256', headers='x-date', signature='{by_hand()}'",
        f'  hmac   accesskey = "{AK}" ,\talgorithm= "hmac-sha256" , headers ="x-date",signature="{by_hand()}" ,  ',
        f'hmac accesskey="{AK}", algorithm="hmac-sha256", headers="x-date", signature="{by_hand()}", nonce="7"',
        f'hmac accesskey="\\A{AK[1:]}", algorithm="hmac-sha256", headers="x-date", signature="{by_hand()}"',
    ],
)
def test_other_spellings_are_understood(text: str) -> None:
    assert is_signed(text)
    assert authenticate(text, DATE, secret_of, NOW) == AK


@pytest.mark.parametrize(
    ("text", "date", "reason"),
    [
        ("", DATE, "scheme"),
        ("Bearer x", DATE, "scheme"),
        ("hmac", DATE, "lacks accesskey, algorithm, headers, signature"),
        ("hmac garbage", DATE, "malformed at character 1"),
        ('hmac accesskey="AK', DATE, "malformed at character 1"),
        (f'{header()} trailing="x"', DATE, "malformed"),
        (header(accesskey=""), DATE, "lacks accesskey"),
        (header(accesskey="a b"), DATE, "access key holds characters"),
        (header(accesskey="a" * 200), DATE, "access key holds characters"),
        (header(algorithm="hmac-md5"), DATE, "algorithm"),
        (header(algorithm="none"), DATE, "algorithm"),
        (header(headers="date"), DATE, "must cover x-date"),
        (header(headers="x-date host"), DATE, "must cover x-date"),
        (header(signature="!!"), DATE, "not base64"),
        (header(signature="AAAA"), DATE, "length"),
        (header() + f', signature="{by_hand()}"', DATE, "names signature twice"),
        (header() + "," + "x" * 3000, DATE, "longer than"),
        (header(), None, "X-Date is missing"),
        (header(), "", "X-Date is missing"),
    ],
)
def test_malformed_headers_are_refused_with_the_reason(text: str, date: str | None, reason: str) -> None:
    with pytest.raises(AuthenticationError, match=reason) as caught:
        authenticate(text, date, secret_of, NOW)
    assert SK.reveal() not in str(caught.value) and by_hand() not in str(caught.value)


@pytest.mark.parametrize(
    "date",
    [
        "yesterday",
        "2023-11-14T22:13:20Z",
        "Tue, 14 Nov 2023 22:13:20 CET",
        "Tue, 44 Nov 2023 22:13:20 GMT",
        "0",
        "é" * 9,
    ],
)
def test_a_date_of_another_form_is_refused_even_when_it_was_signed(date: str) -> None:
    with pytest.raises(AuthenticationError, match="X-Date is not a date"):
        authenticate(header(signature=by_hand(date)), date, secret_of, NOW)


@pytest.mark.parametrize(
    "date", ["14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20 +0000", "Tue, 14 Nov 2023 22:13:20 UTC"]
)
def test_other_forms_of_the_date_in_gmt_are_understood(date: str) -> None:
    assert authenticate(header(signature=by_hand(date)), date, secret_of, NOW) == AK


@pytest.mark.parametrize("off", [SKEW + 1, -SKEW - 1, 86400 * 365])
def test_a_clock_that_is_off_by_more_than_15_minutes_is_refused(off: float) -> None:
    with pytest.raises(AuthenticationError, match="differs from the server's clock"):
        authenticate(header(), DATE, secret_of, NOW + off)


def test_an_unknown_access_key_gets_the_answer_of_a_wrong_signature() -> None:
    answers = []
    for text in (header(accesskey="NOBODY"), header(signature=by_hand(key=Secret("wrong"))), header(accesskey="EMPTY")):
        with pytest.raises(AuthenticationError) as caught:
            authenticate(text, DATE, secret_of, NOW)
        answers.append((str(caught.value), caught.value.hint))
    assert len(set(answers)) == 1


def test_nobody_gets_in_by_a_key_that_stands_for_no_key() -> None:
    for guess in ("no such access key", ""):
        made = sign("NOBODY", Secret(guess), NOW)
        for stored in (None, Secret("")):
            with pytest.raises(AuthenticationError):
                verify(parse(made["Authorization"], made["X-Date"]), stored, NOW)


def test_the_date_that_was_signed_is_the_date_that_counts() -> None:
    with pytest.raises(AuthenticationError, match="wrong"):
        authenticate(header(), "Tue, 14 Nov 2023 22:13:21 GMT", secret_of, NOW)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_never_breaks_the_parser(text: str) -> None:
    with pytest.raises(AuthenticationError):
        authenticate("hmac " + text, DATE, secret_of, NOW)


def test_new_pairs_differ_and_are_plain_text() -> None:
    pairs = [new_access_key(lambda n, i=i: bytes([i]) * n) for i in range(3)]
    assert len({ak for ak, _ in pairs}) == len({sk.reveal() for _, sk in pairs}) == 3
    for access_key, secret_key in pairs:
        made = sign(access_key, secret_key, NOW)
        assert authenticate(made["Authorization"], made["X-Date"], dict(pairs).get, NOW) == access_key
