"""The search over the text of messages. What a word is: migrations 0006 and 0007."""

from functools import lru_cache

import sqlalchemy as sa

import database
from database import Connection
from rules import refusals
from rules.words import forms

SEARCH_SECONDS = 2
_RARE_MATCHES = 10_000
"""It is faster to collect and sort the matches when there are fewer than this."""


def match_expression(q: str) -> str:
    """Return the query for all words of `q`, and phrases in double quotes. Raises ApiError 400."""
    phrases: list[str] = []
    for index, part in enumerate(q.split('"')):
        phrases += [part] if index % 2 else part.split()
    if not any(phrase.strip() for phrase in phrases):
        raise refusals.nothing_to_search()
    as_written = " ".join(f'"{phrase}"' for phrase in phrases)
    if database.current().FOLDS_TEXT:
        return as_written
    words = [forms(phrase) for phrase in phrases if any(map(str.isalnum, phrase))]
    groups = [" OR ".join(f'"{form}"' for form in group) for group in words]
    return " AND ".join(f"({group})" for group in groups) or as_written


def way_to_search(connection: Connection, expression: str) -> str:
    """Return `rare` to collect and sort all matches, or `common` to walk threads for one page."""
    values = {"q": expression, "most": _RARE_MATCHES}
    count = connection.value(_text(database.current().SEARCHES["count"]), values)
    return "rare" if count < _RARE_MATCHES else "common"


@lru_cache
def _text(sql: str) -> sa.TextClause:
    return sa.text(sql)
