"""the last activity of threads; searches for the beginning of a word; triggers of less memory"""

import sqlalchemy as sa
from alembic import op

from cli.options import progress

revision = "0012"
down_revision = "0011"

_BIG = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_THREADS_AT_ONCE = 5_000
_NEWEST = "(SELECT {} FROM messages WHERE thread_seq = threads.seq ORDER BY seq DESC LIMIT 1)"
# In one second the thread with the newest message comes last.
_FILL = f"""
    UPDATE threads SET touch = coalesce({_NEWEST.format("seq")}, 0), last_active_at =
        (SELECT max(second) FROM (SELECT threads.created_at AS second
            UNION ALL SELECT {_NEWEST.format("created_at")}) AS seconds)
    WHERE seq BETWEEN :first AND :last
"""
_TEXT = """(
    SELECT group_concat(atom, char(10)) FROM json_tree({row}.content)
    WHERE key = 'value' AND fullkey GLOB '$[[]*].text.value'
)"""
_ADD = "INSERT INTO message_text (rowid, text) VALUES (NEW.seq, " + _TEXT.format(row="NEW") + ");"
_REMOVE = f"""
    INSERT INTO message_text (message_text, rowid, text)
    VALUES ('delete', OLD.seq, {_TEXT.format(row="OLD")});
"""
_TRIGGERS = {
    "messages_insert": f"AFTER INSERT ON messages BEGIN {_ADD} END",
    "messages_update": f"AFTER UPDATE OF content ON messages BEGIN {_REMOVE} {_ADD} END",
    "messages_delete": f"AFTER DELETE ON messages BEGIN {_REMOVE} END",
}
# A phrase that ends with a star ends with the beginning of a word.
_QUERY = """
CREATE OR REPLACE FUNCTION message_query(q text) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(
        nullif(phraseto_tsquery('simple', message_words(phrase))::text, '')
        || CASE WHEN right(phrase, 1) = '*' THEN ':*' ELSE '' END, ' & ')::tsquery
    FROM unnest(string_to_array(q, '"')) AS phrase)
"""


def upgrade() -> None:
    connection = op.get_bind()
    for name in ("last_active_at", "touch"):
        op.add_column("threads", sa.Column(name, _BIG, nullable=False, server_default="0"))
        op.add_column("tombstones", sa.Column(name, _BIG))
    _fill(connection)
    columns = ["project", "last_active_at", "touch", "seq"]
    op.create_index("threads_by_activity", "threads", columns)
    op.execute("UPDATE tombstones SET last_active_at = created_at, touch = 0 WHERE thread_seq = 0")
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_QUERY)
        return
    for name, definition in _TRIGGERS.items():
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {definition}")


def _fill(connection: sa.Connection) -> None:
    """Set the columns of all threads, and tell how far that is."""
    count, last = connection.execute(sa.text("SELECT count(*), max(seq) FROM threads")).one()
    if not count:
        return
    with progress("Upgraded", "threads", count) as step:
        for first in range(0, last + 1, _THREADS_AT_ONCE):
            values = {"first": first, "last": first + _THREADS_AT_ONCE - 1}
            step(connection.execute(sa.text(_FILL), values).rowcount)
