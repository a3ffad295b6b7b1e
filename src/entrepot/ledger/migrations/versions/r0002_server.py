"""What a server needs: filing of tasks, people and keys, places, schedules, webhooks, audit, quotas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _count(name: str, default: str = "0") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=default)


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _short(name: str, length: int, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default=default)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=nullable)


def _key(table: str, *names: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*names, name=f"{table}_pk")


def upgrade() -> None:
    """Add the columns and tables."""
    _file_tasks()
    _people()
    _places()
    _plans()
    _records()


def _file_tasks() -> None:
    for column in (
        _text("name"), _text("scope"), _short("family", 16, ""), _short("type", 32, ""), _text("creator"),
        _text("request"), _text("source_connection"), _text("destination_connection"), _count("priority"),
        _time("not_before", nullable=True), _short("schedule_id", 26, ""), _short("parent", 26, ""),
        _count("percent"),
    ):  # fmt: skip
        op.add_column("task", column)
    for name, columns in (
        ("task_queue", ["state", "family", "priority", "id"]),
        ("task_by_scope", ["scope", "family", "id"]),
        ("task_by_scope_state", ["scope", "family", "state", "id"]),
        ("task_by_scope_type", ["scope", "family", "type", "state", "id"]),
        ("task_by_name", ["scope", "family", "name", "id"]),
        ("task_by_parent", ["parent", "id"]),
        ("task_by_schedule", ["schedule_id", "state"]),
    ):
        op.create_index(name, "task", columns)
    op.create_table(
        "task_count",
        _text("scope", None),
        _short("family", 16),
        _short("type", 32),
        _short("state", 16),
        _count("tasks"),
        _key("task_count", "scope", "family", "type", "state"),
    )


def _people() -> None:
    op.create_table(
        "principal",
        _short("id", 26),
        _text("name", None),
        _short("kind", 16),
        _text("grants", None),
        _count("disabled"),
        _time("created"),
        _key("principal", "id"),
        sa.UniqueConstraint("name", name="principal_name"),
    )
    op.create_table(
        "token",
        _short("id", 26),
        _short("principal_id", 26),
        _text("name"),
        _short("digest", 64),
        _text("grants"),
        _time("created"),
        _time("expires", nullable=True),
        _time("last_used", nullable=True),
        _time("revoked", nullable=True),
        _key("token", "id"),
    )
    op.create_index("token_by_principal", "token", ["principal_id"])
    op.create_table(
        "access_key",
        _short("id", 64),
        _short("principal_id", 26),
        _text("secret", None),
        _time("created"),
        _time("last_used", nullable=True),
        _time("revoked", nullable=True),
        _key("access_key", "id"),
    )
    op.create_index("access_key_by_principal", "access_key", ["principal_id"])


def _places() -> None:
    op.create_table(
        "connection",
        _short("id", 26),
        _text("name", None),
        _text("scope"),
        _short("task_id", 26, ""),
        _short("provider", 16),
        _text("endpoint"),
        _text("document", None),
        _text("secrets", None),
        _count("max_tasks"),
        _text("creator"),
        _time("created"),
        _time("updated"),
        _key("connection", "id"),
        sa.UniqueConstraint("scope", "name", name="connection_name"),
    )
    op.create_index("connection_by_task", "connection", ["task_id"])
    op.create_table(
        "volume",
        _short("id", 26),
        _text("name", None),
        _text("path", None),
        _count("read_only"),
        _text("creator"),
        _time("created"),
        _key("volume", "id"),
        sa.UniqueConstraint("name", name="volume_name"),
    )
    op.create_table(
        "datasync",
        _short("id", 36),
        _text("scope", None),
        _text("name", None),
        _text("document", None),
        _text("creator"),
        _time("created"),
        _time("updated"),
        _key("datasync", "id"),
        sa.UniqueConstraint("scope", name="datasync_scope"),
    )


def _plans() -> None:
    op.create_table(
        "schedule",
        _short("id", 26),
        _text("name", None),
        _text("scope"),
        _text("cron", None),
        _text("zone", "UTC"),
        _text("request", None),
        _count("enabled", "1"),
        _count("max_count"),
        _count("runs"),
        _time("next_due", nullable=True),
        _short("last_task", 26, ""),
        _text("last_error"),
        _text("creator"),
        _time("created"),
        _short("overlap", 16, "skip"),
        _count("waiting"),
        _time("last_run", nullable=True),
        _key("schedule", "id"),
        sa.UniqueConstraint("scope", "name", name="schedule_name"),
    )
    op.create_index("schedule_by_due", "schedule", ["enabled", "next_due"])
    op.create_table(
        "webhook",
        _short("id", 26),
        _text("name", None),
        _text("scope"),
        _text("url", None),
        _text("secret", None),
        _text("states", None),
        _count("enabled", "1"),
        _text("creator"),
        _time("created"),
        _key("webhook", "id"),
        sa.UniqueConstraint("scope", "name", name="webhook_name"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", SERIAL, nullable=False),
        _short("webhook_id", 26),
        _short("task_id", 26),
        _text("body", None),
        _short("state", 16),
        _count("attempts"),
        _time("next_try", nullable=True),
        _text("last_error"),
        _time("created"),
        _short("event", 26, ""),
        _count("status"),
        _time("last_try", nullable=True),
        _key("delivery", "id"),
    )
    op.create_index("delivery_due", "delivery", ["state", "next_try"])
    op.create_index("delivery_by_task", "delivery", ["task_id"])
    op.create_index("delivery_by_webhook", "delivery", ["webhook_id", "id"])
    op.create_table("leader", _short("name", 32), _text("holder", None), _time("until"), _key("leader", "name"))


def _records() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False),
        _time("at"),
        _text("principal", None),
        _short("action", 64),
        _text("subject", None),
        _text("scope"),
        _short("outcome", 16),
        _text("address"),
        _text("detail"),
        _short("previous", 64),
        _short("hash", 64),
        _key("audit", "id"),
    )
    op.create_table(
        "idempotency",
        _short("principal_id", 26),
        _text("route", None),
        _text("key", None),
        _short("body_hash", 64),
        _count("status"),
        _text("answer"),
        _time("at"),
        _key("idempotency", "principal_id", "route", "key"),
    )
    op.create_index("idempotency_by_age", "idempotency", ["at"])
    op.create_table(
        "quota",
        _text("scope", None),
        _short("name", 32),
        sa.Column("amount", sa.BigInteger, nullable=False),
        _key("quota", "scope", "name"),
    )
    op.create_table(
        "usage",
        _text("scope", None),
        _short("day", 10),
        _count("tasks"),
        _count("entries"),
        _count("bytes"),
        _count("failed"),
        _key("usage", "scope", "day"),
    )
    op.create_table(
        "usage_counted",
        _short("task_id", 26),
        _short("day", 10),
        _count("entries"),
        _count("bytes"),
        _count("failed"),
        _key("usage_counted", "task_id"),
    )
    op.create_table(
        "runner_node",
        _short("id", 64),
        _text("name", None),
        _short("token_id", 26, ""),
        _count("processes"),
        _short("task_id", 26, ""),
        _count("waiting"),
        _time("started"),
        _time("seen"),
        _key("runner_node", "id"),
    )


TABLES = (
    "runner_node", "usage_counted", "usage", "quota", "idempotency", "audit", "leader", "delivery", "webhook",
    "schedule", "datasync", "volume", "connection", "access_key", "token", "principal", "task_count",
)  # fmt: skip
INDEXES = (
    "task_by_schedule", "task_by_parent", "task_by_name", "task_by_scope_type", "task_by_scope_state", "task_by_scope",
    "task_queue",
)  # fmt: skip
COLUMNS = (
    "percent", "parent", "schedule_id", "not_before", "priority", "destination_connection", "source_connection",
    "request", "creator", "type", "family", "scope", "name",
)  # fmt: skip


def downgrade() -> None:
    """Drop them again."""
    for name in TABLES:
        op.drop_table(name)
    for name in INDEXES:
        op.drop_index(name, "task")
    for name in COLUMNS:
        op.drop_column("task", name)
