"""The tables of the ledger, as the newest schema has them. Changes go through a migration as well."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from entrepot.model.totals import FIELDS

HEAD = "0001"
"""The revision that these tables correspond to: the newest file in ``migrations/versions``."""

metadata = MetaData()
_serial = BigInteger().with_variant(Integer, "sqlite")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


task = Table(
    "task",
    metadata,
    Column("id", String(26), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("destination", Text, nullable=False),
    _text("source_place"),
    Column("source_prefix", LargeBinary, nullable=False),
    _text("destination_place"),
    Column("destination_prefix", LargeBinary, nullable=False),
    Column("options", Text, nullable=False),
    Column("spec_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    _text("reason"),
    Column("stop", String(8), nullable=False, server_default=""),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    _count("resumed"),
    _text("owner_host"),
    _text("owner_boot"),
    _count("owner_pid"),
    _text("owner_start"),
    Column("owner_seen", Float),
    _count("failed_before"),
    _count("failure_rows"),
    _count("warning_rows"),
    _count("late_reports"),
    _count("destination_entries"),
    *[_count(name) for name in FIELDS],
    PrimaryKeyConstraint("id", name="task_pk"),
    Index("task_by_spec", "spec_hash", "state"),
    Index("task_by_state", "state", "finished"),
)

shard = Table(
    "shard",
    metadata,
    Column("id", _serial, nullable=False),
    Column("task_id", String(26), nullable=False),
    Column("phase", String(8), nullable=False),
    Column("state", String(8), nullable=False),
    Column("low", LargeBinary, nullable=False),
    Column("high", LargeBinary),
    Column("cursor", LargeBinary, nullable=False),
    _count("fence"),
    Column("lease_owner", String(64)),
    Column("lease_until", Float),
    _count("lost"),
    _count("destination_entries"),
    *[_count(name) for name in FIELDS],
    PrimaryKeyConstraint("id", name="shard_pk"),
    Index("shard_by_state", "task_id", "state", "phase", "low"),
    Index("shard_by_lease", "lease_owner"),
)

failure = Table(
    "failure",
    metadata,
    Column("id", _serial, nullable=False),
    Column("task_id", String(26), nullable=False),
    Column("phase", String(8), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("failure", String(16), nullable=False),
    Column("message", Text, nullable=False),
    _count("attempts"),
    _count("size"),
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("id", name="failure_pk"),
    UniqueConstraint("task_id", "phase", "key", name="failure_once"),
)

failure_count = Table(
    "failure_count",
    metadata,
    Column("task_id", String(26), nullable=False),
    Column("failure", String(16), nullable=False),
    _count("entries"),
    PrimaryKeyConstraint("task_id", "failure", name="failure_count_pk"),
)

doomed = Table(
    "doomed",
    metadata,
    Column("task_id", String(26), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("shard_id", BigInteger, nullable=False),
    Column("etag", LargeBinary),
    Column("mtime_ns", BigInteger),
    _count("size"),
    PrimaryKeyConstraint("task_id", "key", name="doomed_pk"),
    Index("doomed_by_shard", "shard_id"),
)

partial = Table(
    "partial",
    metadata,
    Column("task_id", String(26), nullable=False),
    Column("key", LargeBinary, nullable=False),
    _count("size"),
    Column("etag", LargeBinary),
    Column("mtime_ns", BigInteger),
    _count("part_size"),
    _text("upload_id"),
    _text("staged"),
    Column("done", Text, nullable=False),
    Column("started", Float, nullable=False),
    PrimaryKeyConstraint("task_id", "key", name="partial_pk"),
)

event = Table(
    "event",
    metadata,
    Column("id", _serial, nullable=False),
    Column("task_id", String(26), nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
    PrimaryKeyConstraint("id", name="event_pk"),
    Index("event_by_task", "task_id", "id"),
)

runner_stats = Table(
    "runner_stats",
    metadata,
    Column("task_id", String(26), nullable=False),
    Column("runner_id", String(64), nullable=False),
    Column("stats", Text, nullable=False),
    Column("at", Float, nullable=False),
    PrimaryKeyConstraint("task_id", "runner_id", name="runner_stats_pk"),
)

CHILDREN = (shard, failure, failure_count, doomed, partial, event, runner_stats)
"""Tables whose rows belong to a task and go with it."""
