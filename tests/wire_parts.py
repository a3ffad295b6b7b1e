"""Lanes for tests: to any S3 server, driven until their operations are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from entrepot.model.secret import Secret
from entrepot.storage.base import List, Op
from entrepot.storage.s3.lane import S3Lane
from entrepot.storage.s3.target import Credentials, Profile, S3Target
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor

QUICK = {"backoff": 0.01, "backoff_max": 0.05, "connect_timeout": 3.0, "stall_timeout": 3.0, "retry_seconds": 3.0}


def target_of(env: dict[str, str], bucket: str, **profile: Any) -> S3Target:
    """The target that the AWS variables mean."""
    place = urlsplit(env["AWS_ENDPOINT_URL"])
    keys = Credentials(
        env["AWS_ACCESS_KEY_ID"],
        Secret(env["AWS_SECRET_ACCESS_KEY"]),
        Secret(env.get("AWS_SESSION_TOKEN", "")),
    )
    return S3Target(
        endpoint_host=place.hostname or "",
        port=place.port or (443 if place.scheme == "https" else 80),
        tls=place.scheme == "https",
        bucket=bucket,
        region=env.get("AWS_REGION", "us-east-1"),
        credentials=lambda refresh=False: keys,
        profile=Profile(**{"addressing": "path", **profile}),
        ca_file=env.get("AWS_CA_BUNDLE", ""),
    )


class Bench:
    """A lane with its reactor; calls give back finished operations."""

    def __init__(self, lane: Any, reactor: Reactor) -> None:
        self.lane = lane
        self.reactor = reactor

    def run(self, *ops: Op, seconds: float = 20.0) -> list[Op]:
        """Do ``ops`` and give them back in the order they ended."""
        finished: list[Op] = []
        for op in ops:
            op.done = finished.append
            self.lane.submit(op)
        self.until(lambda: len(finished) == len(ops), seconds)
        return finished

    def one(self, op: Any, seconds: float = 20.0) -> Any:
        """Do one operation; raises its error."""
        self.run(op, seconds=seconds)
        if op.error is not None:
            raise op.error
        return op

    def until(self, ready: Callable[[], bool], seconds: float = 20.0) -> None:
        """Poll until ``ready``."""
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, "the lane did not finish in time"
            self.reactor.poll(0.05)

    def keys(self, columns: Any = "etag", limit: int = 1000) -> list[tuple[bytes, Any, int]]:
        """All rows of the lane's location."""
        rows: list[tuple[bytes, Any, int]] = []
        token = after = b""
        while True:
            op = self.one(List(after, token, columns, nothing, limit=limit))
            rows += op.page.rows
            if op.page.last:
                return rows
            token = op.page.token


@contextmanager
def s3_lane(target: S3Target, prefix: bytes = b"", **options: Any) -> Iterator[Bench]:
    """A lane with short times, closed at the end."""
    reactor = Reactor()
    lane = S3Lane(target, prefix, reactor, LaneOptions(**{**QUICK, **options}))
    try:
        yield Bench(lane, reactor)
    finally:
        lane.close()
        reactor.close()


class Sink:
    """Keeps a streamed body and remembers the order of the pieces."""

    def __init__(self, size: int = 0) -> None:
        self.data = bytearray(size)
        self.pieces: list[tuple[int, int]] = []

    def write(self, offset: int, piece: memoryview) -> None:
        self.pieces.append((offset, len(piece)))
        end = offset + len(piece)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = piece


def nothing(_op: Op) -> None:
    """A completion that does nothing."""
