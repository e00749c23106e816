"""assistants"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def upgrade() -> None:
    big = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
    op.create_table(
        "assistants",
        sa.Column("seq", big, primary_key=True, nullable=False),
        *map(_text, ("project", "id")),
        sa.Column("created_at", big, nullable=False),
        *(_text(name, nullable=True) for name in ("name", "description")),
        _text("model"),
        _text("instructions", nullable=True),
        *map(_text, ("tools", "top_p", "temperature")),
        _text("reasoning_effort", nullable=True),
        *map(_text, ("tool_resources", "metadata", "response_format")),
        sa.UniqueConstraint("project", "id"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
    op.create_index("assistants_by_time", "assistants", ["project", "created_at", "seq"])
