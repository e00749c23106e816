"""Keep the list of words not yet indexed short on PostgreSQL.

Each search reads that list whole: at its 4 MB a search for a rare word took 6.8 ms of CPU, at
64 kB 2.2, and appends no longer.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _alter("SET (gin_pending_list_limit = 64)")


def downgrade() -> None:
    _alter("RESET (gin_pending_list_limit)")


def _alter(change: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX message_text_words {change}")
