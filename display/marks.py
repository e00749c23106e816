"""The words of a search in a text: where they are, and how they are marked."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from unicodedata import normalize

from markupsafe import Markup, escape

Places = Sequence[tuple[int, int]]
"""The start and the end of each match, in order. No two overlap."""
_WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f\u3099\u309a])+")
_ACCENTS = re.compile(r"[\u0300-\u036f]+")
_MOST_PHRASES = 20
_FREE_LOOKS = 200
"""The words that are compared in any text, besides one for two of its characters."""
_MARK = Markup("<mark>%s</mark>")


class _Phrase(NamedTuple):
    words: tuple[str, ...]
    is_beginning: bool


def places(text: str, q: str) -> list[tuple[int, int]]:
    """Return where the words and phrases of a search are in a text, as the search finds them."""
    phrases = _phrases(q)
    firsts = tuple(phrase.words[0] for phrase in phrases)
    spans = [match.span() for match in _WORD.finditer(text)] if phrases else []
    words = [_folded(text[start:end]) for start, end in spans]
    found: list[tuple[int, int]] = []
    number, looks = 0, _FREE_LOOKS + len(text) // 2
    while number < len(words) and looks > 0:
        near = phrases if words[number].startswith(firsts) else ()
        looks -= sum(len(phrase.words) for phrase in near)
        length = max((_length(words, number, phrase) for phrase in near), default=0)
        if length:
            found.append((spans[number][0], spans[number + length - 1][1]))
        number += length or 1
    return found


def marked(text: str, places: Places, most: int) -> Markup:
    """Return the HTML of a text with its first `most` places in <mark>."""
    pieces: list[Markup] = []
    done = 0
    for start, end in places[:most]:
        pieces += [escape(text[done:start]), _MARK % text[start:end]]
        done = end
    return Markup("").join([*pieces, escape(text[done:])])


def parts_of(places: Places, lengths: Iterable[int]) -> list[list[tuple[int, int]]]:
    """Return the places in each part of a text that is cut into parts of these lengths."""
    parts, start = [], 0
    for length in lengths:
        end = start + length
        first = bisect_left(places, start + 1, key=lambda place: place[1])
        last = bisect_left(places, end, key=lambda place: place[0])
        inside = [
            (max(a, start) - start, min(b, end) - start) for a, b in places[first:last] if length
        ]
        parts.append(inside)
        start = end
    return parts


@lru_cache(maxsize=64)
def _phrases(q: str) -> tuple[_Phrase, ...]:
    """Return the first phrases of a search: words, and what stands in double quotes."""
    phrases = []
    for number, part in enumerate(q.split('"')):
        for phrase in [part] if number % 2 else part.split():
            words = tuple(map(_folded, _WORD.findall(phrase)))
            is_beginning = not number % 2 and phrase.endswith("*")
            phrases += [_Phrase(words, is_beginning)] if words else []
    return tuple(dict.fromkeys(phrases))[:_MOST_PHRASES]


def _length(words: list[str], first: int, phrase: _Phrase) -> int:
    """Return the number of words that a phrase has here, 0 if it is not here."""
    here = tuple(words[first : first + len(phrase.words)])
    if here == phrase.words:
        return len(here)
    is_begun = phrase.is_beginning and len(here) == len(phrase.words)
    is_begun = is_begun and here[:-1] == phrase.words[:-1]
    return len(here) if is_begun and here[-1].startswith(phrase.words[-1]) else 0


@lru_cache(maxsize=8192)
def _folded(word: str) -> str:
    """Return a word without case, accents and width: all that the search does not tell apart."""
    if word.isascii():
        return word.lower()
    apart = normalize("NFD", normalize("NFKC", word).lower())
    return normalize("NFC", _ACCENTS.sub("", apart)).replace("ς", "σ")
