"""Threads: find, create, modify."""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from database import Connection
from models import Thread
from rules import refusals
from store import messages
from store.ids_and_clock import new_id, new_vector_store_id, unix_now
from store.messages import IS_THREAD
from store.objects import Object, thread_object, to_json

COLUMNS = Thread.__table__.c
INSERT = sa.insert(Thread).returning(*COLUMNS)
FIND = sa.select(*COLUMNS).where(IS_THREAD)


def find_thread(connection: Connection, project: str, thread_id: str) -> Object:
    """Return the thread object. Raises ApiError 404."""
    row = connection.row(FIND, {"of_project": project, "thread_id": thread_id})
    if not row:
        raise refusals.not_found("thread", thread_id)
    return thread_object(row)


def create_thread(connection: Connection, project: str, body: dict[str, Any]) -> Object:
    """Store a loaded CreateThread body and its messages, in order; return the thread object."""
    now = unix_now()
    values = {
        "project": project,
        "id": new_id("thread"),
        "created_at": now,
        "metadata": to_json(body.get("metadata") or {}),
        "tool_resources": to_json(_resources(body.get("tool_resources"))),
    }
    row = connection.row(INSERT, values)
    rows = [messages.message_values(message, now) for message in body.get("messages") or ()]
    if rows:
        connection.change_many(messages.INSERT, [{**each, "thread_seq": row.seq} for each in rows])
    return thread_object(row)


def modify_thread(
    connection: Connection, project: str, thread_id: str, body: dict[str, Any]
) -> Object:
    """Replace what a loaded ModifyThread body has, leave the rest; return the thread object.

    Raises ApiError 404. One UPDATE, so that requests on different fields never undo each other.
    """
    if not body:
        return find_thread(connection, project, thread_id)
    values = {"of_project": project, "thread_id": thread_id}
    if "metadata" in body:
        values["new_metadata"] = to_json(body["metadata"] or {})
    if "tool_resources" in body:
        values["new_tool_resources"] = to_json(_resources(body["tool_resources"]))
    row = connection.row(_update(tuple(sorted(body))), values)
    if not row:
        raise refusals.not_found("thread", thread_id)
    return thread_object(row)


@lru_cache
def _update(names: tuple[str, ...]) -> sa.Executable:
    changed = {name: sa.bindparam(f"new_{name}", type_=sa.Text) for name in names}
    return sa.update(Thread).where(IS_THREAD).values(changed).returning(*COLUMNS)


def _resources(resources: dict[str, Any] | None) -> dict[str, Any]:
    """Return tool resources as they are stored: `vector_stores` becomes one minted id.

    Ids that the body has win, and nothing is minted beside them. Source: wire reference,
    decision 12.
    """
    stored = dict(resources or {})
    if "vector_stores" in (search := stored.get("file_search", {})):
        minted = [new_vector_store_id() for _ in search["vector_stores"]]
        stored["file_search"] = {"vector_store_ids": search.get("vector_store_ids", minted)}
    return stored
