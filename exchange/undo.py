"""Deletions that can be undone: what goes is kept as lines of the exchange format."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

import sqlalchemy as sa

import database
from database import Connection
from exchange import exports, imports
from models import Thread
from rules import refusals, strict_json
from rules.errors import ApiError
from rules.ids_and_clock import new_id
from rules.strict_json import most_values
from store import deleted_threads, deletions

_THREADS_AT_ONCE = 40
_IS_OLD = Thread.seq <= sa.bindparam("last_seq")
_IS_CHOSEN = Thread.id.in_(sa.bindparam("ids", expanding=True)) & _IS_OLD
_ANY_SEQ = 2**63 - 1


def delete_threads(project: str, ids: Sequence[str], last_seq: int | None, is_kept: bool) -> int:
    """Delete threads, none younger than that of `last_seq`, in batches; return how many.

    If it `is_kept`, the deletion can be undone for a while. Raises ApiError 409 when there is no
    room for that, 503; earlier batches are deleted by then.
    """
    deletion, count = new_id("deletion"), 0
    keep = partial(_keep, project=project, deletion=deletion) if is_kept else None
    for start in range(0, len(ids), _THREADS_AT_ONCE):
        values = {"ids": ids[start : start + _THREADS_AT_ONCE], "last_seq": last_seq or _ANY_SEQ}
        try:
            count += deletions.delete_threads(project, _IS_CHOSEN, values, before=keep)
        except ApiError as refusal:
            raise refusals.after_batches(refusal, count, "deleted") from refusal
    return count


def restore(project: str, deletion: str) -> list[imports.Outcome]:
    """Store the threads of a deletion again; return the outcome of each.

    If one is not back, the deletion is kept: its time alone ends it. Raises ApiError 409.
    """
    with database.snapshot() as connection:
        lines = deleted_threads.lines_of(connection, project, deletion)
    if not lines:
        raise refusals.too_late_to_undo()
    outcomes = list(imports.import_lines(project, lines, "skip", None, is_bounded=False))
    if all(outcome.result == "imported" for outcome in outcomes):
        with suppress(ApiError):  # they are back; what is still kept goes in its time
            database.write(lambda connection: deleted_threads.forget(connection, project, deletion))
    return outcomes


def _keep(connection: Connection, ids: Sequence[str], project: str, deletion: str) -> None:
    """Keep the lines of threads that are about to be deleted. Raises ApiError 409."""
    threads = (exports.thread_pieces(connection, project, each, exports.as_jsonl) for each in ids)
    lines = (_bounded(pieces, most_values, strict_json.MAX_VALUES) for pieces in threads)
    room = deleted_threads.room(connection, project)
    pieces = _bounded(chain.from_iterable(lines), len, room)
    deleted_threads.keep(connection, project, deletion, pieces)


def _bounded(pieces: Iterator[bytes], size: Callable[[bytes], int], most: int) -> Iterator[bytes]:
    for piece in pieces:
        most -= size(piece)
        if most < 0:
            raise refusals.no_room_to_undo()
        yield piece
