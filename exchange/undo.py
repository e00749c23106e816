"""Deletions that can be undone: what goes is kept as lines of the exchange format."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import sqlalchemy as sa

import database
from database import Connection
from exchange import exports, imports
from models import Thread
from rules import refusals
from rules.ids_and_clock import new_id
from store import deleted_threads, deletions

_THREADS_AT_ONCE = 40
_IS_OLD = Thread.seq <= sa.bindparam("last_seq")
_IS_CHOSEN = Thread.id.in_(sa.bindparam("ids", expanding=True)) & _IS_OLD
_ANY_SEQ = 2**63 - 1


def delete_threads(project: str, ids: Sequence[str], last_seq: int | None, is_kept: bool) -> int:
    """Delete threads, none younger than that of `last_seq`, in batches; return how many.

    If it `is_kept`, the deletion can be undone for a while. Raises ApiError 409 when there is no
    room for that; earlier batches are deleted by then.
    """
    deletion, count = new_id("deletion"), 0
    keep = partial(_keep, project=project, deletion=deletion) if is_kept else None
    for start in range(0, len(ids), _THREADS_AT_ONCE):
        values = {"ids": ids[start : start + _THREADS_AT_ONCE], "last_seq": last_seq or _ANY_SEQ}
        count += deletions.delete_threads(project, _IS_CHOSEN, values, before=keep)
    return count


def restore(project: str, deletion: str) -> tuple[int, int]:
    """Store the threads of a deletion again, and return how many, and how many exist already.

    While some do, the deletion is kept: its time alone ends it. Raises ApiError 409.
    """
    with database.snapshot() as connection:
        lines = deleted_threads.lines_of(connection, project, deletion)
    if not lines:
        raise refusals.too_late_to_undo()
    results = [outcome.result for outcome in imports.import_lines(project, lines, "skip", None)]
    back = results.count("imported")
    if back == len(results):
        database.write(lambda connection: deleted_threads.forget(connection, project, deletion))
    return back, results.count("skipped")


def _keep(connection: Connection, ids: Sequence[str], project: str, deletion: str) -> None:
    """Keep the lines of threads that are about to be deleted. Raises ApiError 409."""
    lines = (exports.thread_pieces(connection, project, each, exports.as_jsonl) for each in ids)
    pieces = _bounded(chain.from_iterable(lines), deleted_threads.room(connection, project))
    deleted_threads.keep(connection, project, deletion, pieces)


def _bounded(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            raise refusals.no_room_to_undo()
        yield piece
