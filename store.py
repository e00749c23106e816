"""The statements on threads and messages: what the API, the pages and the commands share.

Each takes a connection of database.read, snapshot or write and runs inside that transaction;
threads and messages come back as the JSON text that goes out.
"""

from functools import lru_cache
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite knows ON CONFLICT in the same words

from database import Connection
from errors import ApiError
from models import Message, Thread, Tombstone, new_id, new_vector_store_id, unix_now
from wire import CREATED, MESSAGE, THREAD, message_to_wire, thread_to_wire, to_json

TOMBSTONE_SECONDS = 86_400

_IS_THREAD = sa.and_(
    Thread.project == sa.bindparam("of_project"), Thread.id == sa.bindparam("thread_id")
)
_IS_MESSAGE = sa.and_(
    Message.thread_seq == sa.select(Thread.seq).where(_IS_THREAD).scalar_subquery(),
    Message.id == sa.bindparam("of_id"),
)
_FIND_THREAD = sa.select(THREAD).where(_IS_THREAD)
_FIND_THREAD_SEQ = sa.select(Thread.seq).where(_IS_THREAD)
# PostgreSQL hands out `seq` before the commit: appends to a thread take turns on its row, so that
# no reader who pages forward passes a message that is yet to come. SQLite has one turn for all.
_LOCKED_THREAD_SEQ = _FIND_THREAD_SEQ.with_for_update(key_share=True)
_FIND_MESSAGE = sa.select(MESSAGE).where(_IS_MESSAGE)
_INSERT_THREAD = sa.insert(Thread)
_INSERT_THREAD_SEQ = sa.insert(Thread).returning(Thread.seq)
_INSERT_MESSAGES = sa.insert(Message)
_INSERT_CREATED = sa.insert(Message)  # of fewer columns
_APPEND_MESSAGE = sa.insert(Message).from_select(
    ["thread_seq", *CREATED],
    _LOCKED_THREAD_SEQ.add_columns(
        *(sa.bindparam(name, type_=Message.__table__.c[name].type) for name in CREATED)
    ),
)
_UPDATE_MESSAGE = (
    sa.update(Message)
    .where(_IS_MESSAGE)
    .values(metadata=sa.bindparam("new_metadata"))
    .returning(MESSAGE)
)
_DELETE_MESSAGE = sa.delete(Message).where(_IS_MESSAGE)
_DELETE_SEQ = sa.delete(Thread).where(Thread.seq == sa.bindparam("seq"))
_IS_NAMED = Thread.id == sa.bindparam("thread_id")
_COPY_THREAD = (
    sa.insert(Thread)
    .from_select(
        ["project", "id", "created_at", "metadata", "tool_resources"],
        sa.select(
            Thread.project,
            sa.bindparam("new_id", type_=sa.Text),
            sa.bindparam("now", type_=sa.BigInteger),
            sa.func.coalesce(sa.bindparam("new_metadata", type_=sa.Text), Thread.metadata_),
            Thread.tool_resources,
        ).where(_IS_THREAD),
    )
    .returning(Thread.seq, THREAD.label("wired"))
)
_NOT_COPIED = ("seq", "thread_seq", "id")
_COPIED = [column.name for column in Message.__table__.c if column.name not in _NOT_COPIED]
_COPIED_MESSAGES = (
    sa.select(*(Message.__table__.c[name] for name in _COPIED))
    .where(Message.thread_seq == _FIND_THREAD_SEQ.scalar_subquery())
    .order_by(Message.seq)
)
_COPIED_AT_ONCE = 500
_TOMBSTONE_KEY = ["project", "thread_seq", "id"]
_FORGET = sa.delete(Tombstone).where(Tombstone.deleted_at <= sa.bindparam("too_old"))


def find_thread(connection: Connection, project: str, thread_id: str) -> str:
    """Return the thread object. Raises ApiError 404."""
    found: str = connection.value(_FIND_THREAD, _key(project, thread_id))
    return found or _refuse_thread(thread_id)


def create_thread(connection: Connection, project: str, body: dict[str, Any]) -> str:
    """Store a loaded CreateThread body and its messages, in order; return the thread object."""
    now = unix_now()
    values = {
        "project": project,
        "id": new_id("thread"),
        "created_at": now,
        "metadata": to_json(body.get("metadata") or {}),
        "tool_resources": to_json(_resources(body.get("tool_resources"))),
    }
    if not (messages := body.get("messages")):
        connection.change(_INSERT_THREAD, values)
        return thread_to_wire(values)
    rows = [_message_values(message, now) for message in messages]
    connection.together(lambda connection: _insert(connection, values, rows))
    return thread_to_wire(values)


def _insert(connection: Connection, thread: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    seq = connection.value(_INSERT_THREAD_SEQ, thread)
    connection.change_many(_INSERT_CREATED, [{**row, "thread_seq": seq} for row in messages])


def modify_thread(
    connection: Connection, project: str, thread_id: str, body: dict[str, Any]
) -> str:
    """Replace what a loaded ModifyThread body gives, leave the rest; return the thread object.

    Raises ApiError 404. One UPDATE, so that requests on different fields never undo each other.
    """
    if not body:
        return find_thread(connection, project, thread_id)
    values = _key(project, thread_id)
    if "metadata" in body:
        values["new_metadata"] = to_json(body["metadata"] or {})
    if "tool_resources" in body:
        values["new_tool_resources"] = to_json(_resources(body["tool_resources"]))
    found: str = connection.value(_update_thread(tuple(sorted(body))), values)
    return found or _refuse_thread(thread_id)


@lru_cache
def _update_thread(names: tuple[str, ...]) -> sa.Executable:
    changed = {name: sa.bindparam(f"new_{name}", type_=sa.Text) for name in names}
    return sa.update(Thread).where(_IS_THREAD).values(changed).returning(THREAD)


def delete_thread(connection: Connection, project: str, thread_id: str) -> None:
    """Delete a thread and, by cascade, its messages. Raises ApiError 404."""
    if not delete_threads(connection, project, _IS_NAMED, {"thread_id": thread_id}):
        _refuse_thread(thread_id)


def delete_threads(
    connection: Connection,
    project: str,
    which: sa.ColumnElement[bool],
    values: dict[str, Any] | None = None,
) -> int:
    """Delete the project's threads that meet a condition; return how many there were.

    They are locked first, so that an append that is under way counts when the condition is asked.
    """
    given = {"of_project": project, **(values or {})}
    lock, places, delete = _delete_statements(which)
    connection.rows(lock, given)
    _bury(connection, places, given)
    return connection.change(delete, given)


@lru_cache(maxsize=8)
def _delete_statements(which: sa.ColumnElement[bool]) -> tuple[sa.Executable, ...]:
    gone = sa.and_(Thread.project == sa.bindparam("of_project"), which)
    lock = sa.select(Thread.seq).where(gone).order_by(Thread.seq).with_for_update()
    places = sa.select(sa.literal(0), Thread.id, Thread.created_at, Thread.seq).where(gone)
    return lock, _burial(places), sa.delete(Thread).where(gone)


def copy_thread(connection: Connection, project: str, thread_id: str, body: dict[str, Any]) -> str:
    """Store a new thread with the same messages under new ids; return the thread object.

    A loaded CopyThread body may replace the metadata. Raises ApiError 404.
    """
    values = _key(project, thread_id) | {"new_id": new_id("thread"), "now": unix_now()}
    values["new_metadata"] = to_json(body["metadata"] or {}) if "metadata" in body else None
    rows = connection.rows(_COPY_THREAD, values)
    if not rows:
        _refuse_thread(thread_id)
    batches = connection.batches(_COPIED_MESSAGES, _key(project, thread_id), _COPIED_AT_ONCE)
    for batch in batches:
        fresh = [dict(zip(_COPIED, message, strict=True)) for message in batch]
        new = {"thread_seq": rows[0].seq}
        connection.change_many(
            _INSERT_MESSAGES, [{**message, **new, "id": new_id("msg")} for message in fresh]
        )
    return str(rows[0].wired)


def insert_exported(
    connection: Connection, project: str, line: dict[str, Any], on_conflict: str
) -> str:
    """Store a loaded ExportedThread with its ids and times.

    Return `imported`, `replaced`, `skipped`, or `refused` where the thread exists already.
    """
    thread = line["thread"]
    seq = connection.value(_FIND_THREAD_SEQ, _key(project, thread["id"]))
    if seq is not None and on_conflict != "replace":
        return "skipped" if on_conflict == "skip" else "refused"
    if seq is not None:
        connection.change(_DELETE_SEQ, {"seq": seq})
    values = {
        "project": project,
        "id": thread["id"],
        "created_at": thread["created_at"],
        "metadata": to_json(thread["metadata"] or {}),
        "tool_resources": to_json(thread["tool_resources"] or {}),
    }
    new_seq = connection.value(_INSERT_THREAD_SEQ, values)
    if messages := [_exported_values(new_seq, message) for message in line["messages"]]:
        connection.change_many(_INSERT_MESSAGES, messages)
    return "imported" if seq is None else "replaced"


def _exported_values(thread_seq: int, message: dict[str, Any]) -> dict[str, Any]:
    none = {"attachments": message["attachments"] or [], "metadata": message["metadata"] or {}}
    given = message | none
    plain = {name: given[name] for name in ("id", *_COPIED)}
    values = {name: to_json(it) if type(it) in (dict, list) else it for name, it in plain.items()}
    return values | {"thread_seq": thread_seq}


def find_thread_seq(connection: Connection, project: str, thread_id: str) -> int:
    """Return the key that a thread's messages refer to. Raises ApiError 404."""
    seq: int | None = connection.value(_FIND_THREAD_SEQ, _key(project, thread_id))
    return _refuse_thread(thread_id) if seq is None else seq


def find_message(connection: Connection, project: str, thread_id: str, message_id: str) -> str:
    """Return the message object. Raises ApiError 404, also for a message of another thread."""
    key = {**_key(project, thread_id), "of_id": message_id}
    found: str = connection.value(_FIND_MESSAGE, key)
    return found or _refuse_message(connection, key)


def create_message(
    connection: Connection, project: str, thread_id: str, body: dict[str, Any]
) -> str:
    """Append a loaded CreateMessage body; return the message object. Raises ApiError 404."""
    values = _message_values(body, unix_now())
    if not connection.change(_APPEND_MESSAGE, {**_key(project, thread_id), **values}):
        _refuse_thread(thread_id)
    return message_to_wire(values, thread_id)


def modify_message(
    connection: Connection, project: str, thread_id: str, message_id: str, body: dict[str, Any]
) -> str:
    """Replace the metadata if the body gives it; return the message object. Raises ApiError 404."""
    if "metadata" not in body:
        return find_message(connection, project, thread_id, message_id)
    key = {**_key(project, thread_id), "of_id": message_id}
    values = {**key, "new_metadata": to_json(body["metadata"] or {})}
    found: str = connection.value(_UPDATE_MESSAGE, values)
    return found or _refuse_message(connection, key)


def delete_message(connection: Connection, project: str, thread_id: str, message_id: str) -> None:
    """Delete a message. Raises ApiError 404."""
    key = {**_key(project, thread_id), "of_id": message_id}
    _bury(connection, _BURY_MESSAGE, key)
    if not connection.change(_DELETE_MESSAGE, key):
        _refuse_message(connection, key)


def _burial(places: sa.Select[*tuple[Any, ...]]) -> sa.Executable:
    """Return the statement that keeps the places of what is about to be deleted."""
    rows = places.add_columns(
        sa.bindparam("of_project", type_=sa.Text), sa.bindparam("now", type_=sa.BigInteger)
    )
    names = ["thread_seq", "id", "created_at", "seq", "project", "deleted_at"]
    buried = insert(Tombstone).from_select(names, rows)
    moved = {name: buried.excluded[name] for name in ("created_at", "seq", "deleted_at")}
    return buried.on_conflict_do_update(index_elements=_TOMBSTONE_KEY, set_=moved)


_BURY_MESSAGE = _burial(
    sa.select(Message.thread_seq, Message.id, Message.created_at, Message.seq).where(_IS_MESSAGE)
)


def _bury(connection: Connection, burial: sa.Executable, values: dict[str, Any]) -> None:
    """Keep the places of what is about to be deleted, and forget those that are too old."""
    now = unix_now()
    connection.change(burial, {**values, "now": now})
    connection.change(_FORGET, {"too_old": now - TOMBSTONE_SECONDS})


def _key(project: str, thread_id: str) -> dict[str, Any]:
    return {"of_project": project, "thread_id": thread_id}


def _refuse_message(connection: Connection, key: dict[str, Any]) -> NoReturn:
    find_thread_seq(connection, key["of_project"], key["thread_id"])
    raise ApiError(404, f"No message found with id '{key['of_id']}'.")


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


def _message_values(message: dict[str, Any], now: int) -> dict[str, Any]:
    """Return the column values of a loaded CreateMessage body; the rest, of runs, is null."""
    return {
        "id": new_id("msg"),
        "created_at": now,
        "status": "completed",
        "completed_at": now,
        "role": message["role"],
        "content": to_json([_part(part) for part in message["content"]]),
        "attachments": to_json(message.get("attachments") or []),
        "metadata": to_json(message.get("metadata") or {}),
    }


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "text":
        return part
    return {"type": "text", "text": {"value": part["text"], "annotations": []}}
