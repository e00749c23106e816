"""The keys of each object, in order. JSON text goes out as stored (wire reference, decision 1)."""

from typing import Any, TypeAlias

import orjson

Object: TypeAlias = dict[str, Any]
"""A JSON object of an answer, or a loaded body."""


def thread_object(row: Any) -> Object:
    """Return the thread object of a row of `threads`."""
    return {
        "id": row.id,
        "object": "thread",
        "created_at": row.created_at,
        "metadata": orjson.Fragment(row.metadata),
        "tool_resources": orjson.Fragment(row.tool_resources),
    }


def assistant_object(row: Any) -> Object:
    """Return the assistant object of a row of `assistants`."""
    return {
        "id": row.id,
        "object": "assistant",
        "created_at": row.created_at,
        "name": row.name,
        "description": row.description,
        "model": row.model,
        "instructions": row.instructions,
        "tools": orjson.Fragment(row.tools),
        "top_p": orjson.Fragment(row.top_p),
        "temperature": orjson.Fragment(row.temperature),
        "reasoning_effort": row.reasoning_effort,
        "tool_resources": orjson.Fragment(row.tool_resources),
        "metadata": orjson.Fragment(row.metadata),
        "response_format": orjson.Fragment(row.response_format),
    }


def message_object(row: Any, thread_id: str) -> Object:
    """Return the message object of a row of `messages`."""
    details, content = row.incomplete_details, row.content
    return {
        "id": row.id,
        "object": "thread.message",
        "created_at": row.created_at,
        "assistant_id": row.assistant_id,
        "thread_id": thread_id,
        "run_id": row.run_id,
        "status": row.status,
        "incomplete_details": details and orjson.Fragment(details),
        "incomplete_at": row.incomplete_at,
        "completed_at": row.completed_at,
        "role": row.role,
        # As a Python text, other characters take up to four times their bytes.
        "content": orjson.Fragment(content if content.isascii() else content.encode()),
        "attachments": orjson.Fragment(row.attachments),
        "metadata": orjson.Fragment(row.metadata),
    }


def deleted_object(id_: str, kind: str) -> Object:
    """Return a deletion object; `kind` is the `object` of what was deleted."""
    return {"id": id_, "object": f"{kind}.deleted", "deleted": True}


def decoded(value: Any) -> Any:
    """Return objects with their JSON columns decoded, for a template."""
    return orjson.loads(orjson.dumps(value))


def to_json(value: Any) -> str:
    """Return compact JSON text, as stored."""
    return orjson.dumps(value).decode()
