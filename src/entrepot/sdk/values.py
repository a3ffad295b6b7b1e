"""What a server answers, as values: frozen, typed, printable without secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from entrepot.model.secret import Secret
from entrepot.model.task import END_STATES

_ENDS = frozenset(str(state) for state in END_STATES)


@dataclass(slots=True, frozen=True)
class Amount:
    """So many entries with so many bytes."""

    entries: int = 0
    bytes: int = 0


@dataclass(slots=True, frozen=True)
class Totals:
    """Entries by outcome; ``total`` are the entries of the source that were seen so far."""

    total: Amount
    copied: Amount
    equal: Amount
    deleted: Amount
    skipped: Amount
    failed: Amount


@dataclass(slots=True, frozen=True)
class Task:
    """A task at one moment. ``stop`` is what was asked of it and not yet done; rates and ETA are None when unknown."""

    id: str
    name: str
    kind: str
    type: str
    family: str
    scope: str
    state: str
    reason: str
    stop: str
    source: str
    destination: str
    creator: str
    priority: int
    percent: int
    legs: int
    parent: str
    schedule_id: str
    resumed: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    not_before: datetime | None
    totals: Totals
    retries: int
    phase: str | None
    scanning: bool | None
    rate_bytes: float | None
    rate_entries: float | None
    eta_seconds: float | None
    options: dict[str, Any] = field(default_factory=dict)
    """Empty in lists and streams, as are the two below."""
    failures: dict[str, int] = field(default_factory=dict)
    """Failed entries by class."""
    leg_tasks: tuple[Task, ...] = ()
    requests: dict[str, int] = field(default_factory=dict)
    """Requests to the stores by verb, where the server tells them."""
    peak_rss_bytes: int = 0

    @property
    def ended(self) -> bool:
        """Whether it will not change any more by itself."""
        return self.state in _ENDS


@dataclass(slots=True, frozen=True)
class TaskEvent:
    """What a live stream tells: ``progress`` and ``end`` come with the task; all others with a text and a time."""

    kind: str
    task: Task | None = None
    text: str = ""
    at: datetime | None = None


@dataclass(slots=True, frozen=True)
class Failure:
    """An entry that could not be done. ``key_hex`` has the bytes of a key that is no text, else it is empty."""

    key: str
    key_hex: str
    failure: str
    message: str
    attempts: int
    size: int

    @property
    def raw_key(self) -> bytes:
        """The key as bytes."""
        return bytes.fromhex(self.key_hex) if self.key_hex else self.key.encode()


@dataclass(slots=True, frozen=True)
class ScheduledSync:
    """The sync that a schedule runs."""

    source: str
    destination: str
    name: str
    kind: str
    options: dict[str, Any]
    priority: int


@dataclass(slots=True, frozen=True)
class Schedule:
    """A request that becomes a task again and again. ``next_due`` is None when it never runs again by itself."""

    id: str
    name: str
    scope: str
    cron: str
    zone: str
    request: ScheduledSync
    enabled: bool
    max_count: int
    overlap: str
    runs: int
    next_due: datetime | None
    last_run: datetime | None
    last_task: str
    last_error: str
    waiting: bool
    creator: str
    created: datetime


@dataclass(slots=True, frozen=True)
class Connection:
    """A stored endpoint. ``has`` names the secrets that are set; they themselves are never answered."""

    id: str
    name: str
    scope: str
    provider: str
    endpoint: str
    region: str
    access_key: str
    has: tuple[str, ...]
    addressing: str
    insecure_skip_verify: bool
    disable_ssl: bool
    requester_pays: bool
    options: dict[str, str]
    max_tasks: int
    creator: str
    created: datetime
    updated: datetime


@dataclass(slots=True, frozen=True)
class Check:
    """One step of a test: ``verdict`` is ok, warn or fail."""

    name: str
    verdict: str
    text: str
    hint: str


@dataclass(slots=True, frozen=True)
class Checks:
    """What a test found, up to the first step that failed."""

    good: bool
    checks: tuple[Check, ...]


@dataclass(slots=True, frozen=True)
class Entry:
    """What lies at a place: an object or file, or (``prefix``) what is below a common beginning of keys."""

    key: str
    size: int = 0
    modified: datetime | None = None
    prefix: bool = False


@dataclass(slots=True, frozen=True)
class Volume:
    """A directory of the server that is opened by name."""

    id: str
    name: str
    path: str
    scope: str
    read_only: bool
    creator: str
    created: datetime


@dataclass(slots=True, frozen=True)
class Grant:
    """A role in a scope and everything below it; the empty scope is everything."""

    role: str
    scope: str = ""


@dataclass(slots=True, frozen=True)
class User:
    """Somebody who may come in."""

    id: str
    name: str
    kind: str
    grants: tuple[Grant, ...]
    disabled: bool
    created: datetime


@dataclass(slots=True, frozen=True)
class Myself:
    """Who the credentials belong to, and what they allow."""

    id: str
    name: str
    kind: str
    token_id: str
    grants: tuple[Grant, ...]


@dataclass(slots=True, frozen=True)
class Token:
    """A token without its secret. ``grants`` None: it may all that its owner may."""

    id: str
    user: str
    name: str
    grants: tuple[Grant, ...] | None
    created: datetime
    expires: datetime | None
    last_used: datetime | None
    revoked: datetime | None


@dataclass(slots=True, frozen=True)
class FreshToken(Token):
    """A token that was just made; ``token.reveal()`` is shown this once."""

    token: Secret = Secret("")  # noqa: RUF009


@dataclass(slots=True, frozen=True)
class AccessKey:
    """An access key without its secret key."""

    access_key: str
    user: str
    created: datetime
    last_used: datetime | None
    revoked: datetime | None


@dataclass(slots=True, frozen=True)
class FreshAccessKey(AccessKey):
    """A pair that was just made; ``secret_key.reveal()`` is shown this once."""

    secret_key: Secret = Secret("")  # noqa: RUF009


@dataclass(slots=True, frozen=True)
class Webhook:
    """Who is told of the end of tasks. ``secret`` is empty, but for the one answer after it was made."""

    id: str
    name: str
    scope: str
    url: str
    states: tuple[str, ...]
    enabled: bool
    secret: Secret
    creator: str
    created: datetime


@dataclass(slots=True, frozen=True)
class Delivery:
    """A message to a webhook: ``state`` is pending, delivered or dead; ``status`` is that of the last answer."""

    id: int
    event: str
    task_id: str
    state: str
    attempts: int
    status: int
    last_error: str
    created: datetime
    last_try: datetime | None
    next_try: datetime | None


@dataclass(slots=True, frozen=True)
class Usage:
    """What the tasks of one scope that ended on one day did."""

    scope: str
    day: str
    tasks: int
    entries: int
    bytes: int
    failed: int


@dataclass(slots=True, frozen=True)
class Quota:
    """A limit on a scope and everything below it."""

    scope: str
    name: str
    amount: int


@dataclass(slots=True, frozen=True)
class Record:
    """Who did what to which object, from which address, and whether it was done."""

    id: int
    at: datetime
    principal: str
    action: str
    subject: str
    scope: str
    outcome: str
    address: str
    detail: str
    hash: str


@dataclass(slots=True, frozen=True)
class Verdict:
    """What the check of the audit trail found; keep ``head`` and ``head_hash`` for the next check."""

    good: bool
    rows: int
    head: int
    head_hash: str
    broken: int | None
    reason: str


@dataclass(slots=True, frozen=True)
class Machine:
    """A machine that lends its cores. ``seen`` is when it was last heard of."""

    id: str
    name: str
    processes: int
    task_id: str
    started: datetime
    seen: datetime
