"""The pipelined form of an S3 location."""

from __future__ import annotations

import random as _random
import time
from collections.abc import Callable

from entrepot.storage.wire.lane import HttpLane
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor
from entrepot.storage.wire.resolve import Lookup, system_lookup

from .dialect import S3Dialect
from .target import S3Target


class S3Lane(HttpLane):
    """A lane to ``target`` for keys below ``prefix``. ``wall`` is Unix time, ``random`` gives [0, 1)."""

    def __init__(
        self,
        target: S3Target,
        prefix: bytes,
        reactor: Reactor,
        options: LaneOptions | None = None,
        *,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] = _random.random,
        lookup: Lookup = system_lookup,
    ) -> None:
        dialect = S3Dialect(target, prefix, wall)
        super().__init__(dialect, reactor, options, random=random, lookup=lookup)
        self._speaker = dialect

    @property
    def clock_offset(self) -> float:
        """The store's clock minus ours in seconds, as the first listing told; 0.0 before."""
        return self._speaker.clock_offset or 0.0
