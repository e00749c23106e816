"""runs, their steps, and the lock of a thread"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_ACTIVE = sa.text("status IN ('queued', 'in_progress', 'requires_action', 'cancelling')")
_BIG = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _key() -> sa.Column[int]:
    return sa.Column("seq", _BIG, primary_key=True, nullable=False)


def _parent(name: str, of: str) -> sa.Column[int]:
    return sa.Column(name, _BIG, sa.ForeignKey(of, ondelete="CASCADE"), nullable=False)


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=nullable) for name in names]


def _numbers(*names: str, nullable: bool = True) -> list[sa.Column[int]]:
    return [sa.Column(name, _BIG, nullable=nullable) for name in names]


def upgrade() -> None:
    op.add_column("threads", sa.Column("active_run", sa.Text()))
    _create_runs()
    _create_steps()
    op.create_index("runs_by_thread", "runs", ["thread_seq", "seq"])
    where = {"sqlite_where": _ACTIVE, "postgresql_where": _ACTIVE}
    op.create_index("active_runs", "runs", ["thread_seq"], unique=True, **where)
    op.create_index("steps_by_run", "run_steps", ["run_seq", "seq"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        _key(),
        _parent("thread_seq", "threads.seq"),
        *_texts("id"),
        *_numbers("created_at", nullable=False),
        *_texts("assistant_id", "status"),
        *_numbers("started_at", "expires_at", "cancelled_at", "failed_at", "completed_at"),
        *_texts("required_action", "last_error", nullable=True),
        *_texts("model"),
        *_texts("instructions", nullable=True),
        *_texts("tools", "tool_resources", "metadata", "temperature", "top_p"),
        *_texts("reasoning_effort", nullable=True),
        *_numbers("max_completion_tokens", "max_prompt_tokens"),
        *_texts("truncation_strategy"),
        *_texts("incomplete_details", "usage", nullable=True),
        *_texts("response_format", "tool_choice", "parallel_tool_calls"),
        *_texts("player", nullable=True),
        *_numbers("lease_end"),
        *_texts("script", nullable=True),
        sa.UniqueConstraint("thread_seq", "id"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )


def _create_steps() -> None:
    op.create_table(
        "run_steps",
        _key(),
        _parent("run_seq", "runs.seq"),
        *_texts("id"),
        *_numbers("created_at", nullable=False),
        *_texts("type", "status"),
        *_numbers("cancelled_at", "completed_at", "expires_at", "failed_at"),
        *_texts("last_error", nullable=True),
        *_texts("step_details"),
        *_texts("usage", "draft", nullable=True),
        sa.UniqueConstraint("run_seq", "id"),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
