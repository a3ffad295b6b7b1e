"""Requests signed with an access key: ``Authorization: hmac accesskey="AK", …`` over ``X-Date``, both sides.

The signature is ``base64(HMAC-SHA256(SK, 'x-date: ' + X-Date))``. It covers the date alone, as the clients of the
published families make it: who sees one can send other requests with it until the date is 15 minutes old. So it
belongs on TLS, like a bearer token. The server needs the secret key itself to check it: it is kept sealed
(``keyring``), not hashed.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from entrepot.model.errors import AuthenticationError
from entrepot.model.secret import Secret

ALGORITHM = "hmac-sha256"
SIGNED_HEADERS = "x-date"
SKEW = 15 * 60
"""Seconds that the clocks of client and server may differ."""
HEADER_MAX = 2048
ACCESS_KEY_MAX = 128

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) "
    r"(\d\d):(\d\d):(\d\d) (?:GMT|UTC|[+-]0000)",
    re.ASCII,
)
_PARAMETER = re.compile(
    r"""[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s,"']+))[ \t]*(?:,|$)""",
    re.ASCII,
)
_ACCESS_KEY = re.compile(r"[!-~]+", re.ASCII)
_NEEDED = ("accesskey", "algorithm", "headers", "signature")
_HINT = 'write: hmac accesskey="AK", algorithm="hmac-sha256", headers="x-date", signature="…"'


@dataclass(slots=True, frozen=True)
class Claim:
    """A signed request, taken apart; nothing is proved yet."""

    access_key: str
    signature: bytes
    date: str
    """X-Date exactly as it was sent: the signature is over this text."""


def is_signed(authorization: str) -> bool:
    """Whether the header is of this scheme, well-formed or not."""
    scheme, _, _ = authorization.strip().partition(" ")
    return scheme.lower() == "hmac"


def sign(access_key: str, secret_key: Secret, now: float) -> dict[str, str]:
    """The two headers of a request sent at ``now`` (Unix time)."""
    date = format_datetime(datetime.fromtimestamp(int(now), UTC), usegmt=True)
    signature = b64encode(_mac(secret_key, date)).decode()
    return {
        "X-Date": date,
        "Authorization": f'hmac accesskey="{access_key}", algorithm="{ALGORITHM}", headers="{SIGNED_HEADERS}", '
        f'signature="{signature}"',
    }


def parse(authorization: str, x_date: str | None) -> Claim:
    """Take the headers apart. Raises AuthenticationError that says what is wrong with them."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() != "hmac":
        raise AuthenticationError("the Authorization header is not of the scheme hmac", hint=_HINT)
    if len(authorization) > HEADER_MAX:
        raise AuthenticationError(f"the Authorization header is longer than {HEADER_MAX} characters", hint=_HINT)
    found = _parameters(rest)
    missing = [name for name in _NEEDED if not found.get(name)]
    if missing:
        raise AuthenticationError(f"the Authorization header lacks {', '.join(missing)}", hint=_HINT)
    if found["algorithm"].lower() != ALGORITHM:
        raise AuthenticationError("the algorithm of the signature is not known", hint=f"only {ALGORITHM} is")
    if found["headers"].lower().split() != [SIGNED_HEADERS]:
        raise AuthenticationError("the signature must cover x-date, and only that", hint=_HINT)
    if not x_date:
        raise AuthenticationError("the header X-Date is missing", hint="send the date that was signed")
    if len(found["accesskey"]) > ACCESS_KEY_MAX or not _ACCESS_KEY.fullmatch(found["accesskey"]):
        raise AuthenticationError("the access key holds characters that none has, or too many")
    return Claim(found["accesskey"], _signature(found["signature"]), x_date)


def verify(claim: Claim, secret_key: Secret | None, now: float) -> None:
    """Raise AuthenticationError unless ``claim`` was signed with the key, not long ago.

    ``secret_key`` None: nobody has this access key. It costs the same time and gives the same answer as a wrong
    signature.
    """
    known = bool(secret_key)
    expected = _mac(secret_key or Secret("no such access key"), claim.date)
    fits = hmac.compare_digest(expected, claim.signature)
    if not known or not fits:
        raise AuthenticationError(
            "the access key or the signature is wrong", hint="the text to sign is 'x-date: ' and the value of X-Date"
        )
    skew = abs(now - _seconds(claim.date))
    if skew > SKEW:
        raise AuthenticationError(
            f"X-Date differs from the server's clock by {_span(skew)}: at most {SKEW // 60} minutes are allowed",
            hint="set the client's clock",
        )


def authenticate(authorization: str, x_date: str | None, secret_of: Callable[[str], Secret | None], now: float) -> str:
    """The access key that signed the request. Raises AuthenticationError."""
    claim = parse(authorization, x_date)
    verify(claim, secret_of(claim.access_key), now)
    return claim.access_key


def new_access_key(random: Callable[[int], bytes]) -> tuple[str, Secret]:
    """A new pair of access key and secret key."""
    return "EK" + random(9).hex().upper(), Secret(b64encode(random(30)).decode())


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if not match:
            raise AuthenticationError(f"the Authorization header is malformed at character {at + 1}", hint=_HINT)
        name, quoted, single, plain = match.groups()
        if name.lower() in found:
            raise AuthenticationError(f"the Authorization header names {name.lower()} twice", hint=_HINT)
        if quoted is not None:
            found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted)
        else:
            found[name.lower()] = single if single is not None else plain
        at = match.end()
    return found


def _signature(text: str) -> bytes:
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AuthenticationError("the signature is not base64", hint=_HINT) from None
    if len(raw) != hashlib.sha256().digest_size:
        raise AuthenticationError("the signature has not the length of HMAC-SHA256", hint=_HINT)
    return raw


def _seconds(date: str) -> float:
    found = _DATE.fullmatch(date.strip())
    try:
        if not found or found[2] not in _MONTHS:
            raise ValueError
        day, month, year, hour, minute, second = (
            int(found[1]), _MONTHS.index(found[2]) + 1, int(found[3]), int(found[4]), int(found[5]), int(found[6]),
        )  # fmt: skip
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC).timestamp()
    except ValueError:
        raise AuthenticationError(
            "X-Date is not a date of the form 'Sun, 06 Nov 1994 08:49:37 GMT'", hint="always in GMT"
        ) from None


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


def _mac(secret_key: Secret, date: str) -> bytes:
    return hmac.digest(secret_key.reveal().encode(), b"x-date: " + date.encode("utf-8", "replace"), "sha256")
