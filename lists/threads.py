"""The threads of a project, in pages; filters; search."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from database import Connection
from lists.matches import sql_of
from lists.pages import (
    BY_ACTIVITY,
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
_FEW_THREADS = 10_000
"""It is faster to collect and sort the threads of a filter when there are fewer than this."""
_IS_THREAD = (Thread.project == _bound("project"), Thread.id == _bound("cursor"))
_BY_TIME = (Thread.created_at, Thread.seq)
_BY_ACTIVITY = (Thread.last_active_at, Thread.touch, Thread.seq)
_PLACE = sa.select(*_BY_TIME, Thread.last_active_at, Thread.touch).where(*_IS_THREAD)
_OF_IDS = (Thread.id, *_PLACE.selected_columns)
_LISTED = (*_OF_IDS, threads.COLUMNS.metadata, threads.COLUMNS.tool_resources)
_FILTERS = ("created_after", "created_before")


def threads_page(connection: Connection, project: str, query: Values) -> Page:
    """Return a page of threads. Raises ApiError 400 for an unknown cursor or a slow search."""
    rows, has_more = _found(connection, project, query, shape_of(query, _FILTERS))
    return Page([thread_object(row) for row in rows], has_more)


def matching_ids(connection: Connection, project: str, query: Values) -> tuple[list[str], bool]:
    """Return the ids of a page, which may be long, and whether more follow. Raises ApiError 400."""
    shape = shape_of(query, _FILTERS)._replace(is_of_ids=True)
    rows, has_more = _found(connection, project, query, shape)
    return [row.id for row in rows], has_more


def _found(
    connection: Connection, project: str, query: Values, shape: Shape
) -> tuple[list[Any], bool]:
    """Return the rows of a page, and whether more follow. Raises ApiError 400."""
    values = values_of(query, shape) | {"project": project, "thread_seq": 0}
    values |= positions(connection, query, values, "thread", _PLACE)
    if "q" in query:
        values["q"] = match_expression(query["q"])
    if "q" in query or (shape.by_activity and shape.is_filtered):
        with database.current().searching(connection, SEARCH_SECONDS):
            return _rows(connection, _planned(connection, shape, values), values)
    return _rows(connection, shape, values)


def _rows(connection: Connection, shape: Shape, values: Values) -> tuple[list[Any], bool]:
    order = BY_ACTIVITY if shape.by_activity else BY_TIME
    return rows_of(connection, _statement(shape), order, shape, values)


def _planned(connection: Connection, shape: Shape, values: Values) -> Shape:
    """Return the shape with the way to find its threads."""
    if "q" in values:
        way = way_to_search(connection, values["q"])
        name = "common_by_activity" if way == "common" and shape.by_activity else way
        shape = shape._replace(search=way, condition=sql_of(name))
    if shape.by_activity and shape.is_filtered and shape.search != "rare":
        count = connection.value(_count(shape), {**values, "most": _FEW_THREADS})
        shape = shape._replace(is_narrow=count < _FEW_THREADS)
    return shape


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
    statement = sa.select(*(_OF_IDS if shape.is_of_ids else _LISTED))
    place: Sequence[Any] = _BY_ACTIVITY if shape.by_activity else _BY_TIME
    created_at: Any = Thread.created_at
    pairs = [has_pair(_bound("project"), *_pair(number)) for number in range(shape.pairs)]
    if shape.search == "rare":
        pass  # it walks its matches, and states the project itself
    elif shape.is_narrow:
        statement = statement.where(Thread.seq.in_(_filtered(shape)))
    elif pairs and not shape.by_activity:
        index = aliased(ThreadMetadata)  # it is in list order
        statement = statement.join(index, index.thread_seq == Thread.seq)
        statement = statement.where(*_is_first_pair(index))
        place = (created_at, _) = (index.created_at, index.thread_seq)
        del pairs[0]
    else:
        statement = statement.where(Thread.project == _bound("project"))
        if shape.by_activity:
            created_at += 0  # keeps SQLite from walking the index of creation
    return _searched(statement.where(*_dates(created_at, shape), *pairs), place, shape)


def _filtered(shape: Shape) -> Select:
    """Return the `seq` of the threads with the first pair, or of those with the dates."""
    if shape.pairs:
        statement = sa.select(ThreadMetadata.thread_seq).where(*_is_first_pair(ThreadMetadata))
        return statement.where(*_dates(ThreadMetadata.created_at, shape))
    dated = aliased(Thread)
    statement = sa.select(dated.seq).where(dated.project == _bound("project"))
    return statement.where(*_dates(dated.created_at, shape))


@lru_cache(maxsize=16)
def _count(shape: Shape) -> sa.Select[Any]:
    some = _filtered(shape).limit(_bound("most")).subquery()
    return sa.select(sa.func.count()).select_from(some)


def _is_first_pair(index: Any) -> list[Any]:
    key, value = _pair(0)
    return [index.project == _bound("project"), index.key == key, index.value == value]


def _dates(created_at: Any, shape: Shape) -> list[Any]:
    bounds = {"created_after": created_at.__gt__, "created_before": created_at.__lt__}
    return [bounds[name](_bound(name)) for name in shape.filters]


def _searched(statement: Select, place: Sequence[Any], shape: Shape) -> Select:
    """Add the search. Its condition may name `page`: the page without the search."""
    if not shape.search:
        return paged(statement, place, shape)
    matches = paged(statement.where(sa.text(shape.condition)), place, shape)
    page = paged(statement.with_only_columns(Thread.seq), place, shape)
    return matches.add_cte(page.cte("page"))


def _pair(number: int) -> tuple[Any, Any]:
    return _bound(f"key{number}"), _bound(f"value{number}")
