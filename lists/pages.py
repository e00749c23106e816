"""Pages of a list: cursors, order, limit, and a bound on the bytes."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from database import Connection
from rules import refusals
from store.batches import fitting
from store.objects import Object
from store.tombstones import place_of

Select = sa.Select[*tuple[Any, ...]]
Values = dict[str, Any]
BY_TIME = attrgetter("created_at", "seq")  # imported history keeps its place in time
BY_ACTIVITY = attrgetter("last_active_at", "touch", "seq")
BY_SEQ = attrgetter("seq")  # a clock that jumps does not change the order in a thread
MAX_PAGE_BYTES = 16_000_000
_OBJECT_BYTES = 1_200  # the keys, ids and numbers of an object
_BYTES = attrgetter("bytes")
_LARGE_ROW_BYTES = 120_000
_AT_ONCE_BYTES = 12_000_000


class Page(NamedTuple):
    """Objects in the order of the query, and whether more follow in its direction."""

    objects: list[Object]
    has_more: bool


class Shape(NamedTuple):
    """A list query without its values. Its SQL is built once."""

    ascending: bool
    after: bool
    before: bool
    filters: tuple[str, ...] = ()
    pairs: int = 0
    by_activity: bool = False
    is_narrow: bool = False
    is_of_ids: bool = False
    search: str = ""
    condition: str = ""

    @property
    def is_filtered(self) -> bool:
        """Whether there are filters beside the search."""
        return bool(self.filters or self.pairs)

    @property
    def is_backwards(self) -> bool:
        """Whether the page ends right before the cursor, with `before` alone."""
        return self.before and not self.after


def shape_of(query: Values, filters: Iterable[str] = ()) -> Shape:
    """Return the shape of a loaded query; `filters` are the names of its possible filters."""
    present = tuple(name for name in filters if name in query)
    pairs = len(query.get("metadata") or ())
    by_activity = query.get("sort") == "last_active_at"
    is_ascending = query["order"] == "asc"
    return Shape(is_ascending, "after" in query, "before" in query, present, pairs, by_activity)


def values_of(query: Values, shape: Shape) -> Values:
    """Return the values of the query: its filters, and a limit that shows if more follow.

    The rows of a page are read at once, so that the more there may be, the smaller is a large one.
    """
    limit = query["limit"]
    values = {"limit": limit + 1, "row_bytes": min(_LARGE_ROW_BYTES, _AT_ONCE_BYTES // limit)}
    values |= {name: query[name] for name in shape.filters}
    for number, (key, value) in enumerate((query.get("metadata") or {}).items()):
        values |= {f"key{number}": key, f"value{number}": value}
    return values


def positions(
    connection: Connection, query: Values, values: Values, kind: str, place: sa.Executable
) -> Values:
    """Return the positions of the query's cursors, as values. Raises ApiError 400.

    `place` selects the place of the object whose id is the value `cursor`: `seq`, and more.
    """
    found: Values = {}
    for param in ("after", "before"):
        if (cursor := query.get(param)) is None:
            continue
        row = connection.row(place, values | {"cursor": cursor})
        row = row or place_of(connection, values["project"], values["thread_seq"], cursor)
        if not row:
            raise refusals.no_such_cursor(kind, cursor, param)
        found |= {f"{param}_{name}": value for name, value in row._asdict().items()}
        found[f"{param}_thread_seq"] = row.seq
    return found


def paged(statement: Select, place: Sequence[Any], shape: Shape) -> Select:
    """Add the cursors, the order and the limit."""
    key = sa.tuple_(*place)
    for param, is_present in (("after", shape.after), ("before", shape.before)):
        if is_present:
            position = sa.tuple_(*(sa.bindparam(f"{param}_{column.key}") for column in place))
            is_ahead = shape.ascending == (param == "after")
            statement = statement.where(key > position if is_ahead else key < position)
    upwards = shape.ascending != shape.is_backwards
    order = [column.asc() if upwards else column.desc() for column in place]
    return statement.order_by(*order).limit(sa.bindparam("limit"))


def rows_of(
    connection: Connection, statement: Select, place: Any, shape: Shape, values: Values
) -> tuple[list[Any], bool]:
    """Return the rows of a page in the order of the query, and whether more follow."""
    rows = connection.rows_at_once(statement, values)
    rows.sort(key=place, reverse=shape.ascending == shape.is_backwards)
    page = rows[: values["limit"] - 1]
    if page and hasattr(page[0], "bytes"):  # 100 threads never fill a page
        page = page[: fitting([*map(_BYTES, page)], MAX_PAGE_BYTES)]
    return page[::-1] if shape.is_backwards else page, len(rows) > len(page)


class Listing(NamedTuple):
    """A list of one kind of object: the place of a cursor, the order, the SQL, the filters."""

    kind: str
    place: sa.Executable
    order: Any
    statement: Callable[[Shape], Select]
    filters: tuple[str, ...] = ()

    def rows(self, connection: Connection, query: Values, **of: Any) -> tuple[list[Any], bool]:
        """Return the rows of a page in the order of the query, and whether more follow.

        `of` tells whose list it is: `project`, `thread_seq`. Raises ApiError 400.
        """
        shape = shape_of(query, self.filters)
        values = values_of(query, shape) | {"thread_seq": 0, **of}
        values |= positions(connection, query, values, self.kind, self.place)
        return rows_of(connection, self.statement(shape), self.order, shape, values)


def neighbours(query: Values, page: Page) -> dict[str, bool]:
    """Return whether there are objects before the page and after it."""
    if "before" in query:
        return {"has_previous": page.has_more, "has_next": True}
    return {"has_previous": "after" in query, "has_next": page.has_more}


def sized(columns: Any, json: Sequence[str], large: Sequence[str]) -> list[Any]:
    """Return the columns of a list and the `bytes` of a row at most, as `with_size` does.

    `json` names the columns of JSON text. Others grow as they become JSON: a byte becomes six.
    """
    texts = [each for each in columns if isinstance(each.type, sa.Text)]
    size = sum(_bytes(each) * (1 if each.name in json else 6) for each in texts)
    return with_size(columns, size, large)


def with_size(columns: Any, size: Any, large: Sequence[str]) -> list[Any]:
    """Return the columns of a list, and as `bytes` what its object takes if its texts take `size`.

    A row with more than `row_bytes` in its `large` columns has null there: whoever lists it reads
    it alone.
    """
    most = sa.bindparam("row_bytes", type_=sa.Integer)
    is_small = sum(_bytes(each) for each in columns if each.name in large) <= most
    shown = [
        sa.case((is_small, each)).label(each.name) if each.name in large else each
        for each in columns
    ]
    return [*shown, (size + _OBJECT_BYTES).label("bytes")]


def _bytes(column: Any) -> Any:
    size = sa.func.octet_length(column)
    return sa.func.coalesce(size, 0) if column.nullable else size
