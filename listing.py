"""Lists: pages by key, never by offset; filters; the search over message text.

A list has a place for each row: (`created_at`, `seq`) for threads, so that imported history keeps
its place in time; `seq` for the messages of a thread, so that clock jumps change nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from database import Connection
from errors import ApiError
from models import Message, Thread, ThreadMetadata, Tombstone, unix_now
from store import TOMBSTONE_SECONDS, find_thread_seq
from wire import MESSAGE, THREAD, id_of

SEARCH_SECONDS = 2
_RARE_MATCHES = 10_000
"""With this many matches among ten million messages, to collect them takes 40 ms, or 0.5 s while
they are not in memory yet; to walk threads newest first until 20 have one takes 0.1 s."""

_Select = sa.Select[*tuple[Any, ...]]


class Page(NamedTuple):
    """Objects as JSON text, in the order asked for, and whether more follow in that direction."""

    objects: list[str]
    has_more: bool

    @property
    def ids(self) -> list[str]:
        """Return the objects' ids."""
        return list(map(id_of, self.objects))


class _Shape(NamedTuple):
    """What a list query asks, without its values: each shape is built into SQL once."""

    ascending: bool
    after: bool
    before: bool
    filters: tuple[str, ...] = ()
    pairs: int = 0
    search: str = ""
    condition: str = ""

    @property
    def backwards(self) -> bool:
        """`before` alone asks for the page that ends right before the cursor."""
        return self.before and not self.after


def list_messages(
    connection: Connection, project: str, thread_id: str, query: dict[str, Any]
) -> Page:
    """Return a page of a thread's messages. Raises ApiError 404, and 400 for an unknown cursor."""
    seq = find_thread_seq(connection, project, thread_id)
    shape = _shape(query, ("run_id",))
    given = {"project": project, "thread_seq": seq, "thread_id": thread_id}
    values = _values(query, shape) | given
    values |= _places(connection, query, values, "message")
    return _page(connection, _messages_statement(shape), shape, values)


def list_threads(connection: Connection, project: str, query: dict[str, Any]) -> Page:
    """Return a page of threads; see schemas.ListThreads for the filters.

    Raises ApiError 400 for an unknown cursor, or for a search that takes over SEARCH_SECONDS.
    """
    shape = _shape(query, ("created_after", "created_before"))
    values = _values(query, shape) | {"project": project, "thread_seq": 0}
    values |= _places(connection, query, values, "thread")
    if "q" not in query:
        return _page(connection, _threads_statement(shape), shape, values)
    values["q"] = match_expression(query["q"])
    with database.current().searching(connection.raw, project, SEARCH_SECONDS):
        way = _way_to_search(connection, values["q"])
        shape = shape._replace(search=way, condition=database.current().SEARCHES[way])
        return _page(connection, _threads_statement(shape), shape, values)


def match_expression(q: str) -> str:
    """Return the full-text query for all words of `q`; text in double quotes is one phrase.

    Raises ApiError 400 when there is nothing to search for.
    """
    phrases: list[str] = []
    for index, part in enumerate(q.split('"')):
        phrases += [part] if index % 2 else part.split()
    if not any(phrase.strip() for phrase in phrases):
        raise ApiError(400, "Invalid 'q': expected at least one word.", "q", "empty_string")
    return " ".join(f'"{phrase}"' for phrase in phrases)


def _way_to_search(connection: Connection, expression: str) -> str:
    """Tell how to search: few matches are collected and sorted; with many, threads are walked
    newest first until a page is full. Neither reads the whole table."""
    bounds = {"q": expression, "most": _RARE_MATCHES}
    count = connection.value(_counting(database.current().SEARCHES["count"]), bounds)
    return "rare" if count < _RARE_MATCHES else "common"


@lru_cache
def _counting(condition: str) -> sa.TextClause:
    return sa.text(condition)


def _shape(query: dict[str, Any], filters: tuple[str, ...]) -> _Shape:
    given = tuple(name for name in filters if name in query)
    pairs = len(query.get("metadata") or ())
    return _Shape(query["order"] == "asc", "after" in query, "before" in query, given, pairs)


def _values(query: dict[str, Any], shape: _Shape) -> dict[str, Any]:
    values = {"limit": query["limit"] + 1} | {name: query[name] for name in shape.filters}
    for number, (key, value) in enumerate((query.get("metadata") or {}).items()):
        values |= {f"key{number}": key, f"value{number}": value}
    return values


@lru_cache(maxsize=64)
def _messages_statement(shape: _Shape) -> sa.Executable:
    statement = sa.select(MESSAGE.label("wired")).where(Message.thread_seq == _given("thread_seq"))
    if "run_id" in shape.filters:
        statement = statement.where(Message.run_id == _given("run_id"))
    return _as_lines(_paged(statement, (Message.seq,), shape))


@lru_cache(maxsize=256)
def _threads_statement(shape: _Shape) -> sa.Executable:
    """Build the SELECT of one shape.

    The first metadata pair drives, for its stretch of the index is in list order already; but
    where few matches drive, their condition states the project, too.
    """
    statement = sa.select(THREAD.label("wired"))
    place: Sequence[Any] = (Thread.created_at, Thread.seq)
    pairs = [has_pair(_given("project"), *_pair(number)) for number in range(shape.pairs)]
    if pairs and shape.search != "rare":
        index = aliased(ThreadMetadata)
        statement = statement.join(index, index.thread_seq == Thread.seq)
        statement = statement.where(
            index.project == _given("project"),
            index.key == _given("key0"),
            index.value == _given("value0"),
        )
        place = (index.created_at, index.thread_seq)
        del pairs[0]
    elif shape.search != "rare":
        statement = statement.where(Thread.project == _given("project"))
    if "created_after" in shape.filters:
        statement = statement.where(place[0] > _given("created_after"))
    if "created_before" in shape.filters:
        statement = statement.where(place[0] < _given("created_before"))
    return _searched(statement.where(*pairs), place, shape)


def _searched(statement: _Select, place: Sequence[Any], shape: _Shape) -> sa.Executable:
    """Add the search, whose condition may name `page`: the page if every thread had a match."""
    if not shape.search:
        return _as_lines(_paged(statement, place, shape))
    found = _paged(statement.where(sa.text(shape.condition)), place, shape)
    page = _paged(statement.with_only_columns(Thread.seq), place, shape)
    return _as_lines(found).add_cte(page.cte("page"))


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


def _given(name: str) -> Any:
    return sa.bindparam(name)


def _pair(number: int) -> tuple[Any, Any]:
    return _given(f"key{number}"), _given(f"value{number}")


def _paged(statement: _Select, place: Sequence[Any], shape: _Shape) -> _Select:
    """Add the cursors, the order and the limit."""
    key = sa.tuple_(*place)
    for param, given in (("after", shape.after), ("before", shape.before)):
        if given:
            cursor = sa.tuple_(*(_given(f"{param}_{column.key}") for column in place))
            ahead = shape.ascending == (param == "after")
            statement = statement.where(key > cursor if ahead else key < cursor)
    upwards = shape.ascending != shape.backwards
    order = [column.asc() if upwards else column.desc() for column in place]
    return statement.order_by(*order).limit(_given("limit"))


def _as_lines(statement: _Select) -> _Select:
    """Make one row of it, an object a line.

    Each row that the driver fetches gives the interpreter's lock away: of 100 rows, four threads
    made three times the work.
    """
    return sa.select(sa.func.aggregate_strings(statement.subquery().c.wired, "\n"))


def _page(
    connection: Connection, statement: sa.Executable, shape: _Shape, values: dict[str, Any]
) -> Page:
    lines = connection.value(statement, values)
    objects = lines.split("\n") if lines else []
    limit = values["limit"] - 1
    page = objects[:limit]
    return Page(page[::-1] if shape.backwards else page, len(objects) > limit)


_IS_CURSOR = {
    "message": (Message.thread_seq == _given("thread_seq"), Message.id == _given("cursor")),
    "thread": (Thread.project == _given("project"), Thread.id == _given("cursor")),
}
_LIVE_PLACE = {
    "message": sa.select(Message.created_at, Message.seq).where(*_IS_CURSOR["message"]),
    "thread": sa.select(Thread.created_at, Thread.seq).where(*_IS_CURSOR["thread"]),
}
_DELETED_PLACE = sa.select(Tombstone.created_at, Tombstone.seq).where(
    Tombstone.project == _given("project"),
    Tombstone.thread_seq == _given("thread_seq"),
    Tombstone.id == _given("cursor"),
    Tombstone.deleted_at > _given("since"),
)


def _places(
    connection: Connection, query: dict[str, Any], values: dict[str, Any], kind: str
) -> dict[str, int]:
    """Return the places of the cursors given, as values. Raises ApiError 400 for one without.

    What was deleted within TOMBSTONE_SECONDS keeps its place (wire reference, decision 8).
    """
    places: dict[str, int] = {}
    for param in ("after", "before"):
        if (cursor := query.get(param)) is None:
            continue
        asked = values | {"cursor": cursor, "since": unix_now() - TOMBSTONE_SECONDS}
        found = connection.rows(_LIVE_PLACE[kind], asked) or connection.rows(_DELETED_PLACE, asked)
        if not found:
            raise ApiError(400, f"No {kind} found with id '{cursor}'.", param, "invalid_value")
        created_at, seq = found[0]
        names = (f"{param}_created_at", f"{param}_seq", f"{param}_thread_seq")
        places |= dict(zip(names, (created_at, seq, seq), strict=True))
    return places
