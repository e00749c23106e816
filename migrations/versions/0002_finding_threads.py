"""finding threads: metadata index, text search, tombstones, messages of a run

The metadata index and the text search are kept by triggers, so no writer can forget them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_TEXTS = """
    SELECT group_concat(value ->> '$.text.value', char(10))
    FROM json_each({row}.content) WHERE value ->> '$.type' = 'text'
"""
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
_TRIGGERS = {
    "threads_insert": f"AFTER INSERT ON threads BEGIN {_ADD_PAIRS} END",
    "threads_update": f"AFTER UPDATE OF metadata ON threads BEGIN {_REMOVE_PAIRS} {_ADD_PAIRS} END",
    "threads_delete": f"AFTER DELETE ON threads BEGIN {_REMOVE_PAIRS} END",
    "messages_insert": f"""AFTER INSERT ON messages BEGIN
        INSERT INTO message_text (rowid, text) VALUES (NEW.seq, ({_TEXTS.format(row="NEW")}));
    END""",
    "messages_delete": f"""AFTER DELETE ON messages BEGIN
        INSERT INTO message_text (message_text, rowid, text)
        VALUES ('delete', OLD.seq, ({_TEXTS.format(row="OLD")}));
    END""",
}


def upgrade() -> None:
    op.create_table(
        "thread_metadata",
        sa.Column("project", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), primary_key=True),
        sa.Column("created_at", _INTEGER, primary_key=True),
        sa.Column("thread_seq", _INTEGER, primary_key=True),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "tombstones",
        sa.Column("project", sa.Text(), primary_key=True),
        sa.Column("thread_seq", _INTEGER, primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("created_at", _INTEGER, nullable=False),
        sa.Column("seq", _INTEGER, nullable=False),
        sa.Column("deleted_at", _INTEGER, nullable=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index("tombstones_by_age", "tombstones", ["deleted_at"])
    of_a_run = sa.text("run_id IS NOT NULL")
    op.create_index(
        "messages_by_run",
        "messages",
        ["thread_seq", "run_id", "seq"],
        sqlite_where=of_a_run,
        postgresql_where=of_a_run,
    )
    op.execute("CREATE VIRTUAL TABLE message_text USING fts5(text, content='', columnsize=0)")
    for name, definition in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {definition}")
    op.execute("UPDATE threads SET metadata = metadata")
    op.execute(
        "INSERT INTO message_text (rowid, text) "
        f"SELECT seq, ({_TEXTS.format(row='messages')}) FROM messages"
    )


def downgrade() -> None:
    for name in _TRIGGERS:
        op.execute(f"DROP TRIGGER {name}")
    op.drop_index("messages_by_run", "messages")
    for table in ("message_text", "thread_metadata", "tombstones"):
        op.drop_table(table)
