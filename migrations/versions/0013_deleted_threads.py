"""what the browse page deleted, for Undo"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_BIG = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "deleted_threads",
        sa.Column("seq", _BIG, primary_key=True, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("project", "deletion")),
        *(sa.Column(name, _BIG, nullable=False) for name in ("deleted_at", "threads")),
        sa.Column("lines", sa.Text(), nullable=False),
        sqlite_strict=True,
    )
    op.create_index("deleted_threads_by_age", "deleted_threads", ["deleted_at"])
