"""How messages to webhooks are signed, for the server that signs and for programs that check it."""

from __future__ import annotations

import hmac
from typing import Final

from .secret import Secret

HEADER: Final = "X-Entrepot-Signature"
EVENT_HEADER: Final = "X-Entrepot-Event"
"""Names what happened; the same for every try and for every receiver of one event."""
DELIVERY_HEADER: Final = "X-Entrepot-Delivery"
ATTEMPT_HEADER: Final = "X-Entrepot-Attempt"
TOLERANCE: Final = 300.0
"""Seconds by which the clocks of sender and receiver may differ, transport included."""


def sign(secret: Secret, at: int, body: bytes) -> str:
    """The header's value: ``t=<Unix time>,v1=<hex of HMAC-SHA256(secret, "t.body")>``."""
    return f"t={at},v1={_mac(secret, at, body)}"


def verify(secret: Secret, header: str, body: bytes, *, now: float, tolerance: float = TOLERANCE) -> bool:
    """Whether ``body``, byte for byte as it came, was signed with ``secret`` not long ago."""
    parts = [part.partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in parts if name.strip() == "t"]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit() or len(times[0]) > 15:
        return False
    at = int(times[0])
    expected = _mac(secret, at, body).encode()
    good = [hmac.compare_digest(value.encode(), expected) for name, value in parts if name.strip() == "v1"]
    return any(good) and abs(now - at) <= tolerance


def _mac(secret: Secret, at: int, body: bytes) -> str:
    return hmac.digest(secret.reveal().encode(), f"{at}.".encode() + body, "sha256").hex()
