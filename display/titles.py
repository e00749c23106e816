"""The headline of a conversation: the first line of its first text, without marks of Markdown."""

import re
from functools import lru_cache

from display.texts import short

_MOST_CHARACTERS = 120
_READ_CHARACTERS = 400
_MOST_LINES = 10
_NO_WORDS = re.compile(r"```.*|~~~.*|\W*")  # of a line without blanks around it
_BEGINNING = re.compile(r"\A(\s*(#{1,6}|>|[-*+])\s+(\[[ x]\]\s+)?)+")
_LINK = re.compile(r"!?\[([^\[\]]+)\]\([^()\s]*\)")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
# Marks enclose words: the stars of 2*3*4 and the bars of __init__.py belong to the text.
_STARS = re.compile(r"(?<![\w*\\])(\*{1,3}|~~)(?=[^\s*~])(.+?)(?<=[^\s*~\\])\1(?![\w*])")
_BARS = re.compile(r"(?<![\w\\])(_{1,2})(?=[^\s_])([^_]*[^\w][^_]*)(?<=[^\s_\\])\1(?!\w)")


def headline(text: str) -> str:
    """Return the first line that has a word, without marks; of another text its first line."""
    return _headline(text[: _READ_CHARACTERS * _MOST_LINES])


@lru_cache(maxsize=1024)
def _headline(text: str) -> str:
    lines = [line.strip() for line in text.strip().split("\n", _MOST_LINES)[:_MOST_LINES]]
    line = next((line for line in lines if not _NO_WORDS.fullmatch(line)), lines[0])
    return short(" ".join(_without_marks(line[:_READ_CHARACTERS]).split()), _MOST_CHARACTERS)


def _without_marks(line: str) -> str:
    """Return a line of Markdown as words. What stands in backticks has no marks."""
    line = _LINK.sub(r"\1", _BEGINNING.sub("", line))
    codes = [code[2].strip() for code in _CODE.finditer(line)]
    line = _CODE.sub("\0", line)  # no stored text has it
    for marks in (_STARS, _STARS, _BARS):
        line = marks.sub(r"\2", line)
    rest = iter(codes)
    return re.sub("\0", lambda _: next(rest), line)
