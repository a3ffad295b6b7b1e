"""Roles as the ledger keeps them and as the API writes them: JSON lists of role and scope."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from entrepot.ledger.database import Row
from entrepot.model.errors import RequestError, UsageError
from entrepot.security.identity import Grant, Kind, Principal, Role, holds

GRANTS_MAX = 64


def to_json(grants: Iterable[Grant]) -> str:
    """As the ledger keeps them."""
    return json.dumps([{"role": str(grant.role), "scope": grant.scope} for grant in grants])


def from_json(text: str) -> tuple[Grant, ...]:
    """The reverse of :func:`to_json`; a role that this version does not know gives no right."""
    found = json.loads(text) if text else []
    known = {str(role) for role in Role}
    return tuple(Grant(Role(one["role"]), one["scope"]) for one in found if one["role"] in known)


def read(values: Sequence[dict[str, Any]], field: str = "grants") -> tuple[Grant, ...]:
    """Grants as a request writes them. Raises RequestError that names the field."""
    if len(values) > GRANTS_MAX:
        raise RequestError(field, f"more than {GRANTS_MAX} are too many")
    grants = []
    for number, value in enumerate(values):
        try:
            role = Role(value["role"])
        except (KeyError, ValueError):
            raise RequestError(f"{field}.{number}.role", "no such role", hint="one of: " + ", ".join(Role)) from None
        try:
            grants.append(Grant(role, str(value.get("scope", ""))))
        except UsageError as fault:
            raise RequestError(f"{field}.{number}.scope", fault.message, hint=fault.hint) from None
    return tuple(dict.fromkeys(grants))


def principal_of(row: Row, *, narrowed: str = "", token_id: str = "") -> Principal:
    """The principal that a row of a token or access key stands for.

    ``narrowed`` are the token's own grants: of them it keeps what its owner still holds.
    """
    owner = Principal(
        row.principal_id, row.principal_name, Kind(row.principal_kind), from_json(row.principal_grants), token_id
    )
    if not narrowed:
        return owner
    kept = tuple(grant for grant in from_json(narrowed) if holds(owner, grant))
    return Principal(owner.id, owner.name, owner.kind, kept, token_id)
