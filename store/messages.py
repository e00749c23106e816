"""Messages: find, create, modify, delete."""

from types import SimpleNamespace
from typing import Any, NoReturn

import sqlalchemy as sa

from database import Connection
from models import Message, Thread
from rules import refusals
from rules.ids_and_clock import new_id, unix_now
from store import activity, stored_answers
from store.objects import Object, message_object, to_json
from store.tombstones import burial, bury

COLUMNS = Message.__table__.c
IS_THREAD = sa.and_(
    Thread.project == sa.bindparam("of_project"), Thread.id == sa.bindparam("thread_id")
)
FIND_THREAD_SEQ = sa.select(Thread.seq).where(IS_THREAD)
_ACTIVE_RUN = sa.select(Thread.active_run).where(IS_THREAD)
INSERT = sa.insert(Message)
_UNSET = dict.fromkeys(("assistant_id", "run_id", "incomplete_details", "incomplete_at"))
_IS_MESSAGE = sa.and_(
    Message.thread_seq == FIND_THREAD_SEQ.scalar_subquery(), Message.id == sa.bindparam("of_id")
)
_FIND = sa.select(*COLUMNS).where(_IS_MESSAGE)
# PostgreSQL sets `seq` before the commit. Appends to a thread therefore lock its row one by one:
# else a reader that pages forward could miss a message. SQLite has one writer at a time.
_TOUCH = activity.touch(IS_THREAD, Thread.active_run.is_(None)).returning(Thread.seq)
_HOLD = FIND_THREAD_SEQ.with_for_update(key_share=True)
_CHANGE = sa.update(Message).where(_IS_MESSAGE).values(metadata=sa.bindparam("new_metadata"))
_MODIFY = _CHANGE.returning(*COLUMNS)
_DELETE = sa.delete(Message).where(_IS_MESSAGE)
_PLACE = (Message.thread_seq, Message.id, Message.created_at, Message.seq)
_BURY = burial(sa.select(*_PLACE).where(_IS_MESSAGE))


def find_thread_seq(connection: Connection, project: str, thread_id: str) -> int:
    """Return the `seq` of a thread. Raises ApiError 404."""
    return _seq(connection, FIND_THREAD_SEQ, project, thread_id)


def hold_thread(connection: Connection, project: str, thread_id: str) -> int:
    """Let no other transaction change a thread; return its `seq`. Raises ApiError 404.

    What answers with an object of the thread holds it: its deletion then finds the stored answer.
    """
    return _seq(connection, _HOLD, project, thread_id)


def find_message(connection: Connection, project: str, thread_id: str, message_id: str) -> Object:
    """Return the message object. Raises ApiError 404, also for a message of another thread."""
    key = _key(project, thread_id, message_id)
    row = connection.row(_FIND, key)
    return message_object(row, thread_id) if row else _refuse(connection, key)


def create_message(connection: Connection, project: str, thread_id: str, body: Object) -> Object:
    """Append a loaded CreateMessage body; return the message object.

    Raises ApiError 404, and ThreadIsLocked (400) while the thread has an active run.
    """
    values = message_values(body, unix_now())
    key = {"of_project": project, "thread_id": thread_id}
    seq = connection.value(_TOUCH, {**key, "newest": values["created_at"]})
    if seq is not None:
        connection.change(INSERT, values | {"thread_seq": seq})
        return message_object(SimpleNamespace(**_UNSET, **values), thread_id)
    find_thread_seq(connection, project, thread_id)
    raise refusals.no_message_while_active(thread_id, connection.value(_ACTIVE_RUN, key))


def modify_message(
    connection: Connection, project: str, thread_id: str, message_id: str, body: dict[str, Any]
) -> Object:
    """Replace the metadata if the body has it; return the message object. Raises ApiError 404."""
    hold_thread(connection, project, thread_id)
    if "metadata" not in body:
        return find_message(connection, project, thread_id, message_id)
    key = _key(project, thread_id, message_id)
    row = connection.row(_MODIFY, {**key, "new_metadata": to_json(body["metadata"] or {})})
    return message_object(row, thread_id) if row else _refuse(connection, key)


def delete_message(connection: Connection, project: str, thread_id: str, message_id: str) -> None:
    """Delete a message. Raises ApiError 404."""
    key = _key(project, thread_id, message_id)
    seq = hold_thread(connection, project, thread_id)
    bury(connection, _BURY, key)
    if not connection.change(_DELETE, key):
        raise refusals.not_found("message", message_id)
    activity.settle(connection, seq)
    stored_answers.forget(connection, stored_answers.FORGET_MESSAGE, key)


def message_values(body: dict[str, Any], now: int) -> dict[str, Any]:
    """Return the column values of a loaded CreateMessage body."""
    return {
        "id": new_id("msg"),
        "created_at": now,
        "status": "completed",
        "completed_at": now,
        "role": body["role"],
        "content": to_json([_part(part) for part in body["content"]]),
        "attachments": to_json(body.get("attachments") or []),
        "metadata": to_json(body.get("metadata") or {}),
    }


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "text":
        return part
    return {"type": "text", "text": {"value": part["text"], "annotations": []}}


def _seq(connection: Connection, find: sa.Executable, project: str, thread_id: str) -> int:
    seq = connection.value(find, {"of_project": project, "thread_id": thread_id})
    if seq is None:
        raise refusals.not_found("thread", thread_id)
    return int(seq)


def _key(project: str, thread_id: str, message_id: str) -> dict[str, Any]:
    return {"of_project": project, "thread_id": thread_id, "of_id": message_id}


def _refuse(connection: Connection, key: dict[str, Any]) -> NoReturn:
    find_thread_seq(connection, key["of_project"], key["thread_id"])
    raise refusals.not_found("message", key["of_id"])
