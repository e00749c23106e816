"""Where a page of a transcript stands in its thread, and the messages that a search finds in it."""

from typing import NamedTuple

import sqlalchemy as sa

import database
from database import Connection
from lists.matches import sql_of
from lists.search import SEARCH_SECONDS, match_expression
from models import Message
from store.messages import find_thread_seq

_IN_THREAD = Message.thread_seq == sa.bindparam("thread_seq")
_COUNT = sa.select(sa.func.count()).select_from(Message).where(_IN_THREAD)
_SEQ = sa.select(Message.seq).where(_IN_THREAD, Message.id == sa.bindparam("message_id"))
_EARLIER = _COUNT.where(Message.seq < _SEQ.scalar_subquery())


class Place(NamedTuple):
    """The number of messages before a page, and that of all messages of its thread."""

    earlier: int
    total: int


def place_in_thread(
    connection: Connection, project: str, thread_id: str, first: str | None
) -> Place:
    """Return where the page that begins with the message `first` stands. Raises ApiError 404."""
    values = {"thread_seq": find_thread_seq(connection, project, thread_id), "message_id": first}
    earlier = connection.value(_EARLIER, values) if first else 0
    return Place(earlier, connection.value(_COUNT, values))


def next_hit(project: str, thread_id: str, q: str, after: str | None) -> str | None:
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
