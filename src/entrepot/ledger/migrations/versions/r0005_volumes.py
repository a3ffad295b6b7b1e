"""Volumes for some: a scope says whose tasks may use one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those that are there stay open to all."""
    op.add_column("volume", sa.Column("scope", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """All are open to all again."""
    op.drop_column("volume", "scope")
