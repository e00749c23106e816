"""What a transcript offers beside its messages: links, runs, and a reload while one is active."""

from typing import Any

from flask import request, url_for

import database
from admin import sign_in
from database import Connection
from players import pool
from rules.errors import ApiError
from runs import rows, states
from runs.summaries import newest_assistants
from web.request import project

_RELOADS = ("queued", "in_progress", "cancelling")
_KEPT = ("q", "view", "limit", "list")
_PLACES = ("after", "before", "at", "order")


@sign_in.bp.url_defaults
def keep(_: str, values: dict[str, Any]) -> None:
    """Keep the list behind a transcript, the words and the view in each address of its thread."""
    if "thread_id" in values:
        for name in _KEPT:
            if name in request.args:
                values.setdefault(name, request.args[name])


def link(thread_id: str, stays: bool = False, **changes: Any) -> str:
    """Return the address of a page of the transcript; `stays` keeps the messages of this page."""
    names = _KEPT + _PLACES if stays else _KEPT
    kept = {name: request.args[name] for name in names if name in request.args}
    address = {"thread_id": thread_id, "_anchor": kept.get("at")} | kept | changes
    return url_for("admin.thread", **address)


def expire(thread_id: str) -> None:
    """End the active run of a thread if its time is over."""
    with database.read() as connection:
        run = rows.active_run(connection, project(), thread_id)
    if run is not None and states.is_due(run):
        database.write(lambda connection: states.expire_due(connection, project(), thread_id))


def reload(run: Any) -> str:
    """Return when a page without a script loads again, and what; empty unless a run changes."""
    if run["status"] not in _RELOADS:
        return ""
    # A browser that is at an anchor does not load the same address again.
    address = url_for("admin.end", thread_id=run["thread_id"])
    return f"2; url={address}" if "at" in request.args else "2"


def choice(connection: Connection) -> dict[str, Any]:
    """Return what the page offers to run: the newest assistants, or why nothing answers."""
    try:
        pool.current().prepare()
    except ApiError as refusal:
        return {"no_answer": refusal.message}
    return {"assistants": newest_assistants(connection, project())}
