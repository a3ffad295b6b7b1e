"""The limits of one lane: connections, rates, times, tries and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class LaneOptions:
    """Limits of a lane. Times in seconds, sizes in bytes, ``bandwidth`` in bytes/s; 0 means no limit there."""

    connections: int = 0
    """Fixed number of connections; 0 = adaptive between ``connections_start`` and ``connections_max``."""
    connections_start: int = 16
    connections_max: int = 256
    bandwidth: int = 0
    max_requests: float = 0.0
    """Requests per second."""
    connect_timeout: float = 10.0
    stall_timeout: float = 30.0
    """A request that makes no progress for so long is cut and tried again on another connection."""
    slow_timeout: float = 600.0
    """The same for requests over which a store may brood (server-side copies, completing an upload)."""
    min_speed: int = 1024
    """Bytes/s that a large body must reach over each ``stall_timeout``, else it counts as stalled."""
    attempts: int = 6
    """Tries of one operation when faults hit it; progress of a large body resets the count."""
    backoff: float = 0.2
    """The first back-off; each further one may be three times as long (full jitter), up to ``backoff_max``."""
    backoff_max: float = 20.0
    retry_seconds: float = 120.0
    """How long the store may be out of reach before waiting operations fail."""
    throttle_seconds: float = 900.0
    """How long one operation may meet nothing but "slow down" before it fails."""
    memory: int = 96 << 20
    """Bodies (of 64 KiB and more) in flight; the lane takes no new operation beyond it."""
    md5_max: int = 8 << 20
    """Above this size MD5 is computed only where the store's etags have proved to be MD5 (or to find out)."""
    idle_timeout: float = 50.0
    """An unused connection is closed after so long."""
