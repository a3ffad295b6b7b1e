"""When there is no proper answer: whether to try again, how long to wait, and what to tell of it."""

from __future__ import annotations

from typing import Any

import httpx

from .call import LONGEST_PAUSE, RETRIED, Call, pause_before
from .errors import ApiError, NotReachable, error_from

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""What happened before the server could see the request."""
FIRST_STREAM_PAUSE, LONGEST_STREAM_PAUSE = 0.2, 5.0


def unreachable(server: str, fault: Exception) -> NotReachable:
    """What a failure below HTTP means, in words that help."""
    cause = str(fault) or type(fault).__name__
    said = cause.lower()
    plain = server.removeprefix("https://")
    if "wrong_version_number" in said or "record_layer_failure" in said or "packet length too long" in said:
        return NotReachable(f"{server} does not speak TLS", hint=f"write http://{plain}, if the way there is safe")
    if "certificate_verify_failed" in said or "certificate verify failed" in said:
        hint = "name its authority: --ca-file FILE on the command line, ca_file= in Python"
        return NotReachable(f"{server}: its certificate cannot be trusted: {_reason(cause)}", hint=hint)
    if isinstance(fault, httpx.RemoteProtocolError) and server.startswith("http://"):
        hint = f"if it speaks TLS, write https://{server.removeprefix('http://')}"
        return NotReachable(f"{server} closes the connection without an answer", hint=hint)
    if isinstance(fault, httpx.TimeoutException):
        what = "no connection" if isinstance(fault, httpx.ConnectTimeout) else "no answer in time"
        return NotReachable(f"{server}: {what}", hint="check the address, and that the server is not overloaded")
    for word, text in _CAUSES:
        if word in said:
            return NotReachable(f"{server} cannot be reached: {text}", hint="check the address, and that it runs")
    return NotReachable(f"{server} cannot be reached: {cause}", hint="check the address, and that the server runs")


_CAUSES = (
    ("name or service not known", "there is no such host"),
    ("nodename nor servname", "there is no such host"),
    ("no address associated", "there is no such host"),
    ("name resolution", "the name of the host cannot be looked up"),
    ("connection refused", "nothing listens there"),
    ("no route to host", "there is no way to that host"),
    ("network is unreachable", "there is no way to that network"),
)


def _reason(cause: str) -> str:
    """OpenSSL's own words without its decoration."""
    return cause.rpartition("failed: ")[2].partition(" (_ssl")[0]


def refusal(server: str, reply: httpx.Response) -> ApiError:
    """The error that an answer means which is no success."""
    if reply.status_code < 400:
        where = reply.headers.get("Location", "elsewhere")
        hint = "name the server by the address that it is sent on to"
        return error_from(reply.status_code, b"", fallback=f"{server} sends on to {where}", hint=hint)
    return error_from(
        reply.status_code,
        reply.content,
        reply.headers.get("Retry-After", ""),
        fallback=f"{server} answered {reply.status_code} {reply.reason_phrase}".rstrip(),
        hint="is it an Entrepot server that stands at this address?",
    )


def strange(server: str, what: str) -> ApiError:
    """An answer that is none of Entrepot's."""
    return ApiError(f"{server} answered something else: {what}", hint="is it an Entrepot server, and not much older?")


def retry_after(reply: httpx.Response | None) -> float:
    """Seconds that the server asks for."""
    text = reply.headers.get("Retry-After", "") if reply is not None else ""
    return float(text) if text.isascii() and text.replace(".", "", 1).isdigit() else 0.0


def next_try(call: Call[Any], outcome: httpx.Response | httpx.HTTPError, attempt: int, most: int) -> float | None:
    """Seconds until the next try; None when there is none."""
    if isinstance(outcome, httpx.Response):
        if outcome.status_code not in RETRIED:
            return None
        # A request that was refused for its rate was not looked at.
        allowed = call.repeatable or outcome.status_code == 429
        return pause_before(attempt, retry_after(outcome), most) if allowed else None
    if not (call.repeatable or isinstance(outcome, NEVER_SENT)):
        return None
    return pause_before(attempt, 0.0, most)


class Patience:
    """How long a live stream that breaks is taken up again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spent = 0.0
        self._pause = FIRST_STREAM_PAUSE

    def renew(self) -> None:
        """Something came."""
        self._spent, self._pause = 0.0, FIRST_STREAM_PAUSE

    def pause(self, reply: httpx.Response | None = None) -> float | None:
        """Seconds until the next try; None when it is enough."""
        if self._spent >= self._seconds:
            return None
        pause = max(self._pause, min(retry_after(reply), LONGEST_PAUSE))
        self._spent += pause
        self._pause = min(self._pause * 2, LONGEST_STREAM_PAUSE)
        return pause
