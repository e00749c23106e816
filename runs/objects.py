"""The keys of a run and of a step, in the order of the runs reference, sections 4 and 9."""

from typing import Any

import orjson

from store.objects import Object


def run_object(row: Any, thread_id: str) -> Object:
    """Return the run object of a row of `runs`."""
    return {
        "id": row.id,
        "object": "thread.run",
        "created_at": row.created_at,
        "assistant_id": row.assistant_id,
        "thread_id": thread_id,
        "status": row.status,
        "started_at": row.started_at,
        "expires_at": row.expires_at,
        "cancelled_at": row.cancelled_at,
        "failed_at": row.failed_at,
        "completed_at": row.completed_at,
        "required_action": row.required_action and orjson.Fragment(row.required_action),
        "last_error": row.last_error and orjson.Fragment(row.last_error),
        **_in_force(row),
    }


def step_object(row: Any, run: Any, thread_id: str) -> Object:
    """Return the step object of a row of `run_steps`, whose run has the row `run`."""
    has_ended = row.status != "in_progress"
    return {
        "id": row.id,
        "object": "thread.run.step",
        "created_at": row.created_at,
        "run_id": run.id,
        "assistant_id": run.assistant_id,
        "thread_id": thread_id,
        "type": row.type,
        "status": row.status,
        "cancelled_at": row.cancelled_at,
        "completed_at": row.completed_at,
        "expires_at": row.expires_at,
        "failed_at": row.failed_at,
        "last_error": row.last_error and orjson.Fragment(row.last_error),
        "step_details": orjson.Fragment(row.step_details),
        "usage": orjson.Fragment(row.usage) if row.usage and has_ended else None,
    }


def _in_force(row: Any) -> Object:
    """Return the settings of a run, and what came of them."""
    return {
        "model": row.model,
        "instructions": row.instructions,
        "tools": orjson.Fragment(row.tools),
        "tool_resources": orjson.Fragment(row.tool_resources),
        "metadata": orjson.Fragment(row.metadata),
        "temperature": orjson.Fragment(row.temperature),
        "top_p": orjson.Fragment(row.top_p),
        "reasoning_effort": row.reasoning_effort,
        "max_completion_tokens": row.max_completion_tokens,
        "max_prompt_tokens": row.max_prompt_tokens,
        "truncation_strategy": orjson.Fragment(row.truncation_strategy),
        "incomplete_details": row.incomplete_details and orjson.Fragment(row.incomplete_details),
        "usage": row.usage and orjson.Fragment(row.usage),
        "response_format": orjson.Fragment(row.response_format),
        "tool_choice": orjson.Fragment(row.tool_choice),
        "parallel_tool_calls": orjson.Fragment(row.parallel_tool_calls),
    }
