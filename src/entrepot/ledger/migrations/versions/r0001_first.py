"""The first schema: tasks, shards, failures, journaled deletes, half-moved objects, events, figures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TOTALS = (
    "total", "total_bytes", "copied", "copied_bytes", "equal", "equal_bytes", "deleted", "deleted_bytes",
    "skipped", "skipped_bytes", "failed", "failed_bytes", "retries",
)  # fmt: skip
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _task_id() -> sa.Column[str]:
    return sa.Column("task_id", sa.String(26), nullable=False)


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "task",
        sa.Column("id", sa.String(26), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        _text("source_place"),
        sa.Column("source_prefix", sa.LargeBinary, nullable=False),
        _text("destination_place"),
        sa.Column("destination_prefix", sa.LargeBinary, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("spec_hash", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        _text("reason"),
        sa.Column("stop", sa.String(8), nullable=False, server_default=""),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("finished", sa.Float),
        _count("resumed"),
        _text("owner_host"),
        _text("owner_boot"),
        _count("owner_pid"),
        _text("owner_start"),
        sa.Column("owner_seen", sa.Float),
        _count("failed_before"),
        _count("failure_rows"),
        _count("warning_rows"),
        _count("late_reports"),
        _count("destination_entries"),
        *[_count(name) for name in TOTALS],
        sa.PrimaryKeyConstraint("id", name="task_pk"),
    )
    op.create_index("task_by_spec", "task", ["spec_hash", "state"])
    op.create_index("task_by_state", "task", ["state", "finished"])
    op.create_table(
        "shard",
        sa.Column("id", SERIAL, nullable=False),
        _task_id(),
        sa.Column("phase", sa.String(8), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("low", sa.LargeBinary, nullable=False),
        sa.Column("high", sa.LargeBinary),
        sa.Column("cursor", sa.LargeBinary, nullable=False),
        _count("fence"),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("lease_until", sa.Float),
        _count("lost"),
        _count("destination_entries"),
        *[_count(name) for name in TOTALS],
        sa.PrimaryKeyConstraint("id", name="shard_pk"),
    )
    op.create_index("shard_by_state", "shard", ["task_id", "state", "phase", "low"])
    op.create_index("shard_by_lease", "shard", ["lease_owner"])
    op.create_table(
        "failure",
        sa.Column("id", SERIAL, nullable=False),
        _task_id(),
        sa.Column("phase", sa.String(8), nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("failure", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        _count("attempts"),
        _count("size"),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="failure_pk"),
        sa.UniqueConstraint("task_id", "phase", "key", name="failure_once"),
    )
    op.create_table(
        "failure_count",
        _task_id(),
        sa.Column("failure", sa.String(16), nullable=False),
        _count("entries"),
        sa.PrimaryKeyConstraint("task_id", "failure", name="failure_count_pk"),
    )
    op.create_table(
        "doomed",
        _task_id(),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("shard_id", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.LargeBinary),
        sa.Column("mtime_ns", sa.BigInteger),
        _count("size"),
        sa.PrimaryKeyConstraint("task_id", "key", name="doomed_pk"),
    )
    op.create_index("doomed_by_shard", "doomed", ["shard_id"])
    op.create_table(
        "partial",
        _task_id(),
        sa.Column("key", sa.LargeBinary, nullable=False),
        _count("size"),
        sa.Column("etag", sa.LargeBinary),
        sa.Column("mtime_ns", sa.BigInteger),
        _count("part_size"),
        _text("upload_id"),
        _text("staged"),
        sa.Column("done", sa.Text, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "key", name="partial_pk"),
    )
    op.create_table(
        "event",
        sa.Column("id", SERIAL, nullable=False),
        _task_id(),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="event_pk"),
    )
    op.create_index("event_by_task", "event", ["task_id", "id"])
    op.create_table(
        "runner_stats",
        _task_id(),
        sa.Column("runner_id", sa.String(64), nullable=False),
        sa.Column("stats", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "runner_id", name="runner_stats_pk"),
    )


def downgrade() -> None:
    """Drop everything."""
    for name in (
        "runner_stats", "event", "partial", "doomed", "failure_count", "failure", "shard", "task",
    ):  # fmt: skip
        op.drop_table(name)
