"""Tokens: form, digest, expiry, and task tokens that cannot be changed."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import AuthenticationError, UsageError
from entrepot.security.identity import Action, Kind, allows
from entrepot.security.tokens import (
    TaskToken,
    adopt,
    is_task_token,
    mint,
    mint_task_token,
    parse,
    verify,
    verify_task_token,
)

KEYS = {"k1": b"1" * 32, "k2": b"2" * 32}


def accepted(text: str, digest: str | None, **more: object) -> bool:
    arguments: dict[str, object] = {"now": 100.0, "expires": None, "revoked": False} | more
    try:
        verify(parse(text), digest, **arguments)  # type: ignore[arg-type]
    except AuthenticationError:
        return False
    return True


@given(st.binary(min_size=41, max_size=41))
def test_every_token_comes_back_by_its_id_and_digest(noise: bytes) -> None:
    left = [noise[:9], noise[9:]]
    made = mint(lambda n: left.pop(0) if left[0] and len(left[0]) == n else pytest.fail(f"{n} bytes asked for"))
    text = made.text.reveal()
    assert re.fullmatch(r"ent_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}", text)
    assert parse(text).id == made.id
    assert accepted(text, made.digest)
    assert text not in repr(made) and text.rpartition("_")[2] not in made.digest


def test_tokens_differ_and_the_digest_belongs_to_one_row() -> None:
    one, two = mint(os.urandom), mint(os.urandom)
    assert one.id != two.id and one.digest != two.digest
    assert not accepted(one.text.reveal(), two.digest)
    assert not accepted(one.text.reveal(), None)
    assert not accepted(one.text.reveal(), "")
    swapped = one.text.reveal().replace(one.id, two.id)
    assert not accepted(swapped, one.digest), "the secret under another id"


def test_expired_and_revoked_tokens_say_so() -> None:
    made = mint(os.urandom)
    presented = parse(made.text.reveal())
    verify(presented, made.digest, now=9.9, expires=10.0, revoked=False)
    with pytest.raises(AuthenticationError, match="expired"):
        verify(presented, made.digest, now=10.0, expires=10.0, revoked=False)
    with pytest.raises(AuthenticationError, match="revoked"):
        verify(presented, made.digest, now=1.0, expires=None, revoked=True)
    with pytest.raises(AuthenticationError, match="not valid"):  # a wrong secret does not learn that it expired
        verify(presented, "0" * 64, now=10.0, expires=10.0, revoked=True)


@given(st.integers(0, 59), st.sampled_from("aZ0_-. \0é"))
def test_a_changed_token_is_refused(place: int, other: str) -> None:
    made = mint(bytes)  # all zeros: the worst randomness shows no pattern matters
    text = made.text.reveal()
    changed = text[:place] + other + text[place + 1 :]
    if changed == text:
        return
    try:
        presented = parse(changed)
    except AuthenticationError as fault:
        assert changed not in str(fault) and changed not in fault.hint
        return
    assert (presented.id, presented.digest) != (made.id, made.digest)
    with pytest.raises(AuthenticationError):
        verify(presented, made.digest, now=0, expires=None, revoked=False)


@pytest.mark.parametrize("text", ["", " ", "ent_", "ent_x_y", "entt_x", "a b", "tökén", "x" * 600, "a\nb", "ent_\0"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(AuthenticationError, match="not valid"):
        parse(text)


def test_a_token_of_the_operators_own_works_like_ours() -> None:
    text = "c0ffee" * 5 + "1234-dead-beef"
    made = adopt(text)
    assert parse(text).id == made.id
    assert accepted(text, made.digest) and not accepted(text + "x", made.digest)
    ours = mint(os.urandom)
    assert adopt(ours.text.reveal()).id == ours.id


@pytest.mark.parametrize(
    "text", ["", "secret", "a" * 40, "has a blank in it, so it is no good", "ent_" + "abcdefgh" * 5]
)
def test_a_weak_token_of_the_operators_own_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        adopt(text)
    assert not text or text not in str(caught.value) + caught.value.hint


tokens = st.builds(
    TaskToken,
    task_id=st.text(max_size=20),
    expires=st.integers(1001, 2**40),
    fence=st.integers(0, 2**50),
    actions=st.frozensets(st.sampled_from(Action)),
    scope=st.sampled_from(["", "ads/sub1", "space/ä"]),
    runner=st.text(max_size=10),
)


@given(tokens, st.sampled_from(["k1", "k2"]))
def test_a_task_token_comes_back_as_it_was_signed(token: TaskToken, key_id: str) -> None:
    text = mint_task_token(token, key_id, KEYS[key_id]).reveal()
    assert is_task_token(text)
    assert verify_task_token(text, KEYS, now=1000.0) == token
    assert verify_task_token(text, KEYS, now=1000.0, fence=token.fence) == token
    with pytest.raises(AuthenticationError, match="newer"):
        verify_task_token(text, KEYS, now=1000.0, fence=token.fence + 1)
    with pytest.raises(AuthenticationError, match="expired"):
        verify_task_token(text, KEYS, now=float(token.expires))
    with pytest.raises(AuthenticationError, match="signature"):
        verify_task_token(text, {}, now=1000.0)


@given(st.data())
def test_a_changed_task_token_is_refused(data: st.DataObject) -> None:
    text = mint_task_token(TaskToken("t-1", 5000, 3, scope="a"), "k1", KEYS["k1"]).reveal()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("Aa0_-.=ü "))
    changed = text[:place] + other + text[place + 1 :]
    if changed != text:
        with pytest.raises(AuthenticationError):
            verify_task_token(changed, KEYS, now=1000.0)


@pytest.mark.parametrize(
    "text", ["", "entt_", "entt_k1", "entt_k1.", "entt_k1..", "entt_k1.e30.", "x.y.z", "entt_" * 3000]
)
def test_what_is_no_task_token_is_refused(text: str) -> None:
    with pytest.raises(AuthenticationError):
        verify_task_token(text, KEYS, now=0.0)


def test_a_token_signed_with_the_key_of_another_purpose_is_refused() -> None:
    text = mint_task_token(TaskToken("t", 5000), "k1", KEYS["k2"]).reveal()
    with pytest.raises(AuthenticationError, match="signature"):
        verify_task_token(text, KEYS, now=0.0)


def test_the_principal_of_a_task_token_may_work_on_its_task_only() -> None:
    principal = TaskToken("t-7", 5000, scope="ads/sub1", runner="host-3").principal()
    assert principal.kind is Kind.RUNNER and principal.task_id == "t-7" and principal.name == "host-3"
    assert allows(principal, Action.RUNNER_WORK, "ads/sub1/x")
    assert not allows(principal, Action.TASK_READ, "ads/sub1/x")
    assert not allows(principal, Action.RUNNER_WORK, "ads/sub2")
