"""Writing the audit from the control plane: a change inside its transaction, a refusal in one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from entrepot.ledger import audit
from entrepot.ledger.database import Connection
from entrepot.model.errors import EntrepotError
from entrepot.security.identity import Action, Principal, require

from .context import ADDRESS, Control


def record(c: Connection, who: Principal, action: str, subject: str, *, scope: str = "", detail: str = "") -> None:
    """Note a change, in the transaction that makes it."""
    audit.append(c, audit.Entry(_shown(who), action, subject, scope, "done", ADDRESS.get(), detail))


def refuse(control: Control, who: Principal, action: str, subject: str, *, scope: str = "", detail: str = "") -> None:
    """Note that something was refused."""
    entry = audit.Entry(_shown(who), action, subject, scope, "refused", ADDRESS.get(), detail)
    control.pool.settle(lambda c: audit.append(c, entry))


def note_failed_login(control: Control, address: str, detail: str) -> None:
    """Note that somebody came without good credentials."""
    entry = audit.Entry("", "login", "", "", "refused", address, detail)
    control.pool.settle(lambda c: audit.append(c, entry))


def allow(control: Control, who: Principal, action: Action, subject: str, scope: str = "") -> None:
    """Raise NotAllowed unless ``who`` has the right; what is refused is noted."""
    try:
        require(who, action, scope)
    except EntrepotError:
        refuse(control, who, action, subject, scope=scope, detail="no right")
        raise


@contextmanager
def change(
    control: Control, who: Principal, action: Action, subject: str, scope: str = "", detail: str = ""
) -> Iterator[Connection]:
    """One writing transaction for a change: allowed, and noted in the audit together with it.

    An error that is raised inside undoes the change and is noted as a refusal.
    """
    allow(control, who, action, subject, scope)
    try:
        with control.pool.write() as c:
            yield c
            record(c, who, action, subject, scope=scope, detail=detail)
    except EntrepotError as error:
        refuse(control, who, action, subject, scope=scope, detail=type(error).__name__)
        raise


def _shown(who: Principal) -> str:
    return f"{who.name} ({who.token_id})" if who.token_id else who.name
