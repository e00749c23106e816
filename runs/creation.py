"""What a locked thread refuses: new runs and new messages. A run whose time is over frees it."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from database import Connection
from models import Message, Run
from rules import refusals
from rules.ids_and_clock import new_id, unix_now
from rules.refusals import ThreadIsLocked
from runs import lock, rows, states
from store import activity, assistants, messages, threads
from store.objects import Object, to_json

RUN_SECONDS = 600
"""How long a run may take, its waits for outputs too (runs reference, decision 7)."""
_INSERT = sa.insert(Run).values(lease_end=states.LEASE_END).returning(*rows.COLUMNS)
_IN_THREAD = Message.thread_seq == sa.bindparam("thread_seq")
_HAS_QUESTION = sa.select(Message.seq).where(_IN_THREAD, Message.role == "user").limit(1)
_OF_THE_ASSISTANT = ("tools", "temperature", "top_p", "response_format")
_OWN = ("max_prompt_tokens", "max_completion_tokens")
_AT_FIRST = (
    *("started_at", "cancelled_at", "failed_at", "completed_at", "required_action"),
    *("last_error", "incomplete_details", "usage", "script"),
)
"""The columns that are null at first."""
_DEFAULTS: dict[str, Any] = {
    "tool_resources": {},
    "metadata": {},
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}


def create_run(
    connection: Connection, project: str, thread_id: str, body: Object, player: str | None = None
) -> Any:
    """Queue a run of a loaded CreateRun body; return its row. Raises ApiError 404, 400.

    `player` may take it first.
    """
    run_id = new_id("run")
    assistant = assistants.find_row(connection, project, body["assistant_id"])
    thread_seq = _lock(connection, project, thread_id, run_id)
    now = unix_now()
    _append(connection, thread_seq, body.get("additional_messages") or (), now)
    settings = _settings(assistant, body)
    if not settings["instructions"] and not _has_question(connection, thread_seq):
        raise refusals.nothing_to_answer()
    own = {"thread_seq": thread_seq, "id": run_id, "created_at": now, "status": "queued"}
    return connection.row(_INSERT, own | settings | _lease(now, player))


def _append(connection: Connection, thread_seq: int, bodies: Sequence[Object], now: int) -> None:
    values = ({**messages.message_values(each, now), "thread_seq": thread_seq} for each in bodies)
    connection.change_many(messages.INSERT, values)
    if bodies:
        activity.settle(connection, thread_seq)


def create_thread_and_run(
    connection: Connection, project: str, body: Object, player: str | None = None
) -> tuple[Object, Any]:
    """Store a thread and queue a run of a loaded CreateThreadAndRun body.

    Return the thread object and the row of the run. Raises ApiError 404, 400.
    """
    thread = threads.create_thread(connection, project, body.get("thread") or {})
    return thread, create_run(connection, project, thread["id"], body, player)


def add_message(connection: Connection, project: str, thread_id: str, body: Object) -> Object:
    """Append a loaded CreateMessage body; return the message object. Raises ApiError 404, 400."""
    try:
        return messages.create_message(connection, project, thread_id, body)
    except ThreadIsLocked:
        states.expire_due(connection, project, thread_id)
    return messages.create_message(connection, project, thread_id, body)


def _lock(connection: Connection, project: str, thread_id: str, run_id: str) -> int:
    """Lock a thread for a run; return its `seq`. Raises ApiError 404, 400."""
    seq = lock.take(connection, project, thread_id, run_id)
    if seq is None:
        states.expire_due(connection, project, thread_id)
        seq = lock.take(connection, project, thread_id, run_id)
    if seq is None:
        active = threads.find_row(connection, project, thread_id).active_run
        raise refusals.has_active_run(thread_id, active)
    return seq


def _settings(assistant: Any, body: Object) -> dict[str, Any]:
    """Return the column values of what is in force: the run's own, else the assistant's."""
    values = {name: getattr(assistant, name) for name in _OF_THE_ASSISTANT}
    values |= {name: to_json(value) for name, value in _DEFAULTS.items()}
    values |= {name: to_json(body[name]) for name in values if body.get(name) is not None}
    values |= {name: body.get(name) for name in _OWN}
    values["model"] = body.get("model", assistant.model)
    instructions = body.get("instructions", assistant.instructions)
    added = [each for each in (instructions, body.get("additional_instructions")) if each]
    values["instructions"] = "\n\n".join(added) or instructions
    values["reasoning_effort"] = body.get("reasoning_effort", assistant.reasoning_effort)
    values["assistant_id"] = assistant.id
    return values


def _lease(now: int, player: str | None) -> dict[str, Any]:
    """Return when a new run expires, which player may take it first, and its empty columns."""
    return {**dict.fromkeys(_AT_FIRST), "expires_at": now + RUN_SECONDS, "player": player}


def _has_question(connection: Connection, thread_seq: int) -> bool:
    return connection.row(_HAS_QUESTION, {"thread_seq": thread_seq}) is not None
