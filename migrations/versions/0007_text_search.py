"""the text search of SQLite: each message is indexed as it is stored

FTS5 knows the characters of 2012. The separators are newer signs, so that `thanks` finds
"Thanks🙂". Without `remove_diacritics 2` a letter with two accents keeps one.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_SIGNS = (
    "2066-2069 20BA-20CF 23F4-23FF 2700-2700 2B4D-2BFF 2E3C-2E7F"
    " 1F000-1F0FF 1F16C-1F16F 1F19B-1F1AD 1F260-1F265 1F300-1FBEF"
)
_RANGES = [[int(end, 16) for end in signs.split("-")] for signs in _SIGNS.split()]
_SEPARATORS = "".join(chr(sign) for first, last in _RANGES for sign in range(first, last + 1))
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
# A database from before this revision has indexed its messages in groups of sixteen.
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
