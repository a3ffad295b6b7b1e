"""Names of tasks and runners: sortable by time of birth, unguessable enough not to collide."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(wall: Callable[[], float] = time.time, entropy: Callable[[int], bytes] = os.urandom) -> str:
    """26 characters in Crockford's base 32: 48 bits of milliseconds, then 80 random bits."""
    number = (int(wall() * 1000) & (1 << 48) - 1) << 80 | int.from_bytes(entropy(10), "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
