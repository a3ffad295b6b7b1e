"""Requests that may be sent twice: the first is done, the second gets the first one's answer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from entrepot.ledger import idempotency
from entrepot.ledger.database import Connection
from entrepot.model.errors import Conflict, EntrepotError
from entrepot.security.identity import Principal
from entrepot.security.keyring import Keyring


class Answered(Exception):
    """The same request was done before: ``answer`` is what it was answered then. Nothing was changed now."""

    def __init__(self, status: int, answer: bytes) -> None:
        super().__init__("answered before")
        self.status = status
        self.answer = answer


@dataclass(slots=True, frozen=True)
class Once:
    """A creating request with the client's key for it (empty: none was sent, all calls do nothing).

    ``render`` makes the answer of what was created. With ``keyring`` it is sealed: it holds a secret that is shown
    but once. ``begin`` and ``keep`` belong into the transaction that creates.
    """

    key: str = ""
    route: str = ""
    body: bytes = b""
    status: int = 200
    render: Callable[[Any], bytes] = lambda _: b""
    keyring: Keyring | None = None

    def begin(self, c: Connection, who: Principal) -> None:
        """Raises Answered when this was done before, Conflict when the key was used for something else."""
        if not self.key:
            return
        found = idempotency.find(c, self._mark(who))
        if found is None:
            return
        if found.body_hash != self._hash():
            raise Conflict(
                "the Idempotency-Key was used for another request", hint="take a new key for each new request"
            )
        raise Answered(found.status, self._opened(found.answer, who))

    def keep(self, c: Connection, who: Principal, created: Any) -> None:
        """Remember the answer together with what was created."""
        if not self.key:
            return
        answer = self.render(created)
        text = answer.decode()
        if self.keyring is not None:
            text = self.keyring.seal(answer, self._place(who), os.urandom)
        idempotency.keep(c, self._mark(who), self._hash(), self.status, text)

    def _opened(self, answer: str, who: Principal) -> bytes:
        if self.keyring is None:
            return answer.encode()
        try:
            return self.keyring.open_bytes(answer, self._place(who))
        except EntrepotError:
            raise Conflict(
                "the request with this Idempotency-Key was done, but its answer can no longer be read",
                hint="take a new key",
            ) from None

    def _mark(self, who: Principal) -> idempotency.Mark:
        return idempotency.Mark(who.id, self.route, self.key)

    def _place(self, who: Principal) -> str:
        return f"idempotency/{who.id}/{self.route}/{self.key}"

    def _hash(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


NEVER = Once()
"""For calls that bring no key."""
