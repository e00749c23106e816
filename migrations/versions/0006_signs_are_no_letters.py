"""Index text on SQLite so that newer signs end a word, and no letter keeps an accent.

FTS5's tables of characters are of 2012: emoji and signs of money made since counted as letters,
so that `thanks` did not find "Thanks🙂". Without `remove_diacritics 2` a letter with two accents,
as Vietnamese has them, kept one.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

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
_TOKENIZE = f", tokenize=\"unicode61 remove_diacritics 2 separators '{_SEPARATORS}'\""
_INDEXED = """
    INSERT INTO message_text (rowid, text)
    SELECT seq, (
        SELECT group_concat(value ->> '$.text.value', char(10))
        FROM json_each(content) WHERE value ->> '$.type' = 'text'
    )
    FROM messages WHERE seq <= (SELECT seq / 16 * 16 FROM sqlite_sequence WHERE name = 'messages')
"""


def upgrade() -> None:
    _index(_TOKENIZE)


def downgrade() -> None:
    _index("")


def _index(tokenize: str) -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        return
    connection.exec_driver_sql("DROP TABLE message_text")
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE message_text USING fts5(text, content='', columnsize=0{tokenize})"
    )
    connection.exec_driver_sql(_INDEXED)
