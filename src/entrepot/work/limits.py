"""Limits of the lanes of a task: what the options ask, and what the environment says of the network's patience.

Variables: ENTREPOT_CONNECT_TIMEOUT, ENTREPOT_STALL_TIMEOUT, ENTREPOT_RETRY_SECONDS, ENTREPOT_THROTTLE_SECONDS,
ENTREPOT_BACKOFF (seconds), ENTREPOT_ATTEMPTS (tries of one operation).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from entrepot.model.errors import UsageError
from entrepot.model.options import SyncOptions
from entrepot.storage.wire.options import LaneOptions
from entrepot.transfer.rates import current_bandwidth

_SECONDS = ("connect_timeout", "stall_timeout", "retry_seconds", "throttle_seconds", "backoff")


def lane_options(
    options: SyncOptions, processes: int, wall: float, environ: Mapping[str, str] | None = None
) -> LaneOptions:
    """The limits of one lane of one of ``processes`` runners at Unix time ``wall``. UsageError for a bad variable."""
    env = os.environ if environ is None else environ
    share = max(1, processes)
    times = {name: found for name in _SECONDS if (found := _number(env, name)) is not None}
    attempts = _number(env, "attempts")
    plain = LaneOptions()
    return LaneOptions(
        connections=options.concurrency,
        bandwidth=current_bandwidth(options, wall) // share,
        max_requests=options.max_requests / share,
        attempts=int(attempts) if attempts is not None else plain.attempts,
        **times,  # type: ignore[arg-type]
    )


def _number(env: Mapping[str, str], name: str) -> float | None:
    variable = f"ENTREPOT_{name.upper()}"
    text = env.get(variable, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e9:
        raise UsageError(f"{variable} is {text!r}", hint="give a positive number of seconds (or tries)")
    return value
