"""Rules of Markdown that leave what is code, a path or mathematics as it is written.

Answers about code hold `2*3*4`, `C:\\new\\_dir\\*.txt`, `__init__.py`, `\\(x\\)` and `&nbsp;`.
Plain Markdown eats some of their signs.
"""

import re
from string import punctuation
from typing import Any
from unicodedata import east_asian_width

from markdown_it import MarkdownIt
from markdown_it.rules_inline.state_inline import Delimiter

_LOST = ("entity", "reference")  # `&nbsp;` would be a blank, `[INFO]: ready` nothing at all
_DUNDER = re.compile(r"__[a-zA-Z0-9]\w*__(?!\w)", re.ASCII)
_SUFFIX = re.compile(r"[./\\][^\W_]")
_ESCAPABLE = frozenset("*_`~#+->|<")
_BEFORE_ESCAPE = frozenset(" \t\n([{\"'*_~`>-")
_GLUE = frozenset("/\\|)]}&+=%@#$^")  # before a `*` that begins no emphasis
_TAIL = frozenset("./\\,;:|)]}")  # after such a `*`


def keep_as_written(renderer: MarkdownIt) -> None:
    """Change the rules of a renderer."""
    renderer.disable([*_LOST])
    renderer.inline.ruler.at("escape", _escape)
    renderer.inline.ruler.at("emphasis", _emphasis)


def _escape(state: Any, silent: bool) -> bool:
    """Drop a backslash that keeps a sign from being Markdown. Any other is text."""
    sign = state.src[state.pos + 1 : state.pos + 2]
    if state.src[state.pos] != "\\" or sign not in punctuation or not sign:
        return False
    if not silent:
        is_escape = sign in _ESCAPABLE and (_begins(state) or _ends(state, sign))
        token = state.push("text_special", "", 0)
        token.markup, token.info = f"\\{sign}", "escape"
        token.content = sign if is_escape else token.markup
        state.env["escaped"] |= {sign} if is_escape else set()
    state.pos += 2
    return True


def _begins(state: Any) -> bool:
    """Return whether a word may begin here: `C:\\_dir` and `a\\*b` are no escapes."""
    return state.pos == 0 or state.src[state.pos - 1] in _BEFORE_ESCAPE


def _ends(state: Any, sign: str) -> bool:
    """Return whether this may end what an escape began: `\\*so\\*`."""
    following = state.src[state.pos + 2 : state.pos + 4]
    return sign in state.env["escaped"] and not (
        following[:1].isalnum() or _SUFFIX.match(following)
    )


def _emphasis(state: Any, silent: bool) -> bool:
    """Take a run of `*` or `_` as markdown-it does, unless it belongs to a word of code."""
    marker = state.src[state.pos]
    if silent or marker not in "*_":
        return False
    if dunder := _DUNDER.match(state.src, state.pos) if marker == "_" else None:
        state.append_pending(dunder[0])
        state.pos = dunder.end()
        return True
    found = state.scanDelims(state.pos, marker == "*")
    end = state.pos + found.length
    before, after = state.src[max(0, state.pos - 1) : state.pos], state.src[end : end + 2]
    can_open = found.can_open and not _is_inside(before, after[:1])
    can_close = found.can_close and not _SUFFIX.match(after)
    for _ in range(found.length):
        state.push("text", "", 0).content = marker
        place = len(state.tokens) - 1
        state.delimiters.append(
            Delimiter(ord(marker), found.length, place, -1, can_open, can_close)
        )
    state.pos = end
    return True


def _is_inside(before: str, after: str) -> bool:
    """Return whether a `*` between two signs is one of `2*3`, `(a)*(b)`, `*.txt`."""
    is_in_word = before.isalnum() and not _is_wide(before + after)
    return is_in_word or before in _GLUE or after in _TAIL


def _is_wide(signs: str) -> bool:
    """Return whether one of the signs is of a script that has no blanks between words."""
    return any(east_asian_width(sign) in "WF" for sign in signs)
