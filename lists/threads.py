"""The threads of a project, in pages; filters; search."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from database import Connection
from lists.pages import (
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
from lists.search import SEARCH_SECONDS, match_expression, way_to_search
from models import Thread, ThreadMetadata
from store import threads
from store.objects import thread_object

_bound: Any = sa.bindparam
_IS_THREAD = (Thread.project == _bound("project"), Thread.id == _bound("cursor"))
_PLACE = sa.select(Thread.created_at, Thread.seq).where(*_IS_THREAD)


def threads_page(connection: Connection, project: str, query: Values) -> Page:
    """Return a page of threads. Raises ApiError 400 for an unknown cursor or a slow search."""
    shape = shape_of(query, ("created_after", "created_before"))
    values = values_of(query, shape) | {"project": project, "thread_seq": 0}
    values |= positions(connection, query, values, "thread", _PLACE)
    if "q" in query:
        values["q"] = match_expression(query["q"])
        rows, has_more = _search(connection, shape, values)
    else:
        rows, has_more = rows_of(connection, _statement(shape), BY_TIME, shape, values)
    return Page([thread_object(row) for row in rows], has_more)


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


@lru_cache(maxsize=256)
def _statement(shape: Shape) -> Select:
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
        return rows_of(connection, _statement(shape), BY_TIME, shape, values)
