"""Lists: pages by cursor position, never by offset; filters; search."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from database import Connection
from models import Assistant, Message, Thread, ThreadMetadata
from store import assistants, messages, threads
from store.batches import whole_row
from store.objects import message_object, thread_object
from store.pages import (
    BY_SEQ,
    BY_TIME,
    Page,
    Select,
    Shape,
    Values,
    paged,
    positions,
    rows_of,
    shape_of,
    values_of,
)
from store.search import SEARCH_SECONDS, match_expression, way_to_search

_bound: Any = sa.bindparam
_IS_ORDINARY = sa.func.octet_length(Message.content) <= 120_000
_CONTENT = sa.case((_IS_ORDINARY, Message.content)).label("content")  # a large one is read alone
_LISTED = [*(each for each in messages.COLUMNS if each.name != "content"), _CONTENT]
_IS_MESSAGE = (Message.thread_seq == _bound("thread_seq"), Message.id == _bound("cursor"))
_IS_ASSISTANT = (Assistant.project == _bound("project"), Assistant.id == _bound("cursor"))
_IS_THREAD = (Thread.project == _bound("project"), Thread.id == _bound("cursor"))
_MESSAGE = sa.select(Message.created_at, Message.seq).where(*_IS_MESSAGE)
_ASSISTANT = sa.select(Assistant.created_at, Assistant.seq).where(*_IS_ASSISTANT)
_THREAD = sa.select(Thread.created_at, Thread.seq).where(*_IS_THREAD)


def list_messages(connection: Connection, project: str, thread_id: str, query: Values) -> Page:
    """Return a page of a thread's messages. Raises ApiError 404, and 400 for an unknown cursor."""
    seq = messages.find_thread_seq(connection, project, thread_id)
    shape = shape_of(query, ("run_id",))
    values = values_of(query, shape) | {"project": project, "thread_seq": seq}
    values |= positions(connection, query, values, "message", _MESSAGE)
    rows, has_more = rows_of(connection, _messages_statement(shape), BY_SEQ, shape, values)
    whole = (row if row.content else whole_row(connection, row) for row in rows)
    return Page([message_object(row, thread_id) for row in whole], has_more)


def list_threads(connection: Connection, project: str, query: Values) -> Page:
    """Return a page of threads. Raises ApiError 400 for an unknown cursor or a slow search."""
    shape = shape_of(query, ("created_after", "created_before"))
    values = values_of(query, shape) | {"project": project, "thread_seq": 0}
    values |= positions(connection, query, values, "thread", _THREAD)
    if "q" in query:
        values["q"] = match_expression(query["q"])
        rows, has_more = _search(connection, shape, values)
    else:
        rows, has_more = rows_of(connection, _threads_statement(shape), BY_TIME, shape, values)
    return Page([thread_object(row) for row in rows], has_more)


def list_assistants(connection: Connection, project: str, query: Values) -> Page:
    """Return a page of assistants. Raises ApiError 400 for an unknown cursor."""
    shape = shape_of(query)
    values = values_of(query, shape) | {"project": project, "thread_seq": 0}
    values |= positions(connection, query, values, "assistant", _ASSISTANT)
    rows, has_more = rows_of(connection, _assistants_statement(shape), BY_TIME, shape, values)
    return Page([assistants.listed_object(connection, row) for row in rows], has_more)


def has_pair(project: Any, key: Any, value: Any) -> sa.ColumnElement[bool]:
    """Return the condition that a thread has a metadata pair."""
    other = aliased(ThreadMetadata)
    return sa.exists().where(
        other.project == project,
        other.key == key,
        other.value == value,
        other.created_at == Thread.created_at,
        other.thread_seq == Thread.seq,
    )


@lru_cache(maxsize=64)
def _messages_statement(shape: Shape) -> Select:
    statement = sa.select(*_LISTED).where(Message.thread_seq == _bound("thread_seq"))
    if "run_id" in shape.filters:
        statement = statement.where(Message.run_id == _bound("run_id"))
    return paged(statement, (Message.seq,), shape)


@lru_cache(maxsize=16)
def _assistants_statement(shape: Shape) -> Select:
    statement = sa.select(*assistants.LISTED).where(Assistant.project == _bound("project"))
    return paged(statement, (Assistant.created_at, Assistant.seq), shape)


@lru_cache(maxsize=256)
def _threads_statement(shape: Shape) -> Select:
    statement = sa.select(*threads.COLUMNS)
    place: Sequence[Any] = (Thread.created_at, Thread.seq)
    pairs = [has_pair(_bound("project"), *_pair(number)) for number in range(shape.pairs)]
    # A rare search walks its matches, and states the project itself. Any other list walks the
    # index of its first metadata pair, which is in list order.
    if pairs and shape.search != "rare":
        index = aliased(ThreadMetadata)
        statement = statement.join(index, index.thread_seq == Thread.seq).where(
            index.project == _bound("project"),
            index.key == _bound("key0"),
            index.value == _bound("value0"),
        )
        place = (index.created_at, index.thread_seq)
        del pairs[0]
    elif shape.search != "rare":
        statement = statement.where(Thread.project == _bound("project"))
    if "created_after" in shape.filters:
        statement = statement.where(place[0] > _bound("created_after"))
    if "created_before" in shape.filters:
        statement = statement.where(place[0] < _bound("created_before"))
    return _searched(statement.where(*pairs), place, shape)


def _searched(statement: Select, place: Sequence[Any], shape: Shape) -> Select:
    """Add the search. Its condition may name `page`: the page without the search."""
    if not shape.search:
        return paged(statement, place, shape)
    matches = paged(statement.where(sa.text(shape.condition)), place, shape)
    page = paged(statement.with_only_columns(Thread.seq), place, shape)
    return matches.add_cte(page.cte("page"))


def _pair(number: int) -> tuple[Any, Any]:
    return _bound(f"key{number}"), _bound(f"value{number}")


def _search(connection: Connection, shape: Shape, values: Values) -> tuple[list[Any], bool]:
    engine = database.current()
    with engine.searching(connection, SEARCH_SECONDS):
        way = way_to_search(connection, values["q"])
        shape = shape._replace(search=way, condition=engine.SEARCHES[way])
        return rows_of(connection, _threads_statement(shape), BY_TIME, shape, values)
