"""threads and messages"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "threads",
        sa.Column("seq", _INTEGER, primary_key=True),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", _INTEGER, nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("tool_resources", sa.Text(), nullable=False),
        sa.UniqueConstraint("project", "id"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("threads_by_time", "threads", ["project", "created_at", "seq"])
    op.create_table(
        "messages",
        sa.Column("seq", _INTEGER, primary_key=True),
        sa.Column(
            "thread_seq", _INTEGER, sa.ForeignKey("threads.seq", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", _INTEGER, nullable=False),
        sa.Column("assistant_id", sa.Text()),
        sa.Column("run_id", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("incomplete_details", sa.Text()),
        sa.Column("completed_at", _INTEGER),
        sa.Column("incomplete_at", _INTEGER),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("attachments", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.UniqueConstraint("thread_seq", "id"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("messages_by_thread", "messages", ["thread_seq", "seq"])


def downgrade() -> None:
    op.drop_table("messages")
    op.drop_table("threads")
