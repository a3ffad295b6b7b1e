"""The actions of the fake S3 server's fault script: what can go wrong, ready to use in ``fake.rule``."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from parts.fake_http import Reply, Request, S3Error
from parts.fake_rules import Action, Call, Page
from parts.fake_store import Body

# ---- answers instead of the operation ----------------------------------------------------------------------


def status(
    code: int,
    s3code: str = "",
    body: bytes | None = None,
    *,
    headers: dict[str, str] | None = None,
    early: bool = False,
    message: str = "",
) -> Action:
    """Answer with an error; the operation is not executed. ``body`` replaces the S3 error XML."""

    def before(call: Call) -> Reply:
        if body is not None:
            return Reply(code, dict(headers or {}), body, close=early)
        reply = S3Error(code, s3code or "InternalError", message, headers=headers).reply(call.request)
        reply.close = early
        return reply

    return Action(before=before, early=early)


def slow_down(code: int = 503, retry_after: str = "") -> Action:
    """503 SlowDown (or another status); use ``seconds=`` of the rule for a storm."""
    headers = {"retry-after": retry_after} if retry_after else None
    return status(code, "SlowDown" if code == 503 else "TooManyRequests", headers=headers)


def throttle(per_second: float) -> Action:
    """503 SlowDown for everything above a rate (a bucket of one second)."""
    lock, state = threading.Lock(), {"tokens": per_second, "at": time.monotonic()}

    def before(call: Call) -> Reply | None:
        with lock:
            now = time.monotonic()
            state["tokens"] = min(per_second, state["tokens"] + (now - state["at"]) * per_second)
            state["at"] = now
            if state["tokens"] >= 1:
                state["tokens"] -= 1
                return None
        return S3Error(503, "SlowDown", "reduce your request rate").reply(call.request)

    return Action(before=before)


def close(*, early: bool = False, reset: bool = False) -> Action:
    """Cut the connection instead of a reply, not executed. ``early``: before the request's body is read."""
    return Action(before=lambda call: Reply(0, silent=True, reset=reset), early=early)


def execute_then_close(*, reset: bool = False) -> Action:
    """Do the operation, then cut the connection before the reply."""
    return Action(after=lambda call, reply: Reply(0, silent=True, reset=reset))


def error_in_200(s3code: str = "InternalError", *, executed: bool = False) -> Action:
    """Status 200 whose body is an Error document (Complete, Copy); ``executed``: although it was done."""

    def answer(call: Call) -> Reply:
        reply = S3Error(200, s3code).reply(call.request)
        reply.body = b'<?xml version="1.0" encoding="UTF-8"?>\n\n' + reply.data().split(b"\n", 1)[1]
        return reply

    if executed:
        return Action(after=lambda call, reply: answer(call))
    return Action(before=answer)


def redirect(region: str = "", endpoint: str = "", code: int = 301) -> Action:
    """301 PermanentRedirect naming the region, or 307 to another endpoint (``http://host:port``)."""

    def before(call: Call) -> Reply:
        headers = {"x-amz-bucket-region": region} if region else {}
        if endpoint:
            headers["location"] = endpoint + call.request.path
        extra = f"<Endpoint>{endpoint}</Endpoint><Region>{region}</Region>"
        name = "PermanentRedirect" if code == 301 else "TemporaryRedirect"
        return S3Error(code, name, "use the other endpoint", headers=headers, extra=extra).reply(call.request)

    return Action(before=before)


def run(function: Callable[[Call], object], *, after: bool = False) -> Action:
    """Call ``function(call)`` before (or after) the operation: change objects, wait for an event."""

    def before(call: Call) -> None:
        function(call)

    def then(call: Call, reply: Reply) -> Reply:
        function(call)
        return reply

    return Action(after=then) if after else Action(before=before)


# ---- replies that go wrong on their way --------------------------------------------------------------------


def _change(**fields: Any) -> Action:
    return Action(after=lambda call, reply: replace(reply, **fields))


def cut(after: int, *, honest: bool = True, reset: bool = False) -> Action:
    """Stop after ``after`` body bytes and close. ``honest``: the full Content-Length was promised; else the
    promise is cut too, so that the reply looks complete."""

    def then(call: Call, reply: Reply) -> Reply:
        if honest:
            return replace(reply, cut_at=min(after, reply.size()), reset=reset)
        return replace(reply, body=_body(reply).slice(0, after), close=True)

    return Action(after=then)


def cut_chunked(after: int) -> Action:
    """Send the body chunked and close after ``after`` bytes without the last chunk."""
    return _change(chunked=True, cut_at=after)


def stall(seconds: float, at: int = -1) -> Action:
    """Wait before the reply, or in the body before byte ``at``."""
    return _change(stall_seconds=seconds, stall_at=at)


def trickle(bytes_per_second: float) -> Action:
    """Send the body slowly."""
    return _change(rate=bytes_per_second)


def flip(offset: int, mask: int = 1) -> Action:
    """Alter one byte of the reply's body."""
    return _change(flips={offset: mask})


def flip_request(offset: int, mask: int = 1) -> Action:
    """Alter one byte of an upload on its way to the store: what checksums the client sent will notice it."""
    return Action(body=lambda call: _flip_request(call.request, offset, mask))


def flip_stored(offset: int, mask: int = 1) -> Action:
    """Alter one byte of the stored object after the write succeeded; ETag and checksums stay as they were."""
    return run(lambda call: call.fake.damage(call.request.bucket, call.request.key, offset, mask), after=True)


def empty() -> Action:
    """200 with an empty body."""
    return Action(after=lambda call, reply: replace(reply, status=200, body=b"", claim=None))


def replace_body(data: bytes | Callable[[bytes], bytes]) -> Action:
    """Another body with a right Content-Length."""
    return Action(after=lambda call, reply: replace(reply, body=data(reply.data()) if callable(data) else data))


def cut_xml(share: float = 0.5) -> Action:
    """A complete HTTP reply whose XML stops in the middle."""
    return replace_body(lambda data: data[: int(len(data) * share)])


def set_header(name: str, value: str | None) -> Action:
    """Set a reply header; None drops it."""

    def then(call: Call, reply: Reply) -> Reply:
        headers = {k: v for k, v in reply.headers.items() if k != name.lower()}
        if value is not None:
            headers[name.lower()] = value
        return replace(reply, headers=headers)

    return Action(after=then)


def set_status(code: int) -> Action:
    """Another status for an otherwise unchanged reply."""
    return _change(status=code)


def etag(value: str | None) -> Action:
    """Another ETag header (without quotes); None: no ETag."""
    return set_header("etag", None if value is None else f'"{value}"')


def ignore_range() -> Action:
    """Answer a ranged GET with 200 and the whole object."""

    def before(call: Call) -> None:
        call.request.headers.pop("range", None)

    return Action(before=before)


def wrong_content_range(shift: int = 1) -> Action:
    """206 whose Content-Range names another place than was asked for."""

    def then(call: Call, reply: Reply) -> Reply:
        found = re.match(r"bytes (\d+)-(\d+)/(\d+)", reply.headers.get("content-range", ""))
        if not found:
            return reply
        a, b, n = (int(v) for v in found.groups())
        return replace(reply, headers={**reply.headers, "content-range": f"bytes {a + shift}-{b + shift}/{n}"})

    return Action(after=then)


def gunzip() -> Action:
    """What a helpful proxy does: unpack a stored gzip body, drop Content-Encoding."""

    def then(call: Call, reply: Reply) -> Reply:
        headers = {k: v for k, v in reply.headers.items() if k != "content-encoding"}
        return replace(reply, headers=headers, body=gzip.decompress(reply.data()))

    return Action(after=then)


def gzip_body() -> Action:
    """What another proxy does: pack the body and add Content-Encoding: gzip."""

    def then(call: Call, reply: Reply) -> Reply:
        return replace(reply, headers={**reply.headers, "content-encoding": "gzip"}, body=gzip.compress(reply.data()))

    return Action(after=then)


def wrong_checksum(algorithm: str = "") -> Action:
    """Alter the x-amz-checksum-* headers (and ETag, if ``algorithm`` is ``etag``) of a reply."""

    def then(call: Call, reply: Reply) -> Reply:
        headers = dict(reply.headers)
        for name, value in reply.headers.items():
            if algorithm in name and (name.startswith("x-amz-checksum-") or name == algorithm == "etag"):
                headers[name] = value.translate(str.maketrans("ABCDEFabcdef0123", "BADCFEbadcfe1032"))
        return replace(reply, headers=headers)

    return Action(after=then)


# ---- listings that lie -------------------------------------------------------------------------------------


def truncated_without_token() -> Action:
    """IsTruncated true, but no token or marker to go on with."""

    def page(call: Call, page: Page) -> None:
        page.truncated, page.with_token = True, False

    return Action(page=page)


def ends_early(rows: int = 0) -> Action:
    """A page of ``rows`` rows that claims to be the last (no client can notice by the reply alone)."""

    def page(call: Call, page: Page) -> None:
        page.rows, page.prefixes, page.truncated = page.rows[:rows], [], False

    return Action(page=page)


def repeat_page() -> Action:
    """Answer with the page before, token included."""

    def then(call: Call, reply: Reply) -> Reply:
        last = call.fake.last_page.get((call.request.bucket, call.request.prefix))
        return reply if last is None else replace(reply, body=last)

    return Action(after=then)


def unordered(i: int = 0, j: int = -1) -> Action:
    """Swap two rows of a page."""

    def page(call: Call, page: Page) -> None:
        if len(page.rows) > 1:
            page.rows[i], page.rows[j] = page.rows[j], page.rows[i]

    return Action(page=page)


def duplicate(index: int = 0) -> Action:
    """One row of a page twice in a row."""

    def page(call: Call, page: Page) -> None:
        if page.rows:
            page.rows.insert(index, page.rows[index])

    return Action(page=page)


def change_page(function: Callable[[Page], None]) -> Action:
    """Any other change of a listing page."""
    return Action(page=lambda call, page: function(page))


def _body(reply: Reply) -> Body:
    return reply.body if isinstance(reply.body, Body) else Body.of(reply.body)


def _flip_request(request: Request, offset: int, mask: int) -> None:
    if offset < len(request.body):
        data = bytearray(request.body)
        data[offset] ^= mask
        request.body = bytes(data)
