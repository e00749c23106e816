"""The events of a stream: their names and data (runs reference, sections 11 and 12)."""

from collections.abc import Iterator
from typing import Any

from runs.creation import RUN_SECONDS
from runs.objects import run_object, step_object
from store.objects import Object, message_object

Event = tuple[str, Object]
"""The name of an event, and its data."""


def run_event(run: Any, thread_id: str, name: str = "") -> Event:
    """Return the event of a run's state, or of another name."""
    return f"thread.run.{name or run.status}", run_object(run, thread_id)


def step_events(step: Any, run: Any, thread_id: str) -> Iterator[Event]:
    """Yield the events of a step's state; a new one has two.

    Here even a step that has ended says when it would have expired (runs reference, section 9).
    """
    names = ("created", "in_progress") if step.status == "in_progress" else (step.status,)
    expires_at = {"expires_at": run.created_at + RUN_SECONDS}
    for name in names:
        yield f"thread.run.step.{name}", step_object(step, run, thread_id) | expires_at


def message_events(message: Any, thread_id: str) -> Iterator[Event]:
    """Yield the events of a message's state; a new one has two."""
    names = ("created", "in_progress") if message.status == "in_progress" else (message.status,)
    for name in names:
        yield f"thread.message.{name}", message_object(message, thread_id)


def text_delta(message_id: str, text: str, is_first: bool) -> Event:
    """Return the event of a piece of text."""
    value: Object = {"value": text} | ({"annotations": []} if is_first else {})
    delta = {"content": [{"index": 0, "type": "text", "text": value}]}
    return "thread.message.delta", _delta(message_id, "thread.message.delta", delta)


def call_delta(step_id: str, call: Object) -> Event:
    """Return the event of a piece of a function call, with its index."""
    delta = {"step_details": {"type": "tool_calls", "tool_calls": [call]}}
    return "thread.run.step.delta", _delta(step_id, "thread.run.step.delta", delta)


def _delta(id_: str, kind: str, delta: Object) -> Object:
    return {"id": id_, "object": kind, "delta": delta}
