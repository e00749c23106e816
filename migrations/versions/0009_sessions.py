"""the sessions of the browse page, so that signing out ends them"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), primary_key=True, nullable=False),
        sa.Column(
            "began_at", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False
        ),
        sqlite_strict=True,
    )
