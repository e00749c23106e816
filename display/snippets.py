"""The line of a message that a search found, with the words marked."""

import re
from collections.abc import Iterator
from functools import lru_cache

from markupsafe import Markup

from display.marks import marked, places
from lists.search import phrases_of

_BEFORE, _AFTER = 50, 130
"""The characters of a long line that are shown before the first word and behind it."""
_MOST_LOOKS = 20
_MOST_MARKS = 20
_READ_CHARACTERS = 4_000
_WORD = re.compile(r"[^\W_]+")


def snippet(text: str, q: str) -> Markup:
    """Return the first line in which a word of a search stands."""
    for place in _likely_places(text, q):
        if line := _marked(_line_at(text, place), q):
            return line
    return marked(_line_at(text, 0), [], 0)


@lru_cache(maxsize=1024)
def _marked(line: str, q: str) -> Markup:
    """Return a line with the words of a search marked, an empty text if it has none."""
    found = places(line, q)
    return marked(line, found, _MOST_MARKS) if found else Markup()


def beginnings(q: str) -> str:
    """Return a search for what the words of `q` begin, empty if it is one, or has phrases."""
    words = [word if word.endswith("*") else f"{word}*" for word in q.split()]
    return "" if '"' in q or words == q.split() else " ".join(words)


def _likely_places(text: str, q: str) -> Iterator[int]:
    """Yield where a word of the search may stand: exactly written first, for that is fast."""
    matches = _words(q).finditer(text)
    yield from (match.start() for match, _ in zip(matches, range(_MOST_LOOKS), strict=False))
    yield from (start for start, _ in places(text[:_READ_CHARACTERS], q)[:1])


@lru_cache(maxsize=64)
def _words(q: str) -> re.Pattern[str]:
    words = [word for text, _ in phrases_of(q) for word in _WORD.findall(text)]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, words)) or '(?!)'})", re.IGNORECASE)


def _line_at(text: str, place: int) -> str:
    """Return the line around a place; of a long line the words near it."""
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    end = len(text) if end < 0 else end
    first = start if place - start <= _BEFORE else place - _BEFORE
    last = end if end - place <= _AFTER else place + _AFTER
    line = text[first:last]
    if first > start:
        line = f"…{line.partition(' ')[2] or line}"
    return f"{line.rpartition(' ')[0] or line}…" if last < end else line
