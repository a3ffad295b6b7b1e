"""Runners: machines that lend the server their cores."""

from __future__ import annotations

from typing import Any

from entrepot.sdk.call import Call
from entrepot.sdk.reading import reader
from entrepot.sdk.values import Machine

from .paths import path

_machine = reader(Machine)


def list_() -> Call[tuple[Machine, ...]]:
    """The machines that help this server now."""
    return Call("GET", path("runners"), _machines)


def _machines(value: Any) -> tuple[Machine, ...]:
    return tuple(_machine(one) for one in value["runners"])
