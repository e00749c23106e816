"""The search over the text of messages. What a word is: migrations 0006, 0007 and 0012."""

import re
from functools import lru_cache
from typing import NamedTuple
from unicodedata import combining, normalize

import sqlalchemy as sa

import database
from database import Connection
from lists.matches import sql_of
from rules import refusals
from rules.words import forms

SEARCH_SECONDS = 2
_SHORTEST_BEGINNING = 2
"""One letter begins too many words."""
_WORD = re.compile(r"[^\W_]+")
_RARE_MATCHES = 10_000
"""It is faster to collect and sort the matches when there are no more than this."""
_RARE_BEGINNINGS = 500_000
"""The same on SQLite for beginnings of words: each look for one gathers all words that have it."""


class Phrase(NamedTuple):
    """Words that stand together. With a star, any word may end what the last one begins."""

    text: str
    star: str = ""


def match_expression(q: str) -> str:
    """Return the query for all phrases of `q`. Raises ApiError 400."""
    return _match_expression(q, database.current().FOLDS_TEXT)


@lru_cache(maxsize=128)
def _match_expression(q: str, database_folds: bool) -> str:
    phrases = phrases_of(q)
    if not any(phrase.text.strip() for phrase in phrases):
        raise refusals.nothing_to_search()
    as_written = " ".join(f'"{text}{star}"' for text, star in phrases)
    if database_folds:
        return as_written
    words = [phrase for phrase in phrases if any(map(str.isalnum, phrase.text))]
    groups = [" OR ".join(f'"{form}"{star}' for form in forms(text)) for text, star in words]
    return " AND ".join(f"({group})" for group in groups) or as_written


def phrases_of(q: str) -> list[Phrase]:
    """Return the words of `q`, and its phrases in double quotes. Raises ApiError 400."""
    phrases: list[Phrase] = []
    for index, part in enumerate(q.split('"')):
        phrases += [Phrase(part)] if index % 2 else map(_phrase, part.split())
    return [phrase._replace(text=phrase.text.replace("*", " ")) for phrase in phrases]


def _phrase(word: str) -> Phrase:
    """Return a word as a phrase; a star at its end makes it a beginning. Raises ApiError 400."""
    plain = "".join(sign for sign in normalize("NFKC", word) if not combining(sign))
    if not word.endswith("*") or not (words := _WORD.findall(plain)):
        return Phrase(word)
    if len(words[-1]) < _SHORTEST_BEGINNING:
        raise refusals.short_beginning(_SHORTEST_BEGINNING)
    return Phrase(word, "*")


def way_to_search(connection: Connection, expression: str) -> str:
    """Return `rare` to collect and sort all matches, or `common` to walk threads for one page."""
    is_slow_to_look_for = "*" in expression and not database.current().FOLDS_TEXT
    most = _RARE_BEGINNINGS if is_slow_to_look_for else _RARE_MATCHES
    is_common = connection.value(_text(sql_of("many")), {"q": expression, "most": most})
    return "common" if is_common else "rare"


@lru_cache
def _text(sql: str) -> sa.TextClause:
    return sa.text(sql)
