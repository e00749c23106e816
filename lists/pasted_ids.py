"""Threads and messages by an id that is written into the search."""

import re
from typing import NamedTuple

import sqlalchemy as sa

import database
from database import Connection
from lists.search import SEARCH_SECONDS
from models import Message, Thread

_ID = re.compile(r"(thread|msg)_[A-Za-z0-9_-]{1,60}")
_IN_PROJECT = Thread.project == sa.bindparam("project")
_THREAD = sa.select(Thread.id.label("thread_id"), sa.null().label("message_id")).where(
    _IN_PROJECT, Thread.id == sa.bindparam("id")
)
_MESSAGE = (
    sa.select(Thread.id.label("thread_id"), Message.id.label("message_id"))
    .join(Message, Message.thread_seq == Thread.seq)
    .where(_IN_PROJECT, Message.id == sa.bindparam("id"))
    .limit(1)
)


class Found(NamedTuple):
    """A thread, and the message in it that was asked for, if it was one."""

    thread_id: str
    message_id: str | None


def find(connection: Connection, project: str, text: str) -> Found | None:
    """Return what a pasted id names. Raises ApiError 400 when the look takes too long."""
    id_ = text.strip()
    if not _ID.fullmatch(id_):
        return None
    statement = _THREAD if id_.startswith("thread") else _MESSAGE
    with database.current().searching(connection, SEARCH_SECONDS):
        row = connection.row(statement, {"project": project, "id": id_})
    return row and Found(*row)
