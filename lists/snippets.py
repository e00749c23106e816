"""The messages that a search found in the threads of a page."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa

import database
from database import Connection, Values
from lists.search import SEARCH_SECONDS, match_expression, way_to_search
from lists.summaries import texts_in

# Most threads of a page have messages that stand close together: one pass finds their matches.
_NEAR = """
    SELECT min(messages.seq) AS seq FROM (
        SELECT message_text.rowid AS seq FROM message_text WHERE message_text MATCH :q
            AND message_text.rowid BETWEEN
                (SELECT min((SELECT {end}(seq) FROM messages WHERE thread_seq = page.seq))
                    FROM page)
                AND (SELECT max((SELECT max(seq) FROM messages WHERE thread_seq = page.seq))
                    FROM page)
        LIMIT 300
    ) AS near CROSS JOIN messages ON messages.seq = near.seq
    WHERE messages.thread_seq IN (SELECT seq FROM page) GROUP BY messages.thread_seq
"""
_OF_RARE = """
    SELECT min(messages.seq) AS seq FROM message_text CROSS JOIN messages
    ON messages.seq = message_text.rowid WHERE message_text MATCH :q
    AND messages.thread_seq IN (SELECT seq FROM page) GROUP BY messages.thread_seq
"""
_OF_COMMON = """
    SELECT (SELECT first.seq FROM (SELECT seq FROM messages WHERE thread_seq = page.seq
        ORDER BY seq LIMIT 100) AS first
        CROSS JOIN message_text ON message_text.rowid = first.seq
        WHERE message_text MATCH :q LIMIT 1
    ) AS seq FROM page
"""
_ON_POSTGRES = """
    SELECT (SELECT seq FROM (SELECT seq, message_text FROM messages WHERE thread_seq = page.seq
        ORDER BY seq LIMIT 1000) AS first
        WHERE message_text @@ (SELECT message_query(:q)) ORDER BY seq LIMIT 1
    ) AS seq FROM page
"""
_HITS = """
    WITH page AS MATERIALIZED (SELECT seq FROM threads WHERE project = :project AND id IN ({ids}))
    SELECT threads.id AS thread_id, messages.id, substr(messages.content, 1, 60000) AS content
    FROM ({first}) AS found JOIN messages ON messages.seq = found.seq
    JOIN threads ON threads.seq = messages.thread_seq
"""
Hits = dict[str, "Hit"]


class Hit(NamedTuple):
    """A message that a search found, and the beginning of its text."""

    message_id: str
    text: str


def hits(connection: Connection, project: str, query: Values, ids: Sequence[str]) -> Hits:
    """Return a message of each thread that the search of a list query finds.

    Of a thread whose messages stand far from those of the others, a search for common words looks
    at the first messages alone.
    """
    if not ids or "q" not in query:
        return {}
    values = {"project": project, "q": match_expression(query["q"])}
    with database.current().searching(connection, SEARCH_SECONDS):
        if database.current().FOLDS_TEXT:
            return _hits(connection, _ON_POSTGRES, values, ids)
        end = "max" if query["sort"] == "last_active_at" else "min"
        found = _hits(connection, _NEAR.format(end=end), values, ids)
        if rest := [thread_id for thread_id in ids if thread_id not in found]:
            is_rare = way_to_search(connection, values["q"]) == "rare"
            found |= _hits(connection, _OF_RARE if is_rare else _OF_COMMON, values, rest)
    return found


def _hits(connection: Connection, first: str, values: Values, ids: Sequence[str]) -> Hits:
    named = {f"id{number}": thread_id for number, thread_id in enumerate(ids)}
    rows = connection.rows(_statement(first, len(ids)), {**values, **named})
    return {row.thread_id: Hit(row.id, "\n".join(texts_in(row.content))) for row in rows}


@lru_cache(maxsize=128)
def _statement(first: str, count: int) -> sa.TextClause:
    ids = ", ".join(f":id{number}" for number in range(count))
    return sa.text(_HITS.format(ids=ids, first=first))
