"""API keys; stored answers of requests with an Idempotency-Key; failed sign-ins"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("seq", _INTEGER, primary_key=True),
        sa.Column("sha256", sa.Text(), nullable=False, unique=True),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", _INTEGER, nullable=False),
        sa.Column("last_used_at", _INTEGER),
        sa.Column("expires_at", _INTEGER),
        sa.Column("revoked_at", _INTEGER),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "idempotency",
        sa.Column("project", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", _INTEGER, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("idempotency_by_age", "idempotency", ["created_at"])
    op.create_table(
        "failed_sign_ins",
        sa.Column("address", sa.Text(), primary_key=True),
        sa.Column("failures", _INTEGER, nullable=False),
        sa.Column("last_at", _INTEGER, nullable=False),
        sqlite_strict=True,
    )


def downgrade() -> None:
    op.drop_table("failed_sign_ins")
    op.drop_table("idempotency")
    op.drop_table("api_keys")
