"""What goes out: one function per object, keys in wire order, and the one JSON answer.

Columns that hold JSON text are passed through as they are stored, never decoded on the way out.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Response

from models import Message, Thread

THREAD_COLUMNS = (
    Thread.id,
    Thread.created_at,
    Thread.metadata_.label("metadata_"),
    Thread.tool_resources,
)
MESSAGE_COLUMNS = (
    Message.id,
    Message.created_at,
    Message.assistant_id,
    Message.run_id,
    Message.status,
    Message.incomplete_details,
    Message.completed_at,
    Message.incomplete_at,
    Message.role,
    Message.content,
    Message.attachments,
    Message.metadata_.label("metadata_"),
)


def thread_to_wire(row: Any) -> dict[str, Any]:
    """Return a thread object (key order as recorded 2025-10) from a row of THREAD_COLUMNS."""
    return {
        "id": row.id,
        "object": "thread",
        "created_at": row.created_at,
        "metadata": orjson.Fragment(row.metadata_),
        "tool_resources": orjson.Fragment(row.tool_resources),
    }


def message_to_wire(row: Any, thread_id: str) -> dict[str, Any]:
    """Return a message object (key order: wire reference, decision 1) from MESSAGE_COLUMNS."""
    return {
        "id": row.id,
        "object": "thread.message",
        "created_at": row.created_at,
        "assistant_id": row.assistant_id,
        "thread_id": thread_id,
        "run_id": row.run_id,
        "status": row.status,
        "incomplete_details": row.incomplete_details and orjson.Fragment(row.incomplete_details),
        "completed_at": row.completed_at,
        "incomplete_at": row.incomplete_at,
        "role": row.role,
        "content": orjson.Fragment(row.content),
        "attachments": orjson.Fragment(row.attachments),
        "metadata": orjson.Fragment(row.metadata_),
    }


def deleted_to_wire(id_: str, kind: str) -> dict[str, Any]:
    """Return a deletion object; `kind` is `thread` or `thread.message`."""
    return {"id": id_, "object": f"{kind}.deleted", "deleted": True}


def list_to_wire(data: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Return a list object; an empty one has null ids (recorded 2024-04, unlike the spec)."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def to_json(value: Any) -> str:
    """Return compact JSON text, as it is stored and sent."""
    return orjson.dumps(value).decode()


def answer(value: Mapping[str, Any]) -> Response:
    """Serialise an object into a 200 response."""
    return Response(orjson.dumps(value), content_type="application/json")
