"""What lists of tasks need: names that are found by a part of them, and tasks by who made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from entrepot.ledger.labels import fold, grams

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

SEARCH = (
    "CREATE VIRTUAL TABLE task_gram USING fts5(grams, content='task_label', content_rowid='id', "
    "detail='none', columnsize=0, tokenize='ascii')",
    "CREATE TRIGGER task_label_added AFTER INSERT ON task_label BEGIN "
    "INSERT INTO task_gram (rowid, grams) VALUES (new.id, new.grams); END",
    "CREATE TRIGGER task_label_removed AFTER DELETE ON task_label BEGIN "
    "INSERT INTO task_gram (task_gram, rowid, grams) VALUES ('delete', old.id, old.grams); END",
)
_LISTED = "SELECT id, scope, family, type, creator, name FROM task WHERE family <> '' AND parent = '' ORDER BY id"
_ADD = sa.text(
    "INSERT INTO task_label (task_id, scope, family, type, creator, name, grams) "
    "VALUES (:task, :scope, :family, :type, :creator, :name, :grams)"
)


def upgrade() -> None:
    """Add them, also for the tasks that are there."""
    op.create_table(
        "task_label",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("task_id", sa.String(26), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("scope", "family", "type", "creator", "name", "grams")),
        sa.PrimaryKeyConstraint("id", name="task_label_pk"),
        sa.UniqueConstraint("task_id", name="task_label_once"),
    )
    op.create_index("task_by_creator", "task", ["creator", "family", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for statement in SEARCH:
            op.execute(statement)
    else:
        op.execute("CREATE INDEX task_label_by_gram ON task_label USING gin (string_to_array(grams, ' '))")
    _label_all()


def _label_all() -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.text(_LISTED)).fetchall():
        name = fold(row.name)
        about = {"task": row.id, "scope": row.scope, "family": row.family, "type": row.type, "creator": row.creator}
        connection.execute(_ADD, {**about, "name": name, "grams": " ".join(grams(name))})


def downgrade() -> None:
    """Drop them again."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE task_gram")
    op.drop_index("task_by_creator", "task")
    op.drop_table("task_label")
