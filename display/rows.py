"""The rows of a list of threads."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from display.snippets import snippet
from display.texts import short
from display.times import ago
from display.titles import headline
from lists.snippets import Hit
from lists.summaries import MAX_COUNTED_MESSAGES, Summary

SHOWN_CHIPS = 4
_LONGEST_LIST = 1_000
"""Servers refuse a long address: a thread opened from a list with longer filters forgets them."""


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
    address: str
    title: str
    snippet: Markup
    run_status: str | None
    messages: str
    time: Markup
    state: str
    chips: list[Chip]
    more: int


def row(
    thread: Mapping[str, Any], summary: Summary, filters: Mapping[str, str], hit: Hit | None = None
) -> Row:
    """Return a decoded thread object as a list with filters shows it."""
    pairs = list(thread["metadata"].items())
    is_by_creation = filters.get("sort") == "created_at"
    return Row(
        thread["id"],
        address_of(thread["id"], hit and hit.message_id, filters),
        headline(summary.text),
        snippet(hit.text, filters["q"]) if hit else Markup(),
        summary.run_status,
        _message_count(summary),
        ago(thread["created_at"] if is_by_creation else summary.last_active_at),
        state(summary),
        [_chip(*pair) for pair in pairs[:SHOWN_CHIPS]],
        max(0, len(pairs) - SHOWN_CHIPS),
    )


def state(summary: Summary) -> str:
    """Return a text that changes with what a row shows of its thread's messages and run."""
    return f"{summary.messages} {summary.last_active_at} {summary.run_status or ''}".strip()


def address_of(thread_id: str, message_id: str | None, filters: Mapping[str, str]) -> str:
    """Return the address of a thread, at a message, that knows the list from which it is opened."""
    behind, q = _list_and_search(tuple(filters.items()))
    if message_id is None:
        return f"/admin/threads/{thread_id}{'?' if behind else ''}{behind}"
    more = "".join(f"&{each}" for each in (q, behind) if each)
    return f"/admin/threads/{thread_id}?at={message_id}{more}#{message_id}"


@lru_cache(maxsize=64)
def _list_and_search(filters: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Return the arguments `list` and `q` of a thread's address."""
    behind, q = urlencode(filters), dict(filters).get("q")
    is_known = 0 < len(behind) <= _LONGEST_LIST
    return urlencode({"list": behind}) if is_known else "", urlencode({"q": q}) if q else ""


@lru_cache(maxsize=1024)
def _chip(key: str, value: str) -> Chip:
    name = f"metadata[{key}]"
    return Chip(key, short(value), f"{key}: {value}", name, urlencode({name: value}))


def _message_count(summary: Summary) -> str:
    """Return the number of a thread's messages; a `+` stands for more."""
    plus = "+" if summary.messages > MAX_COUNTED_MESSAGES else ""
    return f"{min(summary.messages, MAX_COUNTED_MESSAGES):,}{plus}"
