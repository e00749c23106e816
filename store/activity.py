"""When a thread was last active: at its creation or its newest message, whichever is later.

Threads of one second stand in the order in which they were touched: `touch` counts within it.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from database import Connection
from models import Message, Thread

_other = aliased(Thread)
_MESSAGES = sa.select(Message.created_at).where(Message.thread_seq == sa.bindparam("of_seq"))
_NEWEST = _MESSAGES.order_by(Message.seq.desc()).limit(1)


def next_touch(project: Any, second: Any) -> Any:
    """Return the SQL for the touch of a thread that a project touches last in a second."""
    last = sa.func.coalesce(sa.func.max(_other.touch), 0)
    in_second = (_other.project == project, _other.last_active_at == second)
    return sa.select(last + 1).where(*in_second).scalar_subquery()


def touch(*which: sa.ColumnElement[bool]) -> sa.Update:
    """Return the UPDATE of a thread whose newest message is of the second `newest`."""
    newest = sa.bindparam("newest", type_=sa.BigInteger)
    second = sa.case((Thread.created_at > newest, Thread.created_at), else_=newest)
    values = {"last_active_at": second, "touch": next_touch(Thread.project, second)}
    return sa.update(Thread).where(*which).values(values)


_SETTLE = touch(Thread.seq == sa.bindparam("of_seq"))


def settle(connection: Connection, thread_seq: int) -> None:
    """Touch a thread whose messages have changed. Its row must be locked by then."""
    key = {"of_seq": thread_seq}
    newest = connection.value(_NEWEST, key) or 0
    connection.change(_SETTLE, {**key, "newest": newest})


def is_inactive(since: int) -> sa.ColumnElement[bool]:
    """Return the condition that nothing happened in a thread since a second.

    Creation and newest message count, too: an older program that still runs touches no thread.
    """
    newest = sa.select(Message.created_at).where(Message.thread_seq == Thread.seq)
    second = newest.order_by(Message.seq.desc()).limit(1).scalar_subquery()
    times = (Thread.last_active_at, Thread.created_at, sa.func.coalesce(second, 0))
    return sa.and_(*(time < since for time in times))
