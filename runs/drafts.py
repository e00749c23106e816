"""Drafts: the messages that runs write at the moment. Only who knows its id finds one."""

from types import SimpleNamespace
from typing import Any

from database import Connection
from rules.errors import ApiError
from runs import rows, steps
from store import messages
from store.objects import Object, message_object, to_json


def find_message(connection: Connection, project: str, thread_id: str, message_id: str) -> Object:
    """Return a message object, that of a draft too. Raises ApiError 404."""
    try:
        return messages.find_message(connection, project, thread_id, message_id)
    except ApiError:
        run = rows.active_run(connection, project, thread_id)
        step = run and steps.draft_of(connection, run.seq, message_id)
        if step is None:
            raise
    return message_object(message_row(step, run), thread_id)


def message_row(step: Any, run: Any) -> Any:
    """Return the message of a step as a row; `run` has the id of the run and of its assistant."""
    part = {"type": "text", "text": {"value": step.draft, "annotations": []}}
    values = {"id": steps.message_of(step), "created_at": step.created_at, "role": "assistant"}
    values |= {"assistant_id": run.assistant_id, "run_id": run.id, "status": "in_progress"}
    values |= dict.fromkeys(("incomplete_details", "incomplete_at", "completed_at"))
    values |= {"attachments": "[]", "metadata": "{}"}
    return SimpleNamespace(**values, content=to_json([part] if step.draft else []))
