"""Assistants: find, create, modify, delete."""

from typing import Any

import sqlalchemy as sa

from database import Connection
from models import Assistant
from rules import refusals
from rules.ids_and_clock import new_id
from store import stored_answers
from store.newest import next_second
from store.objects import Object, assistant_object, decoded, to_json
from store.threads import stored_resources
from store.tombstones import burial, bury

COLUMNS = Assistant.__table__.c
_INSERT = sa.insert(Assistant).returning(*COLUMNS)
_IF_NULL: dict[str, Any] = {
    "tools": [],
    "top_p": 1.0,
    "temperature": 1.0,
    "tool_resources": {},
    "metadata": {},
    "response_format": "auto",
}
JSON_COLUMNS = tuple(_IF_NULL)
_TEXT_COLUMNS = ("name", "description", "model", "instructions", "reasoning_effort")
_SETTINGS = (*_TEXT_COLUMNS, *JSON_COLUMNS)
_IS_ASSISTANT = sa.and_(
    Assistant.project == sa.bindparam("of_project"), Assistant.id == sa.bindparam("of_id")
)
_FIND = sa.select(*COLUMNS).where(_IS_ASSISTANT)
_FIND_SEQ = sa.select(Assistant.seq).where(_IS_ASSISTANT)
_LOCK = _FIND.with_for_update()
_NEW: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=sa.Text) for name in _SETTINGS}
_MODIFY = sa.update(Assistant).where(_IS_ASSISTANT).values(_NEW).returning(*COLUMNS)
_DELETE = sa.delete(Assistant).where(_IS_ASSISTANT)
_PLACE = (sa.literal(0).label("thread_seq"), Assistant.id, Assistant.created_at, Assistant.seq)
_BURY = burial(sa.select(*_PLACE).where(_IS_ASSISTANT))


def find_row(connection: Connection, project: str, assistant_id: str) -> Any:
    """Return the row of an assistant. Raises ApiError 404."""
    return _found(connection.row(_FIND, _key(project, assistant_id)), assistant_id)


def exists(connection: Connection, project: str, assistant_id: str) -> bool:
    """Return whether a project has an assistant."""
    return connection.row(_FIND_SEQ, _key(project, assistant_id)) is not None


def find_assistant(connection: Connection, project: str, assistant_id: str) -> Object:
    """Return the assistant object. Raises ApiError 404."""
    return assistant_object(find_row(connection, project, assistant_id))


def create_assistant(connection: Connection, project: str, body: Object) -> Object:
    """Store a loaded CreateAssistant body; return the assistant object."""
    second = next_second(connection, project, "assistant")
    return insert(connection, project, body | {"id": new_id("asst"), "created_at": second})


def insert(connection: Connection, project: str, assistant: Object, place: Any = None) -> Object:
    """Store an assistant with an id and a time of its own; return the assistant object.

    `place` is the one that it had before: readers of a list go on from there.
    """
    own = {"project": project, **{name: assistant[name] for name in ("id", "created_at")}}
    if place and place.created_at == assistant["created_at"]:
        own["seq"] = place.seq
    return assistant_object(connection.row(_INSERT, own | setting_values(assistant)))


def modify_assistant(
    connection: Connection, project: str, assistant_id: str, body: Object
) -> Object:
    """Replace what a loaded ModifyAssistant body has; return the object. Raises ApiError 404."""
    # The lock holds off requests on other fields: neither undoes the other.
    key = _key(project, assistant_id)
    before = assistant_object(_found(connection.row(_LOCK, key), assistant_id))
    if not body:
        return before
    values = setting_values(decoded(before) | body)
    new = {f"new_{name}": value for name, value in values.items()}
    return assistant_object(connection.row(_MODIFY, key | new))


def delete_assistant(connection: Connection, project: str, assistant_id: str) -> None:
    """Delete an assistant. Raises ApiError 404."""
    key = _key(project, assistant_id)
    bury(connection, _BURY, key)
    if not connection.change(_DELETE, key):
        raise refusals.not_found("assistant", assistant_id)
    # The answers about an assistant are filed under its own id.
    answers = {"of_project": project, "thread_id": assistant_id}
    stored_answers.forget(connection, stored_answers.FORGET_THREAD, answers)


def setting_values(settings: Object) -> dict[str, Any]:
    """Return the column values of an assistant's settings. Absent and null ones have defaults."""
    values: dict[str, Any] = {name: settings.get(name) for name in _SETTINGS}
    values |= {name: value for name, value in _IF_NULL.items() if values[name] is None}
    resources = stored_resources(values["tool_resources"])
    if any(tool["type"] == "code_interpreter" for tool in values["tools"]):
        resources["code_interpreter"] = {"file_ids": []} | resources.get("code_interpreter", {})
    values["tool_resources"] = resources
    return values | {name: to_json(values[name]) for name in JSON_COLUMNS}


def _key(project: str, assistant_id: str) -> dict[str, Any]:
    return {"of_project": project, "of_id": assistant_id}


def _found(row: Any, assistant_id: str) -> Any:
    if not row:
        raise refusals.not_found("assistant", assistant_id)
    return row
