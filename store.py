"""The statements on threads and messages: what the API, the pages and the commands share.

Each takes a connection of database.read, snapshot or write and runs inside that transaction.
"""

from typing import Any, NoReturn

import sqlalchemy as sa

from errors import ApiError
from models import Message, Thread, new_id, new_vector_store_id, unix_now
from wire import THREAD_COLUMNS, thread_to_wire, to_json

_IS_THREAD = sa.and_(
    Thread.project == sa.bindparam("of_project"), Thread.id == sa.bindparam("of_id")
)
_FIND_THREAD = sa.select(*THREAD_COLUMNS).where(_IS_THREAD)
_DELETE_THREAD = sa.delete(Thread).where(_IS_THREAD)
_UPDATE_THREAD = sa.update(Thread).where(_IS_THREAD).returning(*THREAD_COLUMNS)
_INSERT_THREAD = sa.insert(Thread).returning(Thread.seq, *THREAD_COLUMNS)
_INSERT_MESSAGES = sa.insert(Message)


def find_thread(connection: sa.Connection, project: str, thread_id: str) -> dict[str, Any]:
    """Return the thread object. Raises ApiError 404."""
    row = connection.execute(_FIND_THREAD, _key(project, thread_id)).first()
    return thread_to_wire(row or _refuse_thread(thread_id))


def create_thread(connection: sa.Connection, project: str, body: dict[str, Any]) -> dict[str, Any]:
    """Store a loaded CreateThread body and its messages, in order; return the thread object."""
    now = unix_now()
    values = {
        "project": project,
        "id": new_id("thread"),
        "created_at": now,
        "metadata": to_json(body.get("metadata") or {}),
        "tool_resources": to_json(_resources(body.get("tool_resources"))),
    }
    row = connection.execute(_INSERT_THREAD, values).one()
    if messages := body.get("messages"):
        rows = [_message_values(row.seq, message, now) for message in messages]
        connection.execute(_INSERT_MESSAGES, rows)
    return thread_to_wire(row)


def modify_thread(
    connection: sa.Connection, project: str, thread_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Replace what a loaded ModifyThread body gives, leave the rest; return the thread object.

    Raises ApiError 404. One UPDATE, so that requests on different fields never undo each other.
    """
    if not body:
        return find_thread(connection, project, thread_id)
    changed = {}
    if "metadata" in body:
        changed["metadata"] = to_json(body["metadata"] or {})
    if "tool_resources" in body:
        changed["tool_resources"] = to_json(_resources(body["tool_resources"]))
    row = connection.execute(_UPDATE_THREAD.values(changed), _key(project, thread_id)).first()
    return thread_to_wire(row or _refuse_thread(thread_id))


def delete_thread(connection: sa.Connection, project: str, thread_id: str) -> None:
    """Delete a thread and, by cascade, its messages. Raises ApiError 404."""
    if not connection.execute(_DELETE_THREAD, _key(project, thread_id)).rowcount:
        _refuse_thread(thread_id)


def _key(project: str, id_: str) -> dict[str, str]:
    return {"of_project": project, "of_id": id_}


def _refuse_thread(thread_id: str) -> NoReturn:
    raise ApiError(404, f"No thread found with id '{thread_id}'.")


def _resources(given: dict[str, Any] | None) -> dict[str, Any]:
    """Return tool resources as they are stored: `vector_stores` becomes one minted id.

    Source: wire reference, decision 12 (given ids win, nothing is minted beside them).
    """
    resources = dict(given or {})
    if "vector_stores" in (search := resources.get("file_search", {})):
        minted = [new_vector_store_id() for _ in search["vector_stores"]]
        resources["file_search"] = {"vector_store_ids": search.get("vector_store_ids", minted)}
    return resources


def _message_values(thread_seq: int, message: dict[str, Any], now: int) -> dict[str, Any]:
    """Return the column values of a loaded CreateMessage body."""
    return {
        "thread_seq": thread_seq,
        "id": new_id("msg"),
        "created_at": now,
        "assistant_id": None,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": now,
        "incomplete_at": None,
        "role": message["role"],
        "content": to_json([_part(part) for part in message["content"]]),
        "attachments": to_json(message.get("attachments") or []),
        "metadata": to_json(message.get("metadata") or {}),
    }


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "text":
        return part
    return {"type": "text", "text": {"value": part["text"], "annotations": []}}
