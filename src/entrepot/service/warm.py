"""What a zygote has loaded before it forks, so that no conductor and no runner loads it again."""

from __future__ import annotations

import gc
from importlib import import_module

_MODULES = (
    "entrepot.ledger.database", "entrepot.ledger.holding", "entrepot.ledger.port", "entrepot.ledger.retrying",
    "entrepot.ledger.sqlite", "entrepot.service.claim", "entrepot.service.conduct", "entrepot.service.pacing",
    "entrepot.service.perform", "entrepot.service.pulse", "entrepot.service.reports", "entrepot.service.undo",
    "entrepot.service.watch", "entrepot.storage.environment", "entrepot.storage.posix.store",
    "entrepot.storage.posix.volume", "entrepot.storage.s3.lane", "entrepot.storage.s3.store",
)  # fmt: skip


def warm(ledger_place: str) -> None:
    """Load it; open nothing, start no thread."""
    for name in _MODULES:
        import_module(name)
    if "://" in ledger_place.removeprefix("sqlite:///"):
        import_module("entrepot.ledger.postgres")
    gc.collect()
    gc.freeze()
