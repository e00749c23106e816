"""A transcript: the messages of a page, and the runs between them."""

from bisect import bisect_right
from itertools import zip_longest
from typing import Any

from flask import request, url_for

import database
from players import pool
from rules.errors import ApiError
from runs import rows, states
from runs.summaries import newest_assistants
from web.request import project

_RELOADS = ("queued", "in_progress", "cancelling")


def expire(thread_id: str) -> None:
    """End the active run of a thread if its time is over."""
    with database.read() as connection:
        run = rows.active_run(connection, project(), thread_id)
    if run is not None and states.is_due(run):
        database.write(lambda connection: states.expire_due(connection, project(), thread_id))


def entries(messages: list[Any], runs: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return messages and runs in order, each with its kind.

    A run precedes its first message; one without stands by its time, and before any later run.
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
    shown: list[tuple[str, Any]] = []
    for beside, message in zip_longest(before, messages):
        shown += [("run", run) for run in beside]
        shown += [("message", message)] if message else []
    return shown


def reload_headers(run: Any) -> dict[str, str]:
    """Return the headers that load the page again while a run changes by itself."""
    if run["status"] not in _RELOADS:
        return {}
    # A browser that is at an anchor does not load the same address again.
    at_anchor = "at" in request.args
    address = url_for("admin.end", thread_id=run["thread_id"])
    return {"Refresh": f"2; url={address}" if at_anchor else "2"}


def choice(connection: database.Connection) -> dict[str, Any]:
    """Return what the page offers to run: the newest assistants, or why nothing answers."""
    try:
        pool.current().prepare()
    except ApiError as refusal:
        return {"no_answer": refusal.message}
    return {"assistants": newest_assistants(connection, project())}
