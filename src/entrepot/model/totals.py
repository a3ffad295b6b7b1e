"""Counters of a shard or task. They add up, and travel as plain dicts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass(slots=True)
class Totals:
    """Entries and bytes by outcome. ``total`` counts source entries seen; bytes are source sizes."""

    total: int = 0
    total_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    equal: int = 0
    equal_bytes: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    skipped: int = 0
    skipped_bytes: int = 0
    failed: int = 0
    failed_bytes: int = 0
    retries: int = 0

    def add(self, other: Totals) -> None:
        """Add ``other`` to this."""
        for name in FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_dict(self) -> dict[str, int]:
        """Plain dict, for the ledger and JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, int]) -> Totals:
        """The reverse of :meth:`as_dict`; unknown names are ignored."""
        return cls(**{name: int(values.get(name, 0)) for name in FIELDS})


FIELDS = tuple(f.name for f in fields(Totals))
