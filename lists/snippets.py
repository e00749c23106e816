"""The messages that a search found in the threads of a page."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

import database
from database import Connection
from lists.search import SEARCH_SECONDS, match_expression, way_to_search
from lists.summaries import texts_in

# The oldest matches of `threads`: by all matches of a rare search, else by a look at messages.
_OF_RARE = """
    SELECT min(messages.seq) AS seq FROM message_text CROSS JOIN messages
    ON messages.seq = message_text.rowid WHERE message_text MATCH :q
    AND messages.thread_seq IN ({threads}) GROUP BY messages.thread_seq
"""
_OF_COMMON = """
    SELECT (SELECT first.seq FROM (SELECT seq FROM messages WHERE thread_seq = page.seq
        ORDER BY seq LIMIT 100) AS first
        CROSS JOIN message_text ON message_text.rowid = first.seq
        WHERE message_text MATCH :q LIMIT 1
    ) AS seq FROM ({threads}) AS page
"""
_ON_POSTGRES = """
    SELECT (SELECT seq FROM (SELECT seq, message_text FROM messages WHERE thread_seq = page.seq
        ORDER BY seq LIMIT 1000) AS first
        WHERE message_text @@ (SELECT message_query(:q)) ORDER BY seq LIMIT 1
    ) AS seq FROM ({threads}) AS page
"""
_HITS = """
    SELECT threads.id AS thread_id, messages.id, substr(messages.content, 1, 60000) AS content
    FROM ({first}) AS found JOIN messages ON messages.seq = found.seq
    JOIN threads ON threads.seq = messages.thread_seq
"""
_THREADS = "SELECT seq FROM threads WHERE project = :project AND id IN ({ids})"


class Hit(NamedTuple):
    """A message that a search found, and the beginning of its text."""

    message_id: str
    text: str


def hits(connection: Connection, project: str, q: str, ids: Sequence[str]) -> dict[str, Hit]:
    """Return the oldest message of each thread that a search finds.

    A search for common words looks at the first messages of a thread alone.
    """
    if not ids:
        return {}
    expression = match_expression(q)
    values: dict[str, Any] = {f"id{number}": thread_id for number, thread_id in enumerate(ids)}
    with database.current().searching(connection, SEARCH_SECONDS):
        first = _ON_POSTGRES
        if not database.current().FOLDS_TEXT:
            is_rare = way_to_search(connection, expression) == "rare"
            first = _OF_RARE if is_rare else _OF_COMMON
        values |= {"project": project, "q": expression}
        rows = connection.rows(_statement(first, len(ids)), values)
    return {row.thread_id: Hit(row.id, "\n".join(texts_in(row.content))) for row in rows}


@lru_cache(maxsize=128)
def _statement(first: str, count: int) -> sa.TextClause:
    threads = _THREADS.format(ids=", ".join(f":id{number}" for number in range(count)))
    return sa.text(_HITS.format(first=first.format(threads=threads)))
