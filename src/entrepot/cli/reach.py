"""Checks of a connection, for the commands that show them; what is checked is in ``storage.reach``."""

from __future__ import annotations

from entrepot.storage.reach import BRIDGED, Check, check_connection, clock_check, delete_one, reach, reach_connection

__all__ = ["BRIDGED", "Check", "check_connection", "clock_check", "delete_one", "reach", "reach_connection"]
