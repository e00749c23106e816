"""The search over the text of messages."""

from functools import lru_cache

import sqlalchemy as sa

import database
from database import Connection
from rules import refusals

SEARCH_SECONDS = 2
_RARE_MATCHES = 10_000
"""Fewer matches than this are collected and sorted: that is then the faster way."""


def match_expression(q: str) -> str:
    """Return the full-text query for all words of `q`; text in double quotes is one phrase.

    Raises ApiError 400 when there is nothing to search for.
    """
    phrases: list[str] = []
    for index, part in enumerate(q.split('"')):
        phrases += [part] if index % 2 else part.split()
    if not any(phrase.strip() for phrase in phrases):
        raise refusals.nothing_to_search()
    return " ".join(f'"{phrase}"' for phrase in phrases)


def way_to_search(connection: Connection, expression: str) -> str:
    """Return how to search: `rare` collects the matches and sorts them; `common` walks threads,
    newest first, until a page is full. Neither reads the whole table."""
    values = {"q": expression, "most": _RARE_MATCHES}
    count = connection.value(_text(database.current().SEARCHES["count"]), values)
    return "rare" if count < _RARE_MATCHES else "common"


@lru_cache
def _text(sql: str) -> sa.TextClause:
    return sa.text(sql)
