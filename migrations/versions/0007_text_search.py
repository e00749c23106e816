"""the text search of SQLite: each message is indexed as it is stored

The tables of characters in FTS5 are of 2012. The separators are newer signs, so that `thanks`
finds "Thanks🙂". Without `remove_diacritics 2` a letter with two accents would keep one.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_SIGNS = (
    (0x2066, 0x2069),
    (0x20BA, 0x20CF),
    (0x23F4, 0x23FF),
    (0x2700, 0x2700),
    (0x2B4D, 0x2BFF),
    (0x2E3C, 0x2E7F),
    (0x1F000, 0x1F0FF),
    (0x1F16C, 0x1F16F),
    (0x1F19B, 0x1F1AD),
    (0x1F260, 0x1F265),
    (0x1F300, 0x1FBEF),
)
_SEPARATORS = "".join(chr(sign) for first, last in _SIGNS for sign in range(first, last + 1))
_TOKENIZER = f"unicode61 remove_diacritics 2 separators '{_SEPARATORS}'"
_TEXT = """(
    SELECT group_concat(value ->> '$.text.value', char(10))
    FROM json_each({row}.content) WHERE value ->> '$.type' = 'text'
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
# A database that was made before this revision has indexed its messages by sixteens.
_INDEX_REST = f"""
    INSERT INTO message_text (rowid, text) SELECT seq, {_TEXT.format(row="messages")} FROM messages
    WHERE seq > (SELECT seq / 16 * 16 FROM sqlite_sequence WHERE name = 'messages')
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        return
    connection.exec_driver_sql(
        "CREATE VIRTUAL TABLE IF NOT EXISTS message_text"
        f" USING fts5(text, content='', columnsize=0, tokenize=\"{_TOKENIZER}\")"
    )
    connection.exec_driver_sql(_INDEX_REST)
    for name, definition in _TRIGGERS.items():
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {definition}")
