"""Where a page of a transcript stands in its thread, and the messages that a search finds in it."""

from typing import NamedTuple

import sqlalchemy as sa

import database
from database import Connection
from lists.matches import sql_of
from lists.messages import messages_page
from lists.pages import Page, Values, neighbours
from lists.search import SEARCH_SECONDS, match_expression
from models import Message
from rules.errors import ApiError
from store.messages import find_thread_seq

_CURSORS = ("after", "before", "at")
_IN_THREAD = Message.thread_seq == sa.bindparam("thread_seq")
_COUNT = sa.select(sa.func.count()).select_from(Message).where(_IN_THREAD)
_SEQ = sa.select(Message.seq).where(_IN_THREAD, Message.id == sa.bindparam("message_id"))
_EARLIER = _COUNT.where(Message.seq < _SEQ.scalar_subquery())


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


class Place(NamedTuple):
    """The number of messages before a page, and that of all messages of its thread."""

    earlier: int
    total: int


def part_of_thread(connection: Connection, project: str, thread_id: str, query: Values) -> Part:
    """Return the page that a query asks for: the last one without a cursor.

    Raises ApiError 404, and 400 for an unknown cursor.
    """
    if query["order"] == "desc" and not any(name in query for name in _CURSORS):
        page = messages_page(connection, project, thread_id, query)
        return Part(Page(page.objects[::-1], page.has_more), page.has_more, False)
    query = query | {"order": "asc"}
    if at := query.pop("at", None):  # the message may be deleted; half a page precedes it
        lead = {"before": at, "limit": max(1, query["limit"] // 2), "order": "asc"}
        earlier = messages_page(connection, project, thread_id, lead)
        query |= {"after": earlier.objects[0]["id"]} if earlier.has_more else {}
    page = messages_page(connection, project, thread_id, query)
    return Part(page, **neighbours(query, page))


def place_in_thread(
    connection: Connection, project: str, thread_id: str, first: str | None
) -> Place:
    """Return where the page that begins with the message `first` stands. Raises ApiError 404."""
    values = {"thread_seq": find_thread_seq(connection, project, thread_id), "message_id": first}
    earlier = connection.value(_EARLIER, values) if first else 0
    return Place(earlier, connection.value(_COUNT, values))


def next_hits(project: str, thread_id: str, query: Values, last: str | None) -> Values:
    """Return the next message that the search finds (`hit`), and the next after `last` (`beyond`).

    A query that the search refuses gives none; its words are marked all the same.
    """
    if not query.get("q"):
        return {}
    try:
        beyond = _next_hit(project, thread_id, query["q"], last)
        at = query.get("at")
        hit = _next_hit(project, thread_id, query["q"], at) if at else beyond
    except ApiError:
        return {}
    return {"hit": hit, "beyond": beyond}


def _next_hit(project: str, thread_id: str, q: str, after: str | None) -> str | None:
    """Return the id of the first message after another one that a search finds.

    Raises ApiError 400 for a slow search, 404.
    """
    with database.snapshot(is_long=True) as connection:
        values = {
            "thread_seq": find_thread_seq(connection, project, thread_id),
            "message_id": after,
        }
        seq = connection.value(_SEQ, values) if after else 0
        values |= {"q": match_expression(q), "seq": seq or 0}
        with database.current().searching(connection, SEARCH_SECONDS):
            row = connection.row(sa.text(sql_of("next")), values)
    return row.id if row else None
