"""How much is read at once: rows are bounded by their bytes too, for one message may be large."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import sqlalchemy as sa

from database import Connection
from models import Message
from store.messages import COLUMNS

MAX_BYTES = 8_000_000
_TEXTS = [each for each in COLUMNS if isinstance(each.type, sa.Text)]
# No text is read for its length.
_BYTES: Any = sum(sa.func.coalesce(sa.func.octet_length(each), 0) for each in _TEXTS)
_SIZE = _BYTES.label("bytes")
SIZE_OF = sa.select(_SIZE).where(Message.seq == sa.bindparam("of_seq"))
"""The bytes of the texts of one message."""
_IS_REST = (Message.seq > sa.bindparam("after"), Message.seq <= sa.bindparam("last"))
_IS_NEXT = (Message.thread_seq == sa.bindparam("of_thread_seq"), *_IS_REST)
_NEXT = sa.select(*COLUMNS).where(*_IS_NEXT).order_by(Message.seq).limit(sa.bindparam("most"))
_NEXT_SIZES = _NEXT.with_only_columns(_SIZE)


class Span(NamedTuple):
    """Messages of a thread: those after one place, up to another."""

    of_thread_seq: int
    after: int = 0
    last: int = 2**63 - 1


def fitting(sizes: Iterable[int], most_bytes: int) -> int:
    """Return how many of the first rows fit into so many bytes: at least one."""
    return max(1, sum(total <= most_bytes for total in accumulate(sizes)))


def first_batch(connection: Connection, span: Span, most: int) -> list[Any]:
    """Return the rows of the first messages: at most `most`, and MAX_BYTES if it is not one."""
    count, _ = _first(connection, span, most)
    return connection.rows(_NEXT, {**span._asdict(), "most": count})


def whole_row(connection: Connection, row: Any) -> Any:
    """Return all columns of a message, in the transaction that found it."""
    return first_batch(connection, Span(row.thread_seq, row.seq - 1, row.seq), 1)[0]


def is_more_than_a_batch(connection: Connection, span: Span, most: int) -> bool:
    """Return whether the first batch leaves messages."""
    count, found = _first(connection, span, most)
    return count < found


def all_rows(connection: Connection, thread_seq: int, most: int) -> Iterator[Any]:
    """Yield the rows of a thread's messages, read in batches."""
    span = Span(thread_seq)
    while rows := first_batch(connection, span, most):
        yield from rows
        span = span._replace(after=rows[-1].seq)


def _first(connection: Connection, span: Span, most: int) -> tuple[int, int]:
    """Return the number of messages in the first batch, and of those found for it and behind it."""
    sizes = connection.rows(_NEXT_SIZES, {**span._asdict(), "most": most + 1})
    return min(most, fitting((row.bytes for row in sizes), MAX_BYTES)), len(sizes)
