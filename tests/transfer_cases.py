"""What the transfer cases share: bodies of the three kinds, rules that change a source, and looks at what is left."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from parts.fake_actions import run
from parts.fake_rules import Action, Call
from parts.fake_s3 import FakeS3, Request
from parts.servers import AzureServer

SRC, DST = "s3://src", "s3://dst"
PART = 256 << 10
ONE = ("--processes", "1")
"""One process: counts of requests are exact."""
DOWN = (*ONE, "--part-size", "256K")
"""Downloads in parts of PART bytes."""
MIB = 1 << 20
UP_PART = 5 * MIB
UP = (*ONE, "--part-size", "5M")
"""Uploads in parts of UP_PART bytes, the smallest that a store takes."""


def data(size: int, seed: int = 1) -> bytes:
    """Bytes that no piece of is like another."""
    return random.Random(seed).randbytes(size)


BODIES = {"small": data(1000), "medium": data(200_000), "large": data(4 * PART + 77)}
"""One request in memory; one streamed request; ranges."""


def put_bodies(fake: FakeS3, **how: Any) -> dict[bytes, bytes]:
    """The three bodies as objects of ``src``."""
    for name, body in BODIES.items():
        fake.put("src", name, body, **how)
    return {name.encode(): body for name, body in BODIES.items()}


def files(root: Path) -> dict[bytes, bytes]:
    """All files below ``root``."""
    return {str(p.relative_to(root)).encode(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def is_range(first: int) -> Callable[[Request], bool]:
    """True for reads that begin at byte ``first``."""
    return lambda request: request.headers.get("range", "").startswith(f"bytes={first}-")


def do(function: Callable[[], object], *, after: bool = False) -> Action:
    """Something happens in the world when the request arrives."""

    def call(_call: Call) -> object:
        return function()

    return run(call, after=after)


def wrote_twice(fake: FakeS3, bucket: str = "dst") -> list[bytes]:
    """Keys that were written more than once."""
    ops = ["PutObject", "CopyObject", "CompleteMultipartUpload"]
    keys = [r.key for r in fake.log(ops) if r.status == 200 and r.bucket == bucket]
    return sorted({key for key in keys if keys.count(key) > 1})


def settle(fake: FakeS3) -> None:
    """Wait until the server has done with the connections of a client that was killed."""
    end = time.monotonic() + 5.0
    while fake._open.sockets and time.monotonic() < end:
        time.sleep(0.005)


def make_container(server: AzureServer, name: str) -> str:
    """A new container; its name."""
    from entrepot.model.location import parse_location
    from entrepot.storage.azure.request import Requests
    from entrepot.storage.azure.store import AzureStore

    target = AzureStore.open(parse_location(f"az://{name}"), environ=server.env()).target
    head = Requests(target).head(b"PUT", b"", (("restype", b"container"),), length=0)
    parts = urlsplit(server.endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    line, _, rest = head.partition(b"\r\n")
    fields = (field.decode().partition(":") for field in rest.split(b"\r\n") if field)
    connection.request("PUT", line.split()[1].decode(), headers={k: v.strip() for k, _, v in fields})
    assert connection.getresponse().status == 201
    connection.close()
    return name
