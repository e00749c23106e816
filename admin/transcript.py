"""A transcript: which messages a page of it holds, and what is offered beside them."""

from typing import Any, NamedTuple

from flask import request, url_for

import database
from admin.answers import neighbours
from admin.schemas import MESSAGES_A_PAGE
from database import Connection
from lists.messages import messages_page
from lists.pages import Page
from lists.transcripts import next_hit
from players import pool
from rules.errors import ApiError
from runs import rows, states
from runs.summaries import newest_assistants
from web.request import project

_RELOADS = ("queued", "in_progress", "cancelling")
_CURSORS = ("after", "before", "at")
_KEPT = ("q", "view", "limit", "list")


class Part(NamedTuple):
    """A page of messages, oldest first, and whether there are messages before and after it."""

    page: Page
    has_previous: bool
    has_next: bool

    @property
    def ends(self) -> tuple[str | None, str | None]:
        """The ids of the first message and of the last one."""
        ids = [message["id"] for message in self.page.objects]
        return (ids[0], ids[-1]) if ids else (None, None)


def part(connection: Connection, thread_id: str, query: dict[str, Any]) -> Part:
    """Return the page that a query asks for: the last one without a cursor. Raises ApiError 404."""
    if query["order"] == "desc" and not any(name in query for name in _CURSORS):
        page = messages_page(connection, project(), thread_id, query)
        return Part(Page(page.objects[::-1], page.has_more), page.has_more, False)
    query = query | {"order": "asc"}
    if at := query.pop("at", None):  # the message may be deleted; half a page precedes it
        lead = {"before": at, "limit": MESSAGES_A_PAGE // 2, "order": "asc"}
        earlier = messages_page(connection, project(), thread_id, lead)
        query |= {"after": earlier.objects[0]["id"]} if earlier.has_more else {}
    page = messages_page(connection, project(), thread_id, query)
    return Part(page, **neighbours(query, page))


def hits(thread_id: str, query: dict[str, Any], last: str | None) -> dict[str, str | None]:
    """Return the next message with a word of the search, and the next one after this page."""
    if not query.get("q"):
        return {}
    try:
        beyond = next_hit(project(), thread_id, query["q"], last)
        at = query.get("at")
        hit = next_hit(project(), thread_id, query["q"], at) if at else beyond
    except ApiError:  # words that the search refuses are marked all the same
        return {}
    return {"hit": hit, "beyond": beyond}


def link(thread_id: str, stays: bool = False, **changes: Any) -> str:
    """Return the address of a page of the transcript; `stays` keeps the messages of this page."""
    names = (*_KEPT, *_CURSORS, "order") if stays else _KEPT
    kept = {name: request.args[name] for name in names if name in request.args}
    address = {"thread_id": thread_id, "_anchor": kept.get("at")} | kept | changes
    return url_for("admin.thread", **address)


def expire(thread_id: str) -> None:
    """End the active run of a thread if its time is over."""
    with database.read() as connection:
        run = rows.active_run(connection, project(), thread_id)
    if run is not None and states.is_due(run):
        database.write(lambda connection: states.expire_due(connection, project(), thread_id))


def reload_headers(run: Any) -> dict[str, str]:
    """Return the headers that load the page again while a run changes by itself."""
    if run["status"] not in _RELOADS:
        return {}
    # A browser that is at an anchor does not load the same address again.
    at_anchor = "at" in request.args
    address = url_for("admin.end", thread_id=run["thread_id"])
    return {"Refresh": f"2; url={address}" if at_anchor else "2"}


def choice(connection: Connection) -> dict[str, Any]:
    """Return what the page offers to run: the newest assistants, or why nothing answers."""
    try:
        pool.current().prepare()
    except ApiError as refusal:
        return {"no_answer": refusal.message}
    return {"assistants": newest_assistants(connection, project())}
