"""the newest second of each list, the objects of stored answers, PostgreSQL's words in one form"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# NFKC first: a letter has one form, in full width too. NFC last: what stays composed is one letter.
_FOLD = r"""
CREATE OR REPLACE FUNCTION message_words(words text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(
    normalize(regexp_replace(normalize(
        translate(lower(normalize(words, NFKC) COLLATE "und-x-icu"), 'ς', 'σ'),
    NFD), '[\u0300-\u036F]+', '', 'g'), NFC),
    '[^[:alnum:]]+', ' ', 'g');
ALTER TABLE messages DROP COLUMN message_text;
ALTER TABLE messages ADD COLUMN message_text tsvector
    GENERATED ALWAYS AS (message_vector(content)) STORED;
CREATE INDEX message_text_words ON messages USING gin (message_text)
    WITH (gin_pending_list_limit = 64);
"""
_IDS = {
    "sqlite": "object = body ->> '$.id',"
    " thread = coalesce(body ->> '$.thread_id', body ->> '$.id')",
    "postgresql": "object = body::json ->> 'id',"
    " thread = coalesce(body::json ->> 'thread_id', body::json ->> 'id')",
}
# Imported threads may be of the future.
_NEWEST = """
    INSERT INTO newest_seconds (project, kind, second)
    SELECT project, 'thread', max(created_at) FROM threads
    WHERE project <> '' AND created_at <= :now GROUP BY project
"""


def upgrade() -> None:
    connection = op.get_bind()
    big = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
    op.create_table(
        "newest_seconds",
        sa.Column("project", sa.Text(), primary_key=True, nullable=False),
        sa.Column("kind", sa.Text(), primary_key=True, nullable=False),
        sa.Column("second", big, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    connection.execute(sa.text(_NEWEST), {"now": int(time.time())})
    for name in ("thread", "object"):
        op.add_column("idempotency", sa.Column(name, sa.Text()))
    ids = _IDS[connection.dialect.name]
    connection.exec_driver_sql(f"UPDATE idempotency SET {ids} WHERE body <> ''")
    op.create_index("idempotency_by_thread", "idempotency", ["project", "thread"])
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_FOLD)
