"""Where runs are remembered."""

from __future__ import annotations

import os

LEDGER_FILE = "ledger.db"


def state_directory(wanted: str = "") -> str:
    """The state directory: as asked, else ENTREPOT_STATE_DIR, else the user's state directory."""
    chosen = wanted or os.environ.get("ENTREPOT_STATE_DIR", "")
    if not chosen:
        home = os.environ.get("XDG_STATE_HOME", "") or os.path.join("~", ".local", "state")
        chosen = os.path.join(home, "entrepot")
    return os.path.abspath(os.path.expanduser(chosen))


def ledger_place(state_dir: str) -> str:
    """The ledger's file in a state directory."""
    return os.path.join(state_dir, LEDGER_FILE)
