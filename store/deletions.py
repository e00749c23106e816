"""Deletions of threads. A large thread is hidden, then deleted in batches: others can write."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from database import Connection, Values
from models import ACTIVE_STATUSES, HIDDEN_PROJECT, Message, Run, StoredAnswer, Thread
from rules import refusals
from rules.errors import ApiError
from store import deleted_threads, stored_answers
from store.tombstones import burial, bury

MESSAGES_AT_ONCE = 500
PAUSE_SECONDS = 0.002
"""The pause between two batches, for a writer of another process."""
LEFT_SECONDS = 3_600
"""The process of a copy has ended when the copy is still hidden after this time."""
_PLACE = (Thread.id, Thread.created_at, Thread.seq, Thread.last_active_at, Thread.touch)
_Condition = sa.ColumnElement[bool]
_Before = Callable[[Connection, list[str]], None]
_IS_NAMED = Thread.id == sa.bindparam("thread_id")
_IS_HIDDEN = (Thread.seq == sa.bindparam("of_seq"), Thread.project == HIDDEN_PROJECT)
# /_mock/restore may give the seq of a hidden thread to one that is not.
_HIDDEN_SEQ = sa.select(Thread.seq).where(*_IS_HIDDEN).scalar_subquery()
_MESSAGES = sa.select(Message.seq).where(Message.thread_seq == _HIDDEN_SEQ)
_SOME_MESSAGES = _MESSAGES.order_by(Message.seq).limit(sa.bindparam("most"))
_DELETE_MESSAGES = sa.delete(Message).where(Message.seq.in_(_SOME_MESSAGES.scalar_subquery()))
_RUNS = sa.select(Run.seq).where(Run.thread_seq == _HIDDEN_SEQ)
_SOME_RUNS = _RUNS.order_by(Run.seq).limit(sa.bindparam("most"))
_DELETE_RUNS = sa.delete(Run).where(Run.seq.in_(_SOME_RUNS.scalar_subquery()))
_DELETE_THREAD = sa.delete(Thread).where(*_IS_HIDDEN)
_IS_LEFT = (Thread.project == HIDDEN_PROJECT, Thread.created_at < sa.bindparam("before"))
_LEFT = sa.select(Thread.seq).where(*_IS_LEFT)


def delete_thread(project: str, thread_id: str) -> None:
    """Delete a thread and its messages. Raises ApiError 404."""
    if not delete_threads(project, _IS_NAMED, {"thread_id": thread_id}):
        raise refusals.not_found("thread", thread_id)


def delete_threads(
    project: str,
    which: _Condition,
    values: Values | None = None,
    seconds: float | None = None,
    before: _Before | None = None,
) -> int:
    """Delete the project's threads that meet a condition; return how many.

    `before` gets their ids in the same transaction, when nobody else can change them.
    """
    of_project = {"of_project": project, **(values or {})}
    change = partial(_delete, which=which, values=of_project, before=before)
    count, hidden = database.write(change, seconds)  # after this no reader finds them
    with suppress(ApiError):  # they are gone for all readers; delete_left() deletes what stays
        for seq in hidden:
            delete_hidden(seq, seconds)
    return count


def delete_hidden(seq: int, seconds: float | None = None) -> None:
    """Delete a hidden thread, and its messages in batches; leave a thread that is not hidden."""
    while database.write(lambda connection: _delete_batch(connection, seq), seconds):
        time.sleep(PAUSE_SECONDS)


def delete_left() -> None:
    """Delete the hidden threads of processes that have ended, and what is kept too long."""
    database.write(stored_answers.delete_expired)
    database.write(deleted_threads.purge)
    with database.read() as connection:
        rows = connection.rows(_LEFT, {"before": int(time.time()) - LEFT_SECONDS})
    for row in rows:
        delete_hidden(row.seq)


def _delete(
    connection: Connection, which: _Condition, values: Values, before: _Before | None
) -> tuple[int, list[int]]:
    """Delete threads, or hide them if they are large; return their number and the hidden ones."""
    statements = _statements(which)
    # The lock waits for unfinished appends: the condition then sees their messages.
    rows = connection.rows(statements.lock, values)
    if not rows:
        return 0, []
    if before:
        before(connection, [row.id for row in rows])
    seqs = [row.seq for row in rows]
    bury(connection, statements.bury, values)
    stored_answers.forget(connection, statements.forget, values)
    most = MESSAGES_AT_ONCE + 1
    if connection.value(statements.count, {**values, "most": most}) <= MESSAGES_AT_ONCE:
        return connection.change(statements.delete, values), []
    connection.change(statements.cancel, values)
    connection.change(statements.hide, values)
    return len(seqs), seqs


def _delete_batch(connection: Connection, seq: int) -> bool:
    """Delete some messages or runs of a hidden thread, or itself; return whether more is left."""
    some = {"of_seq": seq, "most": MESSAGES_AT_ONCE}
    for statement in (_DELETE_MESSAGES, _DELETE_RUNS):
        if connection.change(statement, some) == MESSAGES_AT_ONCE:
            return True
    connection.change(_DELETE_THREAD, {"of_seq": seq})
    return False


class _Statements:
    """The statements that delete the threads of a condition."""

    def __init__(self, which: _Condition) -> None:
        these = sa.and_(Thread.project == sa.bindparam("of_project"), which)
        places = sa.select(sa.literal(0).label("thread_seq"), *_PLACE).where(these)
        message = aliased(Message)  # the condition may name messages, too
        contents = sa.select(message.seq).join(Thread, Thread.seq == message.thread_seq)
        some = contents.where(these).limit(sa.bindparam("most")).subquery()
        own_id = Thread.id + ":" + sa.cast(Thread.seq, sa.Text)
        hidden = {"project": HIDDEN_PROJECT, "id": own_id, "created_at": 0, "metadata": "{}"}
        self.lock = (
            sa.select(Thread.seq, Thread.id).where(these).order_by(Thread.seq).with_for_update()
        )
        self.bury = burial(places)
        ids, seqs = (
            sa.select(each).where(these).scalar_subquery() for each in (Thread.id, Thread.seq)
        )
        self.forget = stored_answers.forgetting(StoredAnswer.thread.in_(ids))
        self.count = sa.select(sa.func.count()).select_from(some)
        self.delete = sa.delete(Thread).where(these)
        cancelled = {"status": "cancelled", "player": None, "lease_end": None}
        active = (Run.thread_seq.in_(seqs), sa.text(f"runs.status IN {ACTIVE_STATUSES}"))
        self.cancel = sa.update(Run).where(*active).values(cancelled)
        self.hide = sa.update(Thread).where(these).values({**hidden, "active_run": None})


_statements: Callable[[_Condition], _Statements] = lru_cache(maxsize=8)(_Statements)
