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
# On PostgreSQL words are what FTS5 takes for words: runs of letters and digits, in any case and
# without accents. A tsvector holds 1 MiB: of a text with more words, the first are found.
_POSTGRES = r"""
CREATE FUNCTION message_words(words text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(
    regexp_replace(
        normalize(lower(words COLLATE "und-x-icu"), NFD), '[\u0300-\u036F]+', '', 'g'),
    '[^[:alnum:]]+', ' ', 'g');

CREATE FUNCTION message_query(q text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(
        nullif(phraseto_tsquery('simple', message_words(phrase))::text, ''), ' & ')::tsquery
    FROM unnest(string_to_array(q, '"')) AS phrase);

CREATE FUNCTION message_vector(content text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
DECLARE
    words text := message_words(string_agg(part -> 'text' ->> 'value', ' '))
        FROM json_array_elements(content::json) AS part WHERE part ->> 'type' = 'text';
BEGIN
    RETURN to_tsvector('simple', words);
EXCEPTION WHEN program_limit_exceeded THEN
    RETURN to_tsvector('simple', left(words, 100000));
END $$;

ALTER TABLE messages ADD COLUMN message_text tsvector
    GENERATED ALWAYS AS (message_vector(content)) STORED;
CREATE INDEX message_text_words ON messages USING gin (message_text);

CREATE FUNCTION keep_pairs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM thread_metadata USING json_each_text(OLD.metadata::json) AS pair
        WHERE project = OLD.project AND thread_metadata.key = pair.key
            AND thread_metadata.value = pair.value
            AND created_at = OLD.created_at AND thread_seq = OLD.seq;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO thread_metadata (project, key, value, created_at, thread_seq)
        SELECT NEW.project, key, value, NEW.created_at, NEW.seq
        FROM json_each_text(NEW.metadata::json);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER threads_metadata AFTER INSERT OR UPDATE OF metadata OR DELETE ON threads
    FOR EACH ROW EXECUTE FUNCTION keep_pairs();
"""
_POSTGRES_DOWN = """
DROP TRIGGER threads_metadata ON threads;
DROP FUNCTION keep_pairs;
ALTER TABLE messages DROP COLUMN message_text;
DROP FUNCTION message_vector, message_query, message_words;
"""


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
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(_POSTGRES)
    else:
        _index_in_sqlite()
    op.execute("UPDATE threads SET metadata = metadata")


def _index_in_sqlite() -> None:
    op.execute("CREATE VIRTUAL TABLE message_text USING fts5(text, content='', columnsize=0)")
    for name, definition in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {definition}")
    op.execute(
        "INSERT INTO message_text (rowid, text) "
        f"SELECT seq, ({_TEXTS.format(row='messages')}) FROM messages"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(_POSTGRES_DOWN)
    else:
        for name in _TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
        op.drop_table("message_text")
    op.drop_index("messages_by_run", "messages")
    for table in ("thread_metadata", "tombstones"):
        op.drop_table(table)
