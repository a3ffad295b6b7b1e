"""Who is asking: from what they present to a principal. Raises AuthenticationError for all that is not good."""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.ledger import access
from entrepot.ledger.database import Row
from entrepot.model.errors import AuthenticationError
from entrepot.model.secret import Secret
from entrepot.security import oidc, signing, tokens
from entrepot.security.identity import Principal

from .context import Control
from .grants import principal_of

RUNNERS = "task-token"
"""The purpose for which keys of tasks' tokens are derived."""
_TOUCH_SECONDS = 300.0
_SHUT_OUT = "the account is disabled"


@dataclass(slots=True, frozen=True)
class Presented:
    """What came with a request: a token, or the two headers of a signed one."""

    token: Secret = Secret("")  # noqa: RUF009
    authorization: str = ""
    x_date: str = ""


def identify(control: Control, presented: Presented) -> Principal:
    """The principal behind the credentials."""
    if presented.authorization:
        return _signed(control, presented.authorization, presented.x_date)
    text = presented.token.reveal()
    if not text:
        raise AuthenticationError("no credentials were sent", hint="send Authorization: Bearer TOKEN")
    if tokens.is_task_token(text):
        return _runner(control, text)
    if control.oidc is not None and oidc.looks_like_one(text):
        return control.oidc.authenticate(text)
    return _token(control, text)


def _token(control: Control, text: str) -> Principal:
    presented = tokens.parse(text)
    with control.pool.read() as c:
        row = access.token(c, presented.id)
    tokens.verify(
        presented,
        row.digest if row else None,
        now=row.moment if row else 0.0,
        expires=row.expires if row else None,
        revoked=bool(row and row.revoked is not None),
    )
    assert row is not None
    _check_owner(row)
    _touch(control, "token", row)
    return principal_of(row, narrowed=row.grants, token_id=row.id)


def _signed(control: Control, authorization: str, x_date: str) -> Principal:
    claim = signing.parse(authorization, x_date or None)
    with control.pool.read() as c:
        row = access.key(c, claim.access_key)
    secret = None
    if row is not None and row.revoked is None:
        secret = control.keyring.open(row.secret, key_place(row.id))
    signing.verify(claim, secret, control.wall())
    assert row is not None
    _check_owner(row)
    _touch(control, "access_key", row)
    return principal_of(row, token_id=row.id)


def _runner(control: Control, text: str) -> Principal:
    found = tokens.verify_task_token(text, control.keyring.derive(RUNNERS), now=control.wall())
    return found.principal()


def key_place(key_id: str) -> str:
    """What the secret of an access key is sealed for."""
    return f"access_key/{key_id}/secret"


def _check_owner(row: Row) -> None:
    if row.principal_disabled:
        raise AuthenticationError(_SHUT_OUT, hint="ask an administrator")


def _touch(control: Control, kind: str, row: Row) -> None:
    """Once in a while is enough: each is a write."""
    if row.last_used is None or row.moment - row.last_used > _TOUCH_SECONDS:
        with control.pool.write() as c:
            access.touch(c, kind, row.id)
