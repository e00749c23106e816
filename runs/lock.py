"""The lock of a thread: while a run is active, the thread names it.

Whoever changes both locks the thread's row first, so that no two transactions wait for each other.
"""

from typing import Any

import sqlalchemy as sa

from database import Connection
from models import Run, Thread
from store.messages import IS_THREAD

_IS_FREE = (IS_THREAD, Thread.active_run.is_(None))
_LOCK = {"active_run": sa.bindparam("run_id", type_=sa.Text)}
_TAKE = sa.update(Thread).where(*_IS_FREE).values(_LOCK).returning(Thread.seq)
_IS_LOCKED = (Thread.seq == sa.bindparam("of_seq"), Thread.active_run == sa.bindparam("run_id"))
_FREE = sa.update(Thread).where(*_IS_LOCKED).values(active_run=None)
_IS_OF_RUN = (Run.seq == sa.bindparam("of_run"), Thread.seq == Run.thread_seq)
_LOCKING: Any = {"key_share": True, "of": Thread}
_HOLD_OF_RUN = sa.select(Thread.seq).where(*_IS_OF_RUN).with_for_update(**_LOCKING)


def take(connection: Connection, project: str, thread_id: str, run_id: str) -> int | None:
    """Lock a thread for a new run. Return its `seq`, or None if it is locked or does not exist."""
    values = {"of_project": project, "thread_id": thread_id, "run_id": run_id}
    return connection.value(_TAKE, values)  # type: ignore[no-any-return]


def free(connection: Connection, run: Any) -> None:
    """Free the thread of a run that ends in this transaction."""
    connection.change(_FREE, {"of_seq": run.thread_seq, "run_id": run.id})


def hold_thread_of(connection: Connection, run: Any) -> bool:
    """Let no other transaction lock or free the thread of a run; return whether both exist."""
    return connection.value(_HOLD_OF_RUN, {"of_run": run.seq}) is not None
