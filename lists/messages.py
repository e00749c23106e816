"""The messages of a thread, in pages."""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from database import Connection
from lists.pages import BY_SEQ, Listing, Page, Select, Shape, Values, paged, with_size
from models import Message
from store import messages
from store.batches import whole_row
from store.objects import message_object

_bound: Any = sa.bindparam
_bytes: Any = sa.func.octet_length
_SIZE = _bytes(Message.content) + _bytes(Message.attachments) + _bytes(Message.metadata_)
_COLUMNS = [each for each in messages.COLUMNS if each.name != "thread_seq"]
_LISTED = with_size(_COLUMNS, _SIZE, ("content",))
_IS_MESSAGE = (Message.thread_seq == _bound("thread_seq"), Message.id == _bound("cursor"))
_PLACE = sa.select(Message.created_at, Message.seq).where(*_IS_MESSAGE)


def messages_page(connection: Connection, project: str, thread_id: str, query: Values) -> Page:
    """Return a page of a thread's messages. Raises ApiError 404, and 400 for an unknown cursor."""
    of_seq = messages.find_thread_seq(connection, project, thread_id)
    rows, has_more = _LIST.rows(connection, query, project=project, thread_seq=of_seq)
    objects = [
        message_object(row if row.content else whole_row(connection, of_seq, row.seq), thread_id)
        for row in rows
    ]
    return Page(objects, has_more)


@lru_cache(maxsize=64)
def _statement(shape: Shape) -> Select:
    statement = sa.select(*_LISTED).where(Message.thread_seq == _bound("thread_seq"))
    if "run_id" in shape.filters:
        statement = statement.where(Message.run_id == _bound("run_id"))
    return paged(statement, (Message.seq,), shape)


_LIST = Listing("message", _PLACE, BY_SEQ, _statement, ("run_id",))
