"""Runs: find, list, modify. A run keeps the settings in force at its creation."""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from database import Connection
from lists.pages import BY_SEQ, Listing, Select, Shape, Values, paged, sized
from models import Run, Thread
from rules import refusals
from runs.objects import run_object
from store.messages import FIND_THREAD_SEQ, IS_THREAD, find_thread_seq, hold_thread
from store.objects import Object, to_json

COLUMNS = Run.__table__.c
JSON_COLUMNS = (
    *("required_action", "last_error", "tools", "tool_resources", "metadata", "temperature"),
    *("top_p", "truncation_strategy", "incomplete_details", "usage", "response_format"),
    *("tool_choice", "parallel_tool_calls"),
)
_LARGE = ("required_action", "instructions", "tools", "response_format")
_IS_RUN = sa.and_(
    Run.thread_seq == FIND_THREAD_SEQ.scalar_subquery(), Run.id == sa.bindparam("of_id")
)
_FIND = sa.select(*COLUMNS).where(_IS_RUN)
_HOLD = _FIND.with_for_update(key_share=True, of=Run)
_OF_SEQ = sa.select(*COLUMNS).where(Run.seq == sa.bindparam("of_seq"))
_IS_LOCK = (IS_THREAD, Run.thread_seq == Thread.seq, Run.id == Thread.active_run)
_ACTIVE = sa.select(*COLUMNS).where(*_IS_LOCK)
_NEW_METADATA = {"metadata": sa.bindparam("new_metadata", type_=sa.Text)}
_MODIFY = sa.update(Run).where(_IS_RUN).values(_NEW_METADATA).returning(*COLUMNS)
_LISTED = sized(COLUMNS, JSON_COLUMNS, _LARGE)
_IN_THREAD = Run.thread_seq == sa.bindparam("thread_seq")
_PLACE = sa.select(Run.created_at, Run.seq).where(_IN_THREAD, Run.id == sa.bindparam("cursor"))


def find_row(connection: Connection, project: str, thread_id: str, run_id: str) -> Any:
    """Return the row of a run. Raises ApiError 404, also for a run of another thread."""
    key = _key(project, thread_id, run_id)
    return connection.row(_FIND, key) or _refuse(connection, key)


def hold_row(connection: Connection, project: str, thread_id: str, run_id: str) -> Any:
    """Let no other transaction change a run; return its row. Raises ApiError 404.

    Its thread is held before it, always.
    """
    key = _key(project, thread_id, run_id)
    return connection.row(_HOLD, key) or _refuse(connection, key)


def row_of(connection: Connection, seq: int) -> Any:
    """Return the row with this `seq`, or None."""
    return connection.row(_OF_SEQ, {"of_seq": seq})


def active_run(connection: Connection, project: str, thread_id: str) -> Any:
    """Return the row of the run that locks a thread, or None."""
    return connection.row(_ACTIVE, {"of_project": project, "thread_id": thread_id})


def list_rows(
    connection: Connection, project: str, thread_id: str, query: Values
) -> tuple[list[Any], bool]:
    """Return a page of the rows of a thread's runs, and whether more follow.

    Raises ApiError 404, and 400 for an unknown cursor.
    """
    seq = find_thread_seq(connection, project, thread_id)
    rows, has_more = _LIST.rows(connection, query, project=project, thread_seq=seq)
    return [row if row.tools else row_of(connection, row.seq) for row in rows], has_more


def modify_run(
    connection: Connection, project: str, thread_id: str, run_id: str, body: Object
) -> Object:
    """Replace the metadata if the body has it; return the run object. Raises ApiError 404."""
    hold_thread(connection, project, thread_id)
    if "metadata" not in body:
        return run_object(find_row(connection, project, thread_id, run_id), thread_id)
    key = _key(project, thread_id, run_id)
    row = connection.row(_MODIFY, {**key, "new_metadata": to_json(body["metadata"] or {})})
    return run_object(row or _refuse(connection, key), thread_id)


@lru_cache(maxsize=16)
def _statement(shape: Shape) -> Select:
    return paged(sa.select(*_LISTED).where(_IN_THREAD), (Run.seq,), shape)


_LIST = Listing("run", _PLACE, BY_SEQ, _statement)


def _key(project: str, thread_id: str, run_id: str) -> dict[str, Any]:
    return {"of_project": project, "thread_id": thread_id, "of_id": run_id}


def _refuse(connection: Connection, key: dict[str, Any]) -> Any:
    find_thread_seq(connection, key["of_project"], key["thread_id"])
    raise refusals.not_found("run", key["of_id"])
