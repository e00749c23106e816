"""The budget of a page."""

import json
from typing import Any

import orjson

from display.texts import short

MAX_MARKDOWN_WORK = 8_000
"""A text that takes more is shown as it is. Ordinary texts take far less."""
CUT_CHARACTERS = 200
_MAX_PRETTY = 20_000


class Budget:
    """What a page may still hold: work of Markdown, characters, parts of messages, and marks."""

    def __init__(self) -> None:
        self.work, self.characters, self.parts = 5 * MAX_MARKDOWN_WORK, 1_000_000, 2_000
        self.marks = 5_000

    def cut(self, text: str) -> str:
        """Return the beginning of a text that is not Markdown, in lines if it is JSON."""
        is_whole = self.characters > 0 and len(text) <= _MAX_PRETTY
        text = _in_lines(text) if is_whole else text
        cut = short(text, _MAX_PRETTY if self.characters > 0 else CUT_CHARACTERS)
        self.characters -= len(text)
        return cut

    def first(self, parts: list[Any]) -> list[Any]:
        """Return the parts of a message, annotations of a part or attachments to be shown."""
        shown_parts = parts[: min(50, self.parts)]
        self.parts -= len(shown_parts)
        return shown_parts


def _in_lines(text: str) -> str:
    """Return a text with line breaks and indents if it is JSON, else as it is."""
    try:
        orjson.loads(text)  # stricter: what json reads may be no Unicode
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
