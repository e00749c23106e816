"""How much is read at once: rows are bounded by their bytes too, for one message may be large."""

from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import sqlalchemy as sa

from database import Connection
from store.messages import COLUMNS

MAX_BYTES = 8_000_000


class Source:
    """The rows of a table that belong to one parent."""

    def __init__(self, columns: Any, parent: str) -> None:
        """Take the columns of the table, and the name of the one that has the parent's `seq`."""
        texts = [each for each in columns if isinstance(each.type, sa.Text)]
        # No text is read for its length.
        size: Any = sum(sa.func.coalesce(sa.func.octet_length(each), 0) for each in texts)
        self.size = size.label("bytes")
        is_rest = (columns.seq > sa.bindparam("after"), columns.seq <= sa.bindparam("last"))
        rows = sa.select(*columns).where(columns[parent] == sa.bindparam("of_parent"), *is_rest)
        self.next = rows.order_by(columns.seq).limit(sa.bindparam("most"))
        self.next_sizes = self.next.with_only_columns(self.size)


MESSAGES = Source(COLUMNS, "thread_seq")


class Span(NamedTuple):
    """Rows of a parent: those after one place, up to another."""

    of_parent: int
    after: int = 0
    last: int = 2**63 - 1


def fitting(sizes: list[int], most_bytes: int) -> int:
    """Return how many of the first rows fit into so many bytes: at least one."""
    return max(1, bisect(list(accumulate(sizes)), most_bytes))


def first_batch(
    connection: Connection, span: Span, most: int, rows: sa.Executable = MESSAGES.next
) -> list[Any]:
    """Return the rows of the first messages: at most `most`, and MAX_BYTES if it is not one.

    `rows` may select less of them than all columns.
    """
    count, _ = _first(connection, span, most, MESSAGES)
    return connection.rows(rows, {**span._asdict(), "most": count})


def whole_row(connection: Connection, thread_seq: int, seq: int) -> Any:
    """Return all columns of a message, in the transaction that found it."""
    return first_batch(connection, Span(thread_seq, seq - 1, seq), 1)[0]


def is_more_than_a_batch(connection: Connection, span: Span, most: int) -> bool:
    """Return whether the first batch leaves messages."""
    count, found = _first(connection, span, most, MESSAGES)
    return count < found


def all_rows(
    connection: Connection, parent_seq: int, most: int, source: Source = MESSAGES
) -> Iterator[Any]:
    """Yield the rows of a parent, read in batches."""
    span, is_more = Span(parent_seq), True
    while is_more:
        count, found = _first(connection, span, most, source)
        rows = connection.rows(source.next, {**span._asdict(), "most": count})
        yield from rows
        is_more = count < found and bool(rows)
        span = span._replace(after=rows[-1].seq) if is_more else span


def _first(connection: Connection, span: Span, most: int, source: Source) -> tuple[int, int]:
    """Return the number of rows in the first batch, and of those found for it and behind it."""
    sizes = connection.rows(source.next_sizes, {**span._asdict(), "most": most + 1})
    return min(most, fitting([row.bytes for row in sizes], MAX_BYTES)), len(sizes)
