"""The way to the failures of one task in the order in which they came: a page of 100,000 must not sort them all."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("failure_by_task", "failure", ["task_id", "id"])


def downgrade() -> None:
    """Drop it again."""
    op.drop_index("failure_by_task", "failure")
