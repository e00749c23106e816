"""Threads: find, create, modify."""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from database import Connection
from models import Thread
from rules import refusals
from rules.ids_and_clock import new_id, new_vector_store_id
from store import activity, messages, tombstones
from store.messages import IS_THREAD
from store.newest import next_second
from store.objects import Object, thread_object, to_json

COLUMNS = Thread.__table__.c
_TOUCH = activity.next_touch(sa.bindparam("of_project"), sa.bindparam("of_second"))
_INSERT = sa.insert(Thread).values(touch=_TOUCH).returning(*COLUMNS)
_INSERT_TOUCHED = sa.insert(Thread).returning(*COLUMNS)
_FIND = sa.select(*COLUMNS).where(IS_THREAD)
_PLACE = (Thread.created_at, Thread.seq, Thread.last_active_at, Thread.touch)
_FIND_PLACE = sa.select(*_PLACE).where(IS_THREAD)
_IS_TAKEN = sa.select(Thread.seq).where(Thread.seq == sa.bindparam("of_seq"))


def find_row(connection: Connection, project: str, thread_id: str) -> Any:
    """Return the row of a thread. Raises ApiError 404."""
    row = connection.row(_FIND, {"of_project": project, "thread_id": thread_id})
    if not row:
        raise refusals.not_found("thread", thread_id)
    return row


def find_thread(connection: Connection, project: str, thread_id: str) -> Object:
    """Return the thread object. Raises ApiError 404."""
    return thread_object(find_row(connection, project, thread_id))


def create_thread(connection: Connection, project: str, body: dict[str, Any]) -> Object:
    """Store a loaded CreateThread body and its messages, in order; return the thread object."""
    now = next_second(connection, project, "thread")
    values = {
        "project": project,
        "id": new_id("thread"),
        "created_at": now,
        "metadata": to_json(body.get("metadata") or {}),
        "tool_resources": to_json(stored_resources(body.get("tool_resources"))),
    }
    row = insert(connection, values)
    first = body.get("messages") or ()
    rows = ({**messages.message_values(each, now), "thread_seq": row.seq} for each in first)
    connection.change_many(messages.INSERT, rows)
    return thread_object(row)


def place_of(connection: Connection, project: str, thread_id: str) -> Any:
    """Return the place of a thread in its lists, or None."""
    return connection.row(_FIND_PLACE, {"of_project": project, "thread_id": thread_id})


def insert(
    connection: Connection, values: dict[str, Any], newest: int = 0, place: Any = None
) -> Any:
    """Store a thread whose newest message is to be of the second `newest`; return its row.

    `place` is the one that it had before: readers of a list go on from there.
    """
    second = max(values["created_at"], newest)
    values = {**values, "last_active_at": second}
    if place and _has_again(connection, values, place):
        values["seq"] = place.seq
        tombstones.forget_messages(connection, values["project"], place.seq)
    if place and place.last_active_at == second:
        return connection.row(_INSERT_TOUCHED, {**values, "touch": place.touch})
    key = {"of_project": values["project"], "of_second": second}
    return connection.row(_INSERT, {**values, **key})


def _has_again(connection: Connection, values: dict[str, Any], place: Any) -> bool:
    """Return whether a thread can have its `seq` again: one that is being deleted still has it."""
    is_same = place.created_at == values["created_at"]
    return is_same and connection.value(_IS_TAKEN, {"of_seq": place.seq}) is None


def modify_thread(connection: Connection, project: str, thread_id: str, body: Object) -> Object:
    """Replace the fields of a loaded ModifyThread body; return the object. Raises ApiError 404."""
    # With one UPDATE, requests on different fields never undo each other.
    if not body:
        messages.hold_thread(connection, project, thread_id)
        return find_thread(connection, project, thread_id)
    values = {"of_project": project, "thread_id": thread_id}
    if "metadata" in body:
        values["new_metadata"] = to_json(body["metadata"] or {})
    if "tool_resources" in body:
        values["new_tool_resources"] = to_json(stored_resources(body["tool_resources"]))
    row = connection.row(_update(tuple(sorted(body))), values)
    if not row:
        raise refusals.not_found("thread", thread_id)
    return thread_object(row)


@lru_cache
def _update(names: tuple[str, ...]) -> sa.Executable:
    changed = {name: sa.bindparam(f"new_{name}", type_=sa.Text) for name in names}
    return sa.update(Thread).where(IS_THREAD).values(changed).returning(*COLUMNS)


def stored_resources(resources: dict[str, Any] | None) -> dict[str, Any]:
    """Return tool resources as stored: `vector_stores` become ids (wire reference, decision 12)."""
    stored = dict(resources or {})
    if "vector_stores" in (search := stored.get("file_search", {})):
        minted = [new_vector_store_id() for _ in search["vector_stores"]]
        stored["file_search"] = {"vector_store_ids": search.get("vector_store_ids", minted)}
    return stored
