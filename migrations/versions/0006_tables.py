"""the tables, and the index of metadata"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = None

_POSTGRES = Path(__file__).parents[1] / "0006_postgres.sql"
_STRICT: dict[str, Any] = {"sqlite_strict": True}
_KEYED = _STRICT | {"sqlite_with_rowid": False}
_SEQUENCED = _STRICT | {"sqlite_autoincrement": True}
_ADD_PAIRS = """
    INSERT INTO thread_metadata (project, key, value, created_at, thread_seq)
    SELECT NEW.project, key, value, NEW.created_at, NEW.seq FROM json_each(NEW.metadata);
"""
_REMOVE_PAIRS = """
    DELETE FROM thread_metadata
    WHERE (project, key, value, created_at, thread_seq) IN (
        SELECT OLD.project, key, value, OLD.created_at, OLD.seq FROM json_each(OLD.metadata)
    );
"""
# Triggers keep the index, so that no writer can forget it.
_TRIGGERS = {
    "threads_insert": f"AFTER INSERT ON threads BEGIN {_ADD_PAIRS} END",
    "threads_update": f"AFTER UPDATE OF metadata ON threads BEGIN {_REMOVE_PAIRS} {_ADD_PAIRS} END",
    "threads_delete": f"AFTER DELETE ON threads BEGIN {_REMOVE_PAIRS} END",
}


def _text(name: str, key: bool = False, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=key, nullable=nullable)


def _integer(name: str, key: bool = False, nullable: bool = False) -> sa.Column[int]:
    type_ = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
    return sa.Column(name, type_, primary_key=key, nullable=nullable)


_TABLES: dict[str, list[sa.schema.SchemaItem]] = {
    "threads": [
        _integer("seq", key=True),
        *map(_text, ("project", "id")),
        _integer("created_at"),
        *map(_text, ("metadata", "tool_resources")),
        sa.UniqueConstraint("project", "id"),
    ],
    "messages": [
        _integer("seq", key=True),
        _integer("thread_seq"),
        _text("id"),
        _integer("created_at"),
        *(_text(name, nullable=True) for name in ("assistant_id", "run_id")),
        _text("status"),
        _text("incomplete_details", nullable=True),
        *(_integer(name, nullable=True) for name in ("completed_at", "incomplete_at")),
        *map(_text, ("role", "content", "attachments", "metadata")),
        sa.UniqueConstraint("thread_seq", "id"),
        sa.ForeignKeyConstraint(["thread_seq"], ["threads.seq"], ondelete="CASCADE"),
    ],
    "api_keys": [
        _integer("seq", key=True),
        *map(_text, ("sha256", "shown", "project", "name")),
        _integer("created_at"),
        *(_integer(name, nullable=True) for name in ("last_used_at", "expires_at", "revoked_at")),
        sa.UniqueConstraint("sha256"),
    ],
    "thread_metadata": [
        *(_text(name, key=True) for name in ("project", "key", "value")),
        *(_integer(name, key=True) for name in ("created_at", "thread_seq")),
    ],
    "tombstones": [
        _text("project", key=True),
        _integer("thread_seq", key=True),
        _text("id", key=True),
        *map(_integer, ("created_at", "seq", "deleted_at")),
    ],
    "idempotency": [
        *(_text(name, key=True) for name in ("project", "key")),
        *map(_text, ("fingerprint", "body")),
        _integer("created_at"),
    ],
    "failed_sign_ins": [_text("address", key=True), *map(_integer, ("failures", "last_at"))],
}
_OPTIONS = dict.fromkeys(("threads", "messages", "api_keys"), _SEQUENCED)
_OPTIONS |= dict.fromkeys(("thread_metadata", "tombstones"), _KEYED)


def upgrade() -> None:
    for name, items in _TABLES.items():
        op.create_table(name, *items, **_OPTIONS.get(name, _STRICT))
    op.create_index("threads_by_time", "threads", ["project", "created_at", "seq"])
    op.create_index("messages_by_thread", "messages", ["thread_seq", "seq"])
    has_run = dict.fromkeys(("sqlite_where", "postgresql_where"), sa.text("run_id IS NOT NULL"))
    op.create_index("messages_by_run", "messages", ["thread_seq", "run_id", "seq"], **has_run)
    op.create_index("tombstones_by_age", "tombstones", ["deleted_at"])
    op.create_index("idempotency_by_age", "idempotency", ["created_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(_POSTGRES.read_text())
        return
    for name, definition in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {definition}")
