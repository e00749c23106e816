"""The rows of a list of threads."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from display.texts import short
from display.times import ago
from display.titles import title
from lists.summaries import MAX_COUNTED_MESSAGES, Summary

SHOWN_CHIPS = 4


class Chip(NamedTuple):
    """A metadata pair in a list. `query` filters by it, and `name` is its argument."""

    key: str
    value: str
    title: str
    name: str
    query: str


class Row(NamedTuple):
    """A thread in a list; `chips` are its first pairs of metadata, `more` counts the others."""

    id: str
    title: str
    run_status: str | None
    messages: str
    active: Markup
    chips: list[Chip]
    more: int


def row(thread: Mapping[str, Any], summary: Summary) -> Row:
    """Return a decoded thread object as a list shows it."""
    pairs = list(thread["metadata"].items())
    active = ago(summary.last_active_at)
    chips = [_chip(*pair) for pair in pairs[:SHOWN_CHIPS]]
    more = max(0, len(pairs) - SHOWN_CHIPS)
    counted = message_count(summary)
    return Row(thread["id"], headline(summary), summary.run_status, counted, active, chips, more)


@lru_cache(maxsize=1024)
def _chip(key: str, value: str) -> Chip:
    name = f"metadata[{key}]"
    return Chip(key, short(value), f"{key}: {value}", name, urlencode({name: value}))


def headline(summary: Summary) -> str:
    """Return the title of a thread."""
    return title(summary.text)


def message_count(summary: Summary) -> str:
    """Return the number of a thread's messages; a `+` stands for more."""
    plus = "+" if summary.messages > MAX_COUNTED_MESSAGES else ""
    return f"{min(summary.messages, MAX_COUNTED_MESSAGES):,}{plus}"
