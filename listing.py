"""Lists: pages by key, never by offset; filters; the search over message text.

A list has a place for each row: (`created_at`, `seq`) for threads, so that imported history keeps
its place in time; `seq` for the messages of a thread, so that clock jumps change nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from errors import ApiError
from models import Message, Thread, ThreadMetadata, Tombstone, unix_now
from store import TOMBSTONE_SECONDS, Selected
from wire import MESSAGE_COLUMNS, THREAD_COLUMNS

SEARCH_SECONDS = 2
_RARE_MATCHES = 50_000

_MATCH_COUNT = sa.text(
    "SELECT count(*) FROM (SELECT 1 FROM message_text WHERE message_text MATCH :q LIMIT :most)"
)
_IN_MATCHES = sa.text(
    "threads.seq IN (SELECT messages.thread_seq FROM message_text CROSS JOIN messages"
    " ON messages.seq = message_text.rowid WHERE message_text MATCH :q)"
)
_HAS_MATCH = sa.text(
    "EXISTS (SELECT 1 FROM messages CROSS JOIN message_text"
    " ON message_text.rowid = messages.seq"
    " WHERE messages.thread_seq = threads.seq AND message_text MATCH :q)"
)


class Page(NamedTuple):
    """Rows in the order asked for, and whether more follow in that direction."""

    rows: Sequence[Any]
    has_more: bool


def list_messages(
    connection: sa.Connection, project: str, thread_seq: int, query: dict[str, Any]
) -> Page:
    """Return a page of MESSAGE_COLUMNS. Raises ApiError 400 for an unknown cursor."""
    statement = sa.select(*MESSAGE_COLUMNS).where(Message.thread_seq == thread_seq)
    if "run_id" in query:
        statement = statement.where(Message.run_id == query["run_id"])

    def find(cursor: str) -> Selected:
        return sa.select(Message.seq).where(Message.thread_seq == thread_seq, Message.id == cursor)

    places = _places(connection, query, project, thread_seq, find)
    return _page(connection, statement, (Message.seq,), query, places)


def list_threads(connection: sa.Connection, project: str, query: dict[str, Any]) -> Page:
    """Return a page of THREAD_COLUMNS and `seq`; see schemas.ListThreads for the filters.

    Raises ApiError 400 for an unknown cursor, or for a search that takes over SEARCH_SECONDS.
    """

    def find(cursor: str) -> Selected:
        of_thread = (Thread.project == project, Thread.id == cursor)
        return sa.select(Thread.created_at, Thread.seq).where(*of_thread)

    places = _places(connection, query, project, 0, find)
    if "q" not in query:
        return _page(connection, *_filtered(project, query), query, places)
    expression = match_expression(query["q"])
    with database.time_limit(connection, SEARCH_SECONDS):
        rare = _is_rare(connection, expression)
        statement, place = _filtered(project, query, by_matches=rare)
        condition = _IN_MATCHES if rare else _HAS_MATCH
        statement = statement.where(condition.bindparams(q=expression))
        return _page(connection, statement, place, query, places)


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


def _is_rare(connection: sa.Connection, expression: str) -> bool:
    """Tell how to search: few matches are collected and sorted; with many, threads are walked
    newest first until a page is full. Neither reads the whole table."""
    bounds = {"q": expression, "most": _RARE_MATCHES}
    count: int = connection.execute(_MATCH_COUNT, bounds).scalar_one()
    return count < _RARE_MATCHES


def _filtered(
    project: str, query: dict[str, Any], by_matches: bool = False
) -> tuple[Selected, Sequence[Any]]:
    """Return the SELECT with its filters, and the columns that order it.

    The first metadata pair drives, for its stretch of the index is in list order already; but
    where matches drive, SQLite must be kept from walking an index of threads instead.
    """
    statement = sa.select(*THREAD_COLUMNS, Thread.seq)
    place: Sequence[Any] = (Thread.created_at, Thread.seq)
    pairs = list((query.get("metadata") or {}).items())
    if by_matches:
        statement = statement.where(sa.literal_column("+threads.project") == project)
    elif pairs:
        index = aliased(ThreadMetadata)
        statement = statement.join(index, index.thread_seq == Thread.seq)
        statement = statement.where(index.project == project)
        statement = statement.where(index.key == pairs[0][0], index.value == pairs[0][1])
        place = (index.created_at, index.thread_seq)
        del pairs[0]
    else:
        statement = statement.where(Thread.project == project)
    statement = statement.where(*(has_pair(project, key, value) for key, value in pairs))
    if "created_after" in query:
        statement = statement.where(place[0] > query["created_after"])
    if "created_before" in query:
        statement = statement.where(place[0] < query["created_before"])
    return statement, place


def has_pair(project: str, key: str, value: str) -> sa.ColumnElement[bool]:
    """Return the condition that a thread has a metadata pair."""
    other = aliased(ThreadMetadata)
    return sa.exists().where(
        other.project == project,
        other.key == key,
        other.value == value,
        other.created_at == Thread.created_at,
        other.thread_seq == Thread.seq,
    )


def _places(
    connection: sa.Connection, query: dict[str, Any], project: str, thread_seq: int, find: Any
) -> dict[str, Sequence[int]]:
    """Return the place of each cursor given. Raises ApiError 400 for one that has none.

    What was deleted within TOMBSTONE_SECONDS keeps its place (wire reference, decision 8).
    """
    places: dict[str, Sequence[int]] = {}
    for param in ("after", "before"):
        if (cursor := query.get(param)) is None:
            continue
        place = connection.execute(find(cursor)).first()
        place = place or _deleted_place(connection, project, thread_seq, cursor)
        if place is None:
            kind = "message" if thread_seq else "thread"
            raise ApiError(400, f"No {kind} found with id '{cursor}'.", param, "invalid_value")
        places[param] = place
    return places


def _deleted_place(
    connection: sa.Connection, project: str, thread_seq: int, cursor: str
) -> sa.Row[*tuple[Any, ...]] | None:
    columns = (Tombstone.seq,) if thread_seq else (Tombstone.created_at, Tombstone.seq)
    return connection.execute(
        sa.select(*columns).where(
            Tombstone.project == project,
            Tombstone.thread_seq == thread_seq,
            Tombstone.id == cursor,
            Tombstone.deleted_at > unix_now() - TOMBSTONE_SECONDS,
        )
    ).first()


def _page(
    connection: sa.Connection,
    statement: Selected,
    place: Sequence[Any],
    query: dict[str, Any],
    places: dict[str, Sequence[int]],
) -> Page:
    """Run a SELECT for one page. `before` alone gives the page that ends right before it."""
    ascending = query["order"] == "asc"
    backwards = "before" in places and "after" not in places
    key = sa.tuple_(*place)
    for param, cursor in places.items():
        ahead = ascending == (param == "after")
        statement = statement.where(key > tuple(cursor) if ahead else key < tuple(cursor))
    order = [column.asc() if ascending != backwards else column.desc() for column in place]
    limit = query["limit"]
    rows = connection.execute(statement.order_by(*order).limit(limit + 1)).all()
    page = rows[:limit]
    return Page(page[::-1] if backwards else page, len(rows) > limit)
