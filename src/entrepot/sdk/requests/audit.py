"""The audit trail: who did what, and the check that nothing of it was changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from entrepot.sdk.call import Call, Pages, nothing, pages
from entrepot.sdk.reading import reader, text_of
from entrepot.sdk.values import Record, Verdict

from .paths import path

Outcome = Literal["", "done", "refused"]


def list_(
    *,
    principal: str = "",
    action: str = "",
    subject: str = "",
    text: str = "",
    scope: str = "",
    outcome: Outcome = "",
    address: str = "",
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    page_size: int = 0,
) -> Pages[Record]:
    """What was done and refused, youngest first. ``text`` is a part of the subject; ``until`` is not included."""
    query = _query(principal, action, subject, text, scope, outcome, address, since, until)
    return pages(path("audit"), "records", reader(Record), query, page_size)


def export(
    *,
    principal: str = "",
    action: str = "",
    subject: str = "",
    text: str = "",
    scope: str = "",
    outcome: Outcome = "",
    address: str = "",
    since: datetime | str | None = None,
    until: datetime | str | None = None,
) -> Call[None]:
    """The same as a file: one JSON object a line."""
    query = _query(principal, action, subject, text, scope, outcome, address, since, until)
    return Call("GET", path("audit", verb="export"), nothing, query=query)


def verify(head: int = 0, head_hash: str = "") -> Call[Verdict]:
    """Check the chain of hashes. With the head of an earlier check, a cut at the end shows too."""
    known = {"known": {"id": head, "hash": head_hash}} if head else {}
    return Call("POST", path("audit", verb="verify"), reader(Verdict), body=known, again=True)


def _query(
    principal: str,
    action: str,
    subject: str,
    text: str,
    scope: str,
    outcome: str,
    address: str,
    since: datetime | str | None,
    until: datetime | str | None,
) -> dict[str, Any]:
    return {
        "principal": principal, "action": action, "subject": subject, "text": text, "scope": scope,
        "outcome": outcome, "address": address, "since": text_of(since), "until": text_of(until),
    }  # fmt: skip
