"""API tokens of people and programs, and the short-lived tokens of runners.

An API token is ``ent_<id>_<secret>``: the id finds the row, the secret is 256 random bits. At rest there is only
SHA-256 over id and secret. A slow hash such as argon2 protects secrets that people choose, which can be guessed;
256 random bits cannot be, so a slow hash would only make every request slow. The id is hashed too: a digest copied
to another row fits nothing.

A task token needs no row: it is signed with a key of the server's ring and says itself what it is good for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from entrepot.model.errors import AuthenticationError, UsageError
from entrepot.model.secret import Secret

from .identity import Action, Kind, Principal

PREFIX = "ent_"
TASK_PREFIX = "entt_"
SECRET_BYTES = 32
FOREIGN_MIN = 24
"""The fewest characters of a token that an operator brings along."""
TOKEN_MAX = 512
TASK_TOKEN_MAX = 8192

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 43
_ID_LENGTH = 12
_TOKEN = re.compile(rf"ent_([0-9A-Za-z]{{{_ID_LENGTH}}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})", re.ASCII)
_FOREIGN = re.compile(r"[!-~]+", re.ASCII)
_WRONG = "the token is not valid"
_HINT = "check that it is complete, or make a new one"

Random = Callable[[int], bytes]
"""Gives so many random bytes; os.urandom outside of tests."""


@dataclass(slots=True, frozen=True)
class Minted:
    """A new token. ``text`` is shown once to its owner; ``id`` and ``digest`` are stored."""

    id: str
    text: Secret
    digest: str


@dataclass(slots=True, frozen=True)
class Presented:
    """A token as somebody sent it, taken apart; nothing is proved yet."""

    id: str
    digest: str


def mint(random: Random) -> Minted:
    """Make a token."""
    token_id = _base62(random(9), _ID_LENGTH + 1)[-_ID_LENGTH:]
    text = f"{PREFIX}{token_id}_{_base62(random(SECRET_BYTES), _SECRET_LENGTH)}"
    return _minted(text)


def adopt(text: str) -> Minted:
    """Take a token that an operator brings along (``ENTREPOT_ADMIN_TOKEN``), of our form or long and printable.

    Raises UsageError for one that is too short to withstand guessing; it is not repeated in the message.
    """
    if _TOKEN.fullmatch(text):
        return _minted(text)
    if not FOREIGN_MIN <= len(text) <= TOKEN_MAX or not _FOREIGN.fullmatch(text) or len(set(text)) < 8:
        raise UsageError(
            f"the given token is no good: {FOREIGN_MIN} to {TOKEN_MAX} printable characters without blanks, "
            "and not the same few over and over",
            hint="make one: openssl rand -hex 32",
        )
    if text.startswith((PREFIX, TASK_PREFIX)):
        raise UsageError(f"the given token begins with {PREFIX} and is not complete", hint=_HINT)
    return _minted(text)


def parse(text: str) -> Presented:
    """Take a presented token apart, to find its row by ``id``. Raises AuthenticationError when it has no such form."""
    found = _TOKEN.fullmatch(text)
    if found:
        return Presented(found[1], _digest(found[1], text))
    if text.startswith((PREFIX, TASK_PREFIX)) or not _FOREIGN.fullmatch(text) or len(text) > TOKEN_MAX:
        raise AuthenticationError(_WRONG, hint=_HINT)
    token_id = _foreign_id(text)
    return Presented(token_id, _digest(token_id, text))


def verify(presented: Presented, digest: str | None, *, now: float, expires: float | None, revoked: bool) -> None:
    """Raise AuthenticationError unless the row's ``digest`` fits and is still good. No row: ``digest`` None."""
    fits = hmac.compare_digest(presented.digest.encode(), (digest or "").encode())
    if digest is None or not fits:
        raise AuthenticationError(_WRONG, hint=_HINT)
    if revoked:
        raise AuthenticationError("the token was revoked", hint="make a new one")
    if expires is not None and now >= expires:
        raise AuthenticationError("the token has expired", hint="make a new one")


@dataclass(slots=True, frozen=True)
class TaskToken:
    """What a runner may do, for one task, until a time. ``fence`` must still be the task's: an older one is refused."""

    task_id: str
    expires: int
    fence: int = 0
    actions: frozenset[Action] = frozenset({Action.RUNNER_WORK})
    scope: str = ""
    runner: str = ""

    def principal(self) -> Principal:
        """The runner that holds it."""
        name = self.runner or f"runner of {self.task_id}"
        return Principal(name, name, Kind.RUNNER, (), "", (self.scope,), self.actions, self.task_id)


def is_task_token(text: str) -> bool:
    """Whether it looks like one, and not like an API token."""
    return text.startswith(TASK_PREFIX)


def mint_task_token(token: TaskToken, key_id: str, key: bytes) -> Secret:
    """Sign ``token`` with a key that serves this purpose only (``Keyring.derive``)."""
    body = {
        "t": token.task_id,
        "e": token.expires,
        "f": token.fence,
        "a": sorted(token.actions),
        "s": token.scope,
        "r": token.runner,
    }
    packed = _encode(json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode())
    signed = f"{TASK_PREFIX}{key_id}.{packed}"
    return Secret(f"{signed}.{_encode(_mac(key, signed))}")


def verify_task_token(text: str, keys: Mapping[str, bytes], *, now: float, fence: int | None = None) -> TaskToken:
    """The token, its signature and time checked. Raises AuthenticationError.

    ``keys`` are all keys of the ring for this purpose. ``fence`` is the task's of now, where the caller knows it.
    """
    signed, dot, mac = text.rpartition(".")
    key_id, middle, packed = signed.removeprefix(TASK_PREFIX).partition(".")
    if len(text) > TASK_TOKEN_MAX or not text.isascii() or not signed.startswith(TASK_PREFIX) or not dot or not middle:
        raise AuthenticationError("the task token is malformed")
    key = keys.get(key_id)
    expected = _encode(_mac(key or b"\0" * 32, signed))
    if key is None or not hmac.compare_digest(mac.encode(), expected.encode()):
        raise AuthenticationError("the signature of the task token is wrong", hint="the runner asks for a new one")
    token = _task_token(packed)
    if now >= token.expires:
        raise AuthenticationError("the task token has expired", hint="the runner asks for a new one")
    if fence is not None and token.fence != fence:
        raise AuthenticationError("the task token was replaced by a newer one")
    return token


def _task_token(packed: str) -> TaskToken:
    # The signature was right: whatever is wrong in here was written by another version of ours.
    try:
        body = json.loads(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        actions: Iterable[str] = body["a"]
        return TaskToken(
            task_id=str(body["t"]),
            expires=int(body["e"]),
            fence=int(body["f"]),
            actions=frozenset(Action(a) for a in actions),
            scope=str(body["s"]),
            runner=str(body["r"]),
        )
    except (ValueError, KeyError, TypeError):
        raise AuthenticationError("the task token is of another version", hint="restart the runner") from None


def _minted(text: str) -> Minted:
    presented = parse(text)
    return Minted(presented.id, Secret(text), presented.digest)


def _digest(token_id: str, text: str) -> str:
    return hashlib.sha256(f"entrepot token 1\0{token_id}\0{text}".encode()).hexdigest()


def _foreign_id(text: str) -> str:
    # Never equal to an id of ours, which has no dash.
    return "env-" + hashlib.sha256(f"entrepot token id 1\0{text}".encode()).hexdigest()[:8]


def _mac(key: bytes, signed: str) -> bytes:
    return hmac.digest(key, b"entrepot task token 1\0" + signed.encode(), "sha256")


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _base62(data: bytes, length: int) -> str:
    number = int.from_bytes(data, "big")
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
