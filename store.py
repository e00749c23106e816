"""The statements on threads and messages: what the API, the pages and the commands share.

Each takes a connection of database.read, snapshot or write and runs inside that transaction.
"""

from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite knows ON CONFLICT in the same words

from errors import ApiError
from models import Message, Thread, Tombstone, new_id, new_vector_store_id, unix_now
from wire import MESSAGE_COLUMNS, THREAD_COLUMNS, message_to_wire, thread_to_wire, to_json

Selected = sa.Select[*tuple[Any, ...]]
TOMBSTONE_SECONDS = 86_400
_NOT_COPIED = {"seq", "thread_seq", "id"}

_IS_THREAD = sa.and_(
    Thread.project == sa.bindparam("of_project"), Thread.id == sa.bindparam("of_id")
)
_IS_MESSAGE = sa.and_(
    Message.thread_seq == sa.bindparam("of_thread"), Message.id == sa.bindparam("of_id")
)
_FIND_THREAD = sa.select(*THREAD_COLUMNS).where(_IS_THREAD)
_FIND_THREAD_SEQ = sa.select(Thread.seq).where(_IS_THREAD)
# PostgreSQL hands out `seq` before the commit: appends to a thread take turns on its row, so that
# no reader who pages forward passes a message that is yet to come. SQLite has one turn for all.
_LOCK_THREAD_SEQ = _FIND_THREAD_SEQ.with_for_update(key_share=True)
_FIND_MESSAGE = sa.select(*MESSAGE_COLUMNS).where(_IS_MESSAGE)
_INSERT_THREAD = sa.insert(Thread).returning(Thread.seq, *THREAD_COLUMNS)
_INSERT_MESSAGE = sa.insert(Message).returning(*MESSAGE_COLUMNS)
_INSERT_MESSAGES = sa.insert(Message)
_UPDATE_THREAD = sa.update(Thread).where(_IS_THREAD).returning(*THREAD_COLUMNS)
_UPDATE_MESSAGE = sa.update(Message).where(_IS_MESSAGE).returning(*MESSAGE_COLUMNS)
_COPY_COLUMNS = tuple(column for column in Message.__table__.c if column.name not in _NOT_COPIED)
_PLAIN_IN_EXPORT = (
    "id",
    "created_at",
    "assistant_id",
    "run_id",
    "status",
    "completed_at",
    "incomplete_at",
    "role",
)
_COPY_MESSAGES = 500
_TOMBSTONE_KEY = ["project", "thread_seq", "id"]


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
    if not delete_threads(connection, project, sa.and_(Thread.id == thread_id)):
        _refuse_thread(thread_id)


def delete_threads(connection: sa.Connection, project: str, which: sa.ColumnElement[bool]) -> int:
    """Delete the project's threads that meet a condition; return how many there were.

    They are locked first, so that an append that is under way counts when the condition is asked.
    """
    gone = sa.and_(Thread.project == project, which)
    connection.execute(sa.select(Thread.seq).where(gone).order_by(Thread.seq).with_for_update())
    places = (sa.literal(0), Thread.id, Thread.created_at, Thread.seq)
    _bury(connection, project, sa.select(*places).where(gone))
    return connection.execute(sa.delete(Thread).where(gone)).rowcount


def copy_thread(
    connection: sa.Connection, project: str, thread_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Store a new thread with the same messages under new ids; return the thread object.

    A loaded CopyThread body may replace the metadata. Raises ApiError 404.
    """
    original = find_thread(connection, project, thread_id)
    values = {
        "project": project,
        "id": new_id("thread"),
        "created_at": unix_now(),
        "metadata": to_json(body.get("metadata", original["metadata"]) or {}),
        "tool_resources": to_json(original["tool_resources"]),
    }
    row = connection.execute(_INSERT_THREAD, values).one()
    messages = (
        sa.select(*_COPY_COLUMNS)
        .where(Message.thread_seq == find_thread_seq(connection, project, thread_id))
        .order_by(Message.seq)
        .execution_options(yield_per=_COPY_MESSAGES)
    )
    copied = connection.execute(messages)
    for rows in copied.mappings().partitions():
        fresh = [{**message, "thread_seq": row.seq, "id": new_id("msg")} for message in rows]
        connection.execute(_INSERT_MESSAGES, fresh)
    return thread_to_wire(row)


def insert_exported(
    connection: sa.Connection, project: str, line: dict[str, Any], on_conflict: str
) -> str:
    """Store a loaded ExportedThread with its ids and times.

    Return `imported`, `replaced`, `skipped`, or `refused` where the thread exists already.
    """
    thread = line["thread"]
    this = sa.and_(Thread.project == project, Thread.id == thread["id"])
    exists = connection.execute(sa.select(Thread.seq).where(this)).first() is not None
    if exists and on_conflict != "replace":
        return "skipped" if on_conflict == "skip" else "refused"
    if exists:
        connection.execute(sa.delete(Thread).where(this))
    values = {
        "project": project,
        "id": thread["id"],
        "created_at": thread["created_at"],
        "metadata": to_json(thread["metadata"] or {}),
        "tool_resources": to_json(thread["tool_resources"] or {}),
    }
    row = connection.execute(_INSERT_THREAD, values).one()
    if messages := [_exported_values(row.seq, message) for message in line["messages"]]:
        connection.execute(_INSERT_MESSAGES, messages)
    return "replaced" if exists else "imported"


def _exported_values(thread_seq: int, message: dict[str, Any]) -> dict[str, Any]:
    values = {key: message[key] for key in _PLAIN_IN_EXPORT} | {"thread_seq": thread_seq}
    details = message["incomplete_details"]
    return values | {
        "incomplete_details": details and to_json(details),
        "content": to_json(message["content"]),
        "attachments": to_json(message["attachments"] or []),
        "metadata": to_json(message["metadata"] or {}),
    }


def find_thread_seq(connection: sa.Connection, project: str, thread_id: str) -> int:
    """Return the key that a thread's messages refer to. Raises ApiError 404."""
    seq = connection.execute(_FIND_THREAD_SEQ, _key(project, thread_id)).scalar()
    return _refuse_thread(thread_id) if seq is None else seq


def find_message(
    connection: sa.Connection, project: str, thread_id: str, message_id: str
) -> dict[str, Any]:
    """Return the message object. Raises ApiError 404, also for a message of another thread."""
    key = _message_key(connection, project, thread_id, message_id)
    row = connection.execute(_FIND_MESSAGE, key).first()
    return message_to_wire(row or _refuse_message(message_id), thread_id)


def create_message(
    connection: sa.Connection, project: str, thread_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Append a loaded CreateMessage body; return the message object. Raises ApiError 404."""
    seq = connection.execute(_LOCK_THREAD_SEQ, _key(project, thread_id)).scalar()
    if seq is None:
        _refuse_thread(thread_id)
    values = _message_values(seq, body, unix_now())
    return message_to_wire(connection.execute(_INSERT_MESSAGE, values).one(), thread_id)


def modify_message(
    connection: sa.Connection, project: str, thread_id: str, message_id: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Replace the metadata if the body gives it; return the message object. Raises ApiError 404."""
    if "metadata" not in body:
        return find_message(connection, project, thread_id, message_id)
    key = _message_key(connection, project, thread_id, message_id)
    change = _UPDATE_MESSAGE.values(metadata=to_json(body["metadata"] or {}))
    row = connection.execute(change, key).first()
    return message_to_wire(row or _refuse_message(message_id), thread_id)


def delete_message(
    connection: sa.Connection, project: str, thread_id: str, message_id: str
) -> None:
    """Delete a message. Raises ApiError 404."""
    seq = find_thread_seq(connection, project, thread_id)
    gone = sa.and_(Message.thread_seq == seq, Message.id == message_id)
    places = (Message.thread_seq, Message.id, Message.created_at, Message.seq)
    _bury(connection, project, sa.select(*places).where(gone))
    if not connection.execute(sa.delete(Message).where(gone)).rowcount:
        _refuse_message(message_id)


def _bury(connection: sa.Connection, project: str, places: Selected) -> None:
    """Keep the places of what is about to be deleted, and forget those that are too old."""
    now = unix_now()
    rows = places.add_columns(sa.literal(project), sa.literal(now, Tombstone.deleted_at.type))
    names = ["thread_seq", "id", "created_at", "seq", "project", "deleted_at"]
    buried = insert(Tombstone).from_select(names, rows)
    moved = {name: buried.excluded[name] for name in ("created_at", "seq", "deleted_at")}
    connection.execute(buried.on_conflict_do_update(index_elements=_TOMBSTONE_KEY, set_=moved))
    too_old = Tombstone.deleted_at <= now - TOMBSTONE_SECONDS
    connection.execute(sa.delete(Tombstone).where(too_old))


def _key(project: str, id_: str) -> dict[str, str]:
    return {"of_project": project, "of_id": id_}


def _message_key(
    connection: sa.Connection, project: str, thread_id: str, message_id: str
) -> dict[str, Any]:
    return {"of_thread": find_thread_seq(connection, project, thread_id), "of_id": message_id}


def _refuse_message(message_id: str) -> NoReturn:
    raise ApiError(404, f"No message found with id '{message_id}'.")


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
