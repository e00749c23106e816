"""The entries of a transcript: messages, the runs between them, and the days."""

from bisect import bisect_right
from itertools import zip_longest
from typing import Any

_DAY_SECONDS = 86_400
Entry = tuple[str, Any]


def entries(messages: list[Any], runs: list[dict[str, Any]]) -> list[Entry]:
    """Return messages and runs in order, each with its kind, and each day before its entries.

    A run precedes its first message; one without any stands by its time, and before later runs.
    """
    first: dict[str, int] = {}
    for number, message in enumerate(messages):
        first.setdefault(message["run_id"], number)
    times = [message["created_at"] for message in messages]
    before: list[list[Any]] = [[] for _ in range(len(messages) + 1)]
    place = len(messages)
    for run in reversed(runs):
        place = first.get(run["id"], min(place, bisect_right(times, run["created_at"])))
        before[place].insert(0, run)
    shown: list[Entry] = []
    for beside, message in zip_longest(before, messages):
        shown += [("run", run) for run in beside]
        shown += [("message", message)] if message else []
    return _with_days(shown)


def _with_days(shown: list[Entry]) -> list[Entry]:
    """Return entries with the second of the first one of each day before it."""
    days: list[Entry] = []
    last = None
    for kind, entry in shown:
        second = entry["created_at"]
        if second // _DAY_SECONDS != last:
            days.append(("day", second))
        last = second // _DAY_SECONDS
        days.append((kind, entry))
    return days
