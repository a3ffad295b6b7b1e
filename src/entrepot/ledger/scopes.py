"""Conditions on scopes: rows at some scopes and below them, and rows whose scope holds a given one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HOLDING = "(scope = '' OR scope = :scope OR substr(:scope, 1, length(scope) + 1) = scope || '/')"
"""Rows whose scope is ``:scope`` or one above it."""


def within(column: str, scopes: Sequence[str], prefix: str = "within") -> tuple[str, dict[str, Any]]:
    """(condition, parameters) for rows at or below one of ``scopes``; no scopes: no rows."""
    if "" in scopes:
        return "1 = 1", {}
    parts: list[str] = []
    values: dict[str, Any] = {}
    for number, scope in enumerate(scopes):
        at, low, high = f"{prefix}_{number}", f"{prefix}_{number}_low", f"{prefix}_{number}_high"
        parts.append(f"{column} = :{at} OR ({column} >= :{low} AND {column} < :{high})")
        # "0" is the character after "/".
        values.update({at: scope, low: scope + "/", high: scope + "0"})
    return (f"({' OR '.join(parts)})", values) if parts else ("1 = 0", {})
