"""What every function of the control plane is given: the ledger, the keys, the rules, and a bell for the scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from entrepot.ledger.browse import Counts
from entrepot.ledger.pool import LedgerPool
from entrepot.security.keyring import KeyFile, Keyring

from .settings import Settings

if TYPE_CHECKING:
    from entrepot.security.egress import EgressPolicy
    from entrepot.security.oidc import Verifier

ADDRESS: ContextVar[str] = ContextVar("entrepot_address", default="")
"""Where the request that is being served came from, for the audit; empty for the server's own doings."""


@dataclass(slots=True, frozen=True)
class Control:
    """The surroundings of a server's control plane; one for each process that serves.

    ``wake`` rings the scheduler after the ledger was given something to do; it may be lost, the scheduler looks by
    itself too. ``state_dir`` is where runners keep segments and facts about endpoints. ``wall`` is Unix time.
    """

    pool: LedgerPool
    keys: KeyFile
    settings: Settings
    egress: EgressPolicy
    wake: Callable[[], None]
    state_dir: str
    wall: Callable[[], float] = time.time
    oidc: Verifier | None = None
    """Checks tokens of an outside issuer, where there is one."""
    counts: Counts = field(init=False)
    """Totals of lists that were dear to count."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counts(self.pool))

    @property
    def keyring(self) -> Keyring:
        """The keys of this moment: a rotation needs no restart."""
        return self.keys.ring
