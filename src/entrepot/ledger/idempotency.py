"""Answers to requests that may be sent twice: kept for a day under the client's own key."""

from __future__ import annotations

from dataclasses import dataclass

from .database import Connection, Row

SECONDS = 86_400
_FIND = """SELECT body_hash, status, answer FROM idempotency
    WHERE principal_id = :principal AND route = :route AND key = :key AND at > now() - :seconds"""
_KEEP = """INSERT INTO idempotency (principal_id, route, key, body_hash, status, answer, at)
    VALUES (:principal, :route, :key, :body_hash, :status, :answer, now())
    ON CONFLICT (principal_id, route, key) DO UPDATE SET
        body_hash = excluded.body_hash, status = excluded.status, answer = excluded.answer, at = excluded.at"""


@dataclass(slots=True, frozen=True)
class Mark:
    """What tells one request from another: who sent it, where to, under which key."""

    principal: str
    route: str
    key: str

    def values(self) -> dict[str, str]:
        """As parameters of a statement."""
        return {"principal": self.principal, "route": self.route, "key": self.key}


def find(c: Connection, mark: Mark) -> Row | None:
    """What was answered before (body_hash, status, answer). No other transaction does the same at a time."""
    c.alone("/".join(("once", mark.principal, mark.route, mark.key)))
    return c.first(_FIND, {**mark.values(), "seconds": SECONDS})


def keep(c: Connection, mark: Mark, body_hash: str, status: int, answer: str) -> None:
    """Remember the answer; and forget those that are older than a day."""
    c.change(_KEEP, {**mark.values(), "body_hash": body_hash, "status": status, "answer": answer})
    c.change("DELETE FROM idempotency WHERE at < now() - :seconds", {"seconds": SECONDS})
