"""What the scheduler needs: live figures of running tasks, legs, approvals, and the ways to the tasks it looks for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Written so that no index on the state alone is thought to do as well.
_WAITING = "state || '' = 'QUEUED' AND family <> '' AND legs = 0"
_LIVE = "legs > 0 AND state || '' IN ('QUEUED', 'SCANNING', 'RUNNING', 'PAUSED', 'REVIEW')"
_HELD = "family <> '' AND legs = 0 AND (owner_pid <> 0 OR stop <> '' OR state IN ('SCANNING', 'RUNNING'))"


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _number(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False, server_default="0")


def upgrade() -> None:
    """Add columns, indexes, and the table of live figures."""
    op.add_column("task", _count("legs"))
    op.add_column("task", _count("approved"))
    for name, columns, where in (
        ("task_waiting", [sa.text("priority DESC"), sa.text("id")], _WAITING),
        ("task_held", [sa.text("id")], _HELD),
        ("task_parents", [sa.text("id")], _LIVE),
        ("task_by_place", [sa.text("destination_place"), sa.text("id")], "state <> 'SUCCEEDED'"),
    ):
        condition = sa.text(where)
        op.create_index(name, "task", columns, sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "task_live",
        sa.Column("task_id", sa.String(26), nullable=False),
        sa.Column("phase", sa.String(8), nullable=False, server_default=""),
        _count("scanning"),
        _number("rate_bytes"),
        _number("rate_entries"),
        sa.Column("eta", sa.Float, nullable=True),
        _number("seconds"),
        _count("memory"),
        sa.Column("totals", sa.Text, nullable=False, server_default=""),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="task_live_pk"),
    )


def downgrade() -> None:
    """Drop them again."""
    op.drop_table("task_live")
    for name in ("task_by_place", "task_parents", "task_held", "task_waiting"):
        op.drop_index(name, "task")
    for name in ("approved", "legs"):
        op.drop_column("task", name)
