"""The fault script of the fake S3 server: rules say when, actions say what.

An action is a value with up to four hooks; ``fake_actions`` has the ones that tests need.
``early`` actions answer before the request's body is read.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parts.fake_http import Reply, Request
from parts.fake_store import Row

if TYPE_CHECKING:
    from parts.fake_s3 import FakeS3

FAMILIES: dict[str, frozenset[str]] = {
    "LIST": frozenset({"ListObjectsV1", "ListObjectsV2"}),
    "GET": frozenset({"GetObject"}),
    "HEAD": frozenset({"HeadObject"}),
    "PUT": frozenset({"PutObject"}),
    "COPY": frozenset({"CopyObject", "UploadPartCopy"}),
    "DELETE": frozenset({"DeleteObject", "DeleteObjects"}),
    "PART": frozenset({"UploadPart", "UploadPartCopy"}),
    "MULTIPART": frozenset(
        {
            "CreateMultipartUpload",
            "UploadPart",
            "UploadPartCopy",
            "CompleteMultipartUpload",
            "AbortMultipartUpload",
        }
    ),
    "WRITE": frozenset({"PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject", "DeleteObjects"}),
}
"""Short names for groups of operations; ``*`` is every operation."""


def operations(op: str | Iterable[str]) -> frozenset[str] | None:
    """The operations that ``op`` names; None = all."""
    names = [op] if isinstance(op, str) else list(op)
    if "*" in names:
        return None
    found: frozenset[str] = frozenset()
    for name in names:
        found |= FAMILIES.get(name, frozenset({name}))
    return found


@dataclass(slots=True)
class Page:
    """One page of a listing before it becomes XML; ``next`` is its last key or common prefix."""

    rows: list[Row]
    prefixes: list[bytes]
    truncated: bool
    next: bytes
    with_token: bool = True


@dataclass(slots=True)
class Call:
    """One request that a rule matched; ``hit`` counts the matches of its rule from 1."""

    fake: FakeS3
    request: Request
    hit: int


Before = Callable[[Call], Reply | None]
After = Callable[[Call, Reply], Reply]


@dataclass(slots=True, frozen=True)
class Action:
    """What a rule does: ``before`` may answer, ``body`` changes the request, ``page`` a page, ``after`` the
    reply."""

    before: Before | None = None
    body: Callable[[Call], None] | None = None
    page: Callable[[Call, Page], None] | None = None
    after: After | None = None
    early: bool = False


@dataclass(slots=True)
class Rule:
    """When an action applies."""

    actions: tuple[Action, ...]
    ops: frozenset[str] | None = None
    bucket: str | None = None
    key: re.Pattern[bytes] | None = None
    nth: int | Container[int] | None = None
    per_key: bool = False
    seconds: float | None = None
    when: Callable[[Request], bool] | None = None
    seen: int = 0
    """How many requests met all conditions but ``nth``."""
    hits: int = 0
    """How often the actions were applied."""
    active: bool = True
    first_at: float = 0.0
    _by_key: dict[bytes, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def match(self, request: Request) -> int:
        """The number of this hit, or 0."""
        if not self.active or (self.ops is not None and request.op not in self.ops):
            return 0
        if self.bucket is not None and self.bucket != request.bucket:
            return 0
        if self.key is not None and not self.key.search(request.key or request.prefix):
            return 0
        if self.when is not None and not self.when(request):
            return 0
        with self._lock:
            self.seen += 1
            count = self.seen
            if self.per_key:
                count = self._by_key[request.key] = self._by_key.get(request.key, 0) + 1
            if self.seconds is not None:
                now = time.monotonic()
                self.first_at = self.first_at or now
                if now - self.first_at > self.seconds:
                    return 0
            if self.nth is not None and (
                count not in self.nth if isinstance(self.nth, Container) else count != self.nth
            ):
                return 0
            self.hits += 1
            return self.hits

    def remove(self) -> None:
        """Switch the rule off."""
        self.active = False
