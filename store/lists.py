"""Lists: pages by cursor position, never by offset; filters; search."""

from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from database import Connection
from models import Assistant, Message, Thread, ThreadMetadata
from rules import refusals
from store import assistants, messages, threads
from store.batches import SIZE_OF, fitting, whole_row
from store.objects import Object, message_object, thread_object
from store.search import SEARCH_SECONDS, match_expression, way_to_search
from store.tombstones import place_of

_Select = sa.Select[*tuple[Any, ...]]
_Values = dict[str, Any]
_bound: Any = sa.bindparam
_BY_TIME = attrgetter("created_at", "seq")  # imported threads keep their place in time
_BY_SEQ = attrgetter("seq")  # a clock that jumps does not change the order of messages
MAX_PAGE_BYTES = 16_000_000
_OBJECT_BYTES = 600  # the keys, ids and numbers of an object
_IS_ORDINARY = sa.func.octet_length(Message.content) <= 120_000
_CONTENT = sa.case((_IS_ORDINARY, Message.content)).label("content")  # a large one is read alone
_LISTED = [*(each for each in messages.COLUMNS if each.name != "content"), _CONTENT]


class Page(NamedTuple):
    """Objects in the order of the query, and whether more follow in its direction."""

    objects: list[Object]
    has_more: bool


class _Shape(NamedTuple):
    """A list query without its values. Its SQL is built once."""

    ascending: bool
    after: bool
    before: bool
    filters: tuple[str, ...] = ()
    pairs: int = 0
    search: str = ""
    condition: str = ""

    @property
    def is_backwards(self) -> bool:
        """Whether the page ends right before the cursor, with `before` alone."""
        return self.before and not self.after


def list_messages(connection: Connection, project: str, thread_id: str, query: _Values) -> Page:
    """Return a page of a thread's messages. Raises ApiError 404, and 400 for an unknown cursor."""
    seq = messages.find_thread_seq(connection, project, thread_id)
    shape = _shape(query, ("run_id",))
    values = _values(query, shape) | {"project": project, "thread_seq": seq}
    values |= _positions(connection, query, values, "message")
    rows, has_more = _page(connection, _messages_statement(shape), _BY_SEQ, shape, values)
    whole = (row if row.content else whole_row(connection, row) for row in rows)
    return Page([message_object(row, thread_id) for row in whole], has_more)


def list_threads(connection: Connection, project: str, query: _Values) -> Page:
    """Return a page of threads. Raises ApiError 400 for an unknown cursor or a slow search."""
    shape = _shape(query, ("created_after", "created_before"))
    values = _values(query, shape) | {"project": project, "thread_seq": 0}
    values |= _positions(connection, query, values, "thread")
    if "q" in query:
        values["q"] = match_expression(query["q"])
        rows, has_more = _search(connection, shape, values)
    else:
        rows, has_more = _page(connection, _threads_statement(shape), _BY_TIME, shape, values)
    return Page([thread_object(row) for row in rows], has_more)


def list_assistants(connection: Connection, project: str, query: _Values) -> Page:
    """Return a page of assistants. Raises ApiError 400 for an unknown cursor."""
    shape = _shape(query, ())
    values = _values(query, shape) | {"project": project, "thread_seq": 0}
    values |= _positions(connection, query, values, "assistant")
    rows, has_more = _page(connection, _assistants_statement(shape), _BY_TIME, shape, values)
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


def _shape(query: _Values, filters: tuple[str, ...]) -> _Shape:
    present = tuple(name for name in filters if name in query)
    pairs = len(query.get("metadata") or ())
    return _Shape(query["order"] == "asc", "after" in query, "before" in query, present, pairs)


def _values(query: _Values, shape: _Shape) -> _Values:
    values = {"limit": query["limit"] + 1} | {name: query[name] for name in shape.filters}
    for number, (key, value) in enumerate((query.get("metadata") or {}).items()):
        values |= {f"key{number}": key, f"value{number}": value}
    return values


@lru_cache(maxsize=64)
def _messages_statement(shape: _Shape) -> _Select:
    statement = sa.select(*_LISTED).where(Message.thread_seq == _bound("thread_seq"))
    if "run_id" in shape.filters:
        statement = statement.where(Message.run_id == _bound("run_id"))
    return _paged(statement, (Message.seq,), shape)


@lru_cache(maxsize=16)
def _assistants_statement(shape: _Shape) -> _Select:
    statement = sa.select(*assistants.LISTED).where(Assistant.project == _bound("project"))
    return _paged(statement, (Assistant.created_at, Assistant.seq), shape)


@lru_cache(maxsize=256)
def _threads_statement(shape: _Shape) -> _Select:
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


def _searched(statement: _Select, place: Sequence[Any], shape: _Shape) -> _Select:
    """Add the search. Its condition may name `page`: the page without the search."""
    if not shape.search:
        return _paged(statement, place, shape)
    matches = _paged(statement.where(sa.text(shape.condition)), place, shape)
    page = _paged(statement.with_only_columns(Thread.seq), place, shape)
    return matches.add_cte(page.cte("page"))


def _pair(number: int) -> tuple[Any, Any]:
    return _bound(f"key{number}"), _bound(f"value{number}")


def _paged(statement: _Select, place: Sequence[Any], shape: _Shape) -> _Select:
    """Add the cursors, the order and the limit."""
    key = sa.tuple_(*place)
    for param, is_present in (("after", shape.after), ("before", shape.before)):
        if is_present:
            position = sa.tuple_(*(_bound(f"{param}_{column.key}") for column in place))
            is_ahead = shape.ascending == (param == "after")
            statement = statement.where(key > position if is_ahead else key < position)
    upwards = shape.ascending != shape.is_backwards
    order = [column.asc() if upwards else column.desc() for column in place]
    return statement.order_by(*order).limit(_bound("limit"))


def _page(
    connection: Connection, statement: _Select, place: Any, shape: _Shape, values: _Values
) -> tuple[list[Any], bool]:
    rows = connection.rows_at_once(statement, values)
    rows.sort(key=place, reverse=shape.ascending == shape.is_backwards)
    page = rows[: values["limit"] - 1]
    page = page[: fitting((_bytes(connection, row) for row in page), MAX_PAGE_BYTES)]
    return page[::-1] if shape.is_backwards else page, len(rows) > len(page)


def _bytes(connection: Connection, row: Any) -> int:
    """Return the bytes of an object in an answer, at most. 100 threads never fill a page."""
    if hasattr(row, "bytes"):
        return _OBJECT_BYTES + int(row.bytes)
    if not hasattr(row, "content"):
        return 0
    if row.content is None:
        return _OBJECT_BYTES + int(connection.value(SIZE_OF, {"of_seq": row.seq}))
    return _OBJECT_BYTES + len(f"{row.content}{row.attachments}{row.metadata}".encode())


def _search(connection: Connection, shape: _Shape, values: _Values) -> tuple[list[Any], bool]:
    engine = database.current()
    with engine.searching(connection, SEARCH_SECONDS):
        way = way_to_search(connection, values["q"])
        shape = shape._replace(search=way, condition=engine.SEARCHES[way])
        return _page(connection, _threads_statement(shape), _BY_TIME, shape, values)


_IS_MESSAGE = (Message.thread_seq == _bound("thread_seq"), Message.id == _bound("cursor"))
_IS_ASSISTANT = (Assistant.project == _bound("project"), Assistant.id == _bound("cursor"))
_IS_THREAD = (Thread.project == _bound("project"), Thread.id == _bound("cursor"))
_PLACES = {
    "assistant": sa.select(Assistant.created_at, Assistant.seq).where(*_IS_ASSISTANT),
    "message": sa.select(Message.created_at, Message.seq).where(*_IS_MESSAGE),
    "thread": sa.select(Thread.created_at, Thread.seq).where(*_IS_THREAD),
}


def _positions(connection: Connection, query: _Values, values: _Values, kind: str) -> _Values:
    """Return the positions of the query's cursors, as values. Raises ApiError 400."""
    positions: _Values = {}
    for param in ("after", "before"):
        if (cursor := query.get(param)) is None:
            continue
        place = connection.row(_PLACES[kind], values | {"cursor": cursor})
        place = place or place_of(connection, values["project"], values["thread_seq"], cursor)
        if not place:
            raise refusals.no_such_cursor(kind, cursor, param)
        time, seq = place
        positions |= {f"{param}_created_at": time, f"{param}_seq": seq, f"{param}_thread_seq": seq}
    return positions
