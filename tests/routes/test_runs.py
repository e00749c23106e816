"""The operations on runs and their steps: what they answer, put in force, keep and refuse."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from runs_client import CALL, RunsClient, Wire, calls_of, of, text_of
from sentences import (
    empty_string,
    high_integer,
    long_array,
    long_string,
    low_integer,
    missing,
    no_object,
    refusal_of,
    unknown,
    unsupported,
    wrong_prefix,
    wrong_type,
)
from werkzeug.test import TestResponse

from runs.creation import RUN_SECONDS

RUN_KEYS = [
    *("id", "object", "created_at", "assistant_id", "thread_id", "status", "started_at"),
    *("expires_at", "cancelled_at", "failed_at", "completed_at", "required_action", "last_error"),
    *("model", "instructions", "tools", "tool_resources", "metadata", "temperature", "top_p"),
    *("reasoning_effort", "max_completion_tokens", "max_prompt_tokens", "truncation_strategy"),
    *("incomplete_details", "usage", "response_format", "tool_choice", "parallel_tool_calls"),
]
STEP_KEYS = [
    *("id", "object", "created_at", "run_id", "assistant_id", "thread_id", "type", "status"),
    *("cancelled_at", "completed_at", "expires_at", "failed_at", "last_error", "step_details"),
    "usage",
]
DEFAULTS: Wire = {
    "started_at": None,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": None,
    "required_action": None,
    "last_error": None,
    "model": "m",
    "instructions": None,
    "tools": [],
    "tool_resources": {},
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
    "reasoning_effort": None,
    "max_completion_tokens": None,
    "max_prompt_tokens": None,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "incomplete_details": None,
    "usage": None,
    "response_format": "auto",
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}
FUNCTION = {"type": "function", "function": {"name": "get"}}
LOADED = {"name": "get", "parameters": {"type": "object", "properties": {}}, "strict": False}
FUNCTION_LOADED = {"type": "function", "function": LOADED}
OF_THE_ASSISTANT: Wire = {
    "instructions": "Be brief.",
    "tools": [FUNCTION_LOADED],
    "temperature": 0.5,
    "top_p": 0.25,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
}
OF_THE_RUN: Wire = {
    "model": "gpt-4o-mini",
    "instructions": "Be long.",
    "tools": [{"type": "code_interpreter"}],
    "metadata": {"a": "1"},
    "temperature": 0.0,
    "top_p": 1.0,
    "response_format": {"type": "text"},
    "reasoning_effort": "high",
    "max_prompt_tokens": 256,
    "max_completion_tokens": 16,
    "truncation_strategy": {"type": "last_messages", "last_messages": 10},
    "tool_choice": {"type": "function", "function": {"name": "get"}},
    "parallel_tool_calls": False,
}
USAGE_KEYS = [
    *("prompt_tokens", "completion_tokens", "total_tokens"),
    *("prompt_token_details", "completion_tokens_details"),
]
NO_RUN, NO_STEP = f"run_{'x' * 24}", f"step_{'x' * 24}"
NO_THREAD, NO_ASSISTANT = f"thread_{'x' * 24}", f"asst_{'x' * 24}"
NOT_ENDED = ("usage", "completed_at", "cancelled_at", "failed_at", "last_error")
CHANGES = [("POST", ""), ("POST", "/cancel"), ("POST", "/submit_tool_outputs")]


@pytest.fixture
def runs(client_with: Callable[..., FlaskClient]) -> RunsClient:
    return RunsClient(client_with(MOCK="on"))


@pytest.fixture
def assistant(runs: RunsClient) -> str:
    return runs.assistant()


@pytest.fixture
def thread(runs: RunsClient) -> str:
    return runs.thread("What is new?")


def values(wire: Wire, keys: Any) -> Wire:
    return {key: wire[key] for key in keys}


def usage(prompt: int, completion: int) -> Wire:
    details = {"prompt_token_details": {"cached_tokens": 0}}
    details |= {"completion_tokens_details": {"reasoning_tokens": 0}}
    total = prompt + completion
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return counts | details


def create(runs: RunsClient, thread: str, body: Any, **headers: str) -> TestResponse:
    return runs.call("POST", f"/v1/threads/{thread}/runs", body, **headers)


def submit(runs: RunsClient, run: Wire, outputs: Any) -> TestResponse:
    return runs.call("POST", f"{of(run)}/submit_tool_outputs", {"tool_outputs": outputs})


# create


def test_a_run_is_queued_with_what_is_in_force(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.run(thread, assistant)
    assert list(run) == RUN_KEYS
    assert re.fullmatch("run_[A-Za-z0-9]{24}", run["id"])
    assert values(run, ["object", "status"]) == {"object": "thread.run", "status": "queued"}
    assert values(run, ["thread_id", "assistant_id"]) == {
        "thread_id": thread,
        "assistant_id": assistant,
    }
    assert run["expires_at"] == run["created_at"] + RUN_SECONDS == run["created_at"] + 600
    assert values(run, DEFAULTS) == DEFAULTS


def test_a_run_that_completed_has_its_times_and_its_usage(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    runs.reply({"text": "Nothing at all."})
    first = runs.run(thread, assistant)
    run = runs.wait(first, "completed")
    assert list(run) == RUN_KEYS
    assert list(run["usage"]) == USAGE_KEYS
    times = values(run, ["started_at", "completed_at"])
    assert all(type(time) is int and time >= run["created_at"] for time in times.values())
    ended = {"status": "completed", "expires_at": None, "usage": usage(3, 3), **times}
    assert run == first | ended


def test_the_answer_is_a_message_of_the_run(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.reply({"text": "Nothing at all."})
    run = runs.finished(thread, assistant)
    [newest] = runs.get(f"/v1/threads/{thread}/messages?limit=1")["data"]
    assert newest["id"].startswith("msg_")
    assert newest["content"] == [
        {"type": "text", "text": {"value": "Nothing at all.", "annotations": []}}
    ]
    expected = {"assistant_id": assistant, "run_id": run["id"], "role": "assistant"}
    expected |= {"status": "completed", "attachments": [], "metadata": {}}
    expected |= {"incomplete_details": None, "incomplete_at": None}
    assert values(newest, expected) == expected
    assert runs.get(f"/v1/threads/{thread}/messages/{newest['id']}") == newest


def test_messages_are_listed_by_their_run(runs: RunsClient, thread: str, assistant: str) -> None:
    first, second = (runs.finished(thread, assistant) for _ in range(2))
    for run in (first, second):
        found = runs.messages(thread, f"run_id={run['id']}")
        assert [message["run_id"] for message in found] == [run["id"]]
    assert runs.messages(thread, f"run_id={NO_RUN}") == []


def test_the_runs_settings_win_over_the_assistants(runs: RunsClient, thread: str) -> None:
    assistant = runs.assistant(**OF_THE_ASSISTANT)
    run = runs.run(thread, assistant, **OF_THE_RUN)
    assert values(run, OF_THE_RUN) == OF_THE_RUN
    assert values(runs.wait(run), OF_THE_RUN) == OF_THE_RUN


def test_the_assistants_settings_are_copied(runs: RunsClient, thread: str) -> None:
    assistant = runs.assistant(**OF_THE_ASSISTANT)
    run = runs.run(thread, assistant)
    assert values(run, OF_THE_ASSISTANT) == OF_THE_ASSISTANT
    runs.post(f"/v1/assistants/{assistant}", {"instructions": "New.", "tools": []})
    runs.call("DELETE", f"/v1/assistants/{assistant}")
    assert values(runs.wait(run, "completed"), OF_THE_ASSISTANT) == OF_THE_ASSISTANT


def test_null_is_what_is_not_given(runs: RunsClient, thread: str) -> None:
    assistant = runs.assistant(**OF_THE_ASSISTANT)
    more = ("additional_instructions", "additional_messages", "stream")
    run = runs.run(thread, assistant, **dict.fromkeys((*OF_THE_RUN, *more)))
    assert values(run, DEFAULTS) == DEFAULTS | OF_THE_ASSISTANT


def test_a_setting_is_given_back_in_the_order_it_was_sent(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    choice = {"function": {"name": "get"}, "type": "function"}
    schema = {"schema": {"b": None, "a": 1}, "name": "n"}
    format_ = {"json_schema": schema, "type": "json_schema"}
    run = runs.run(thread, assistant, tool_choice=choice, response_format=format_)
    shown = json.dumps(values(runs.wait(run), ["tool_choice", "response_format"]))
    assert shown == json.dumps({"tool_choice": choice, "response_format": format_})


@pytest.mark.parametrize(
    ("of_assistant", "of_run", "in_force"),
    [
        ("A.", {}, "A."),
        ("A.", {"instructions": "R."}, "R."),
        ("A.", {"instructions": ""}, ""),
        ("A.", {"instructions": None}, "A."),
        ("A.", {"additional_instructions": "More."}, "A.\n\nMore."),
        ("A.", {"instructions": "R.", "additional_instructions": "More."}, "R.\n\nMore."),
        ("A.", {"additional_instructions": ""}, "A."),
        ("A.", {"additional_instructions": None}, "A."),
        (None, {"additional_instructions": "More."}, "More."),
        (None, {}, None),
    ],
)
def test_instructions_in_force(
    runs: RunsClient, thread: str, of_assistant: str | None, of_run: Wire, in_force: str | None
) -> None:
    assistant = runs.assistant(instructions=of_assistant)
    assert runs.run(thread, assistant, **of_run)["instructions"] == in_force


def test_additional_messages_are_stored_before_the_run(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    attachment = {"file_id": "file-1", "tools": [{"type": "file_search"}]}
    more = [
        {"role": "assistant", "content": "Nothing."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Really?"}],
            "attachments": [attachment],
            "metadata": {"a": "1"},
        },
    ]
    run = runs.finished(thread, assistant, additional_messages=more)
    assert runs.texts(thread) == ["What is new?", "Nothing.", "Really?", "Really?"]
    _, first, second, answer = runs.messages(thread)
    assert [first["role"], second["role"], answer["role"]] == ["assistant", "user", "assistant"]
    assert values(second, ["attachments", "metadata", "run_id", "assistant_id"]) == {
        "attachments": [attachment],
        "metadata": {"a": "1"},
        "run_id": None,
        "assistant_id": None,
    }
    assert (first["run_id"], answer["run_id"]) == (None, run["id"])


@pytest.mark.parametrize("messages", [[], None])
def test_no_additional_messages_are_none(
    runs: RunsClient, thread: str, assistant: str, messages: Any
) -> None:
    runs.finished(thread, assistant, additional_messages=messages)
    assert len(runs.messages(thread)) == 2


def test_a_run_may_take_its_question_with_it(runs: RunsClient, assistant: str) -> None:
    question = [{"role": "user", "content": "Hello"}]
    run = runs.finished(runs.thread(), assistant, additional_messages=question)
    assert runs.texts(run["thread_id"]) == ["Hello", "Hello"]


@pytest.mark.parametrize(
    "query",
    [
        "include[]=step_details.tool_calls[*].file_search.results[*].content",
        "include[]=step_details.tool_calls%5B%2A%5D.file_search.results%5B%2A%5D.content",
        "api-version=v1",
        "api-version=2024-05-01-preview&include[]=",
    ],
)
def test_queries_of_clients_are_passed_over(
    runs: RunsClient, thread: str, assistant: str, query: str
) -> None:
    made = create(runs, f"{thread}", {"assistant_id": assistant})
    run = runs.wait(made.json)
    for address in (f"/v1/threads/{thread}/runs", of(run), f"{of(run)}/steps"):
        assert runs.call("GET", f"{address}?{query}").status_code == 200
    step = runs.steps(run)[0]["id"]
    assert runs.get(f"{of(run)}/steps/{step}?{query}")["id"] == step
    body = {"assistant_id": assistant}
    assert runs.call("POST", f"/v1/threads/{thread}/runs?{query}", body).status_code == 200


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_instructions_need_no_question(runs: RunsClient, role: str) -> None:
    thread = runs.thread()
    if role == "assistant":
        runs.post(f"/v1/threads/{thread}/messages", {"role": role, "content": "Hello"})
    run = runs.finished(thread, runs.assistant(instructions="Greet."))
    assert run["status"] == "completed"
    assert runs.texts(thread)[-1] == "The thread has no text of the user."


# create a thread and run it


def test_a_thread_is_made_and_run(runs: RunsClient, assistant: str) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    thread = {"messages": messages, "metadata": {"of": "thread"}}
    body = {"assistant_id": assistant, "thread": thread, "metadata": {"of": "run"}}
    run = runs.post("/v1/threads/runs", body)
    assert list(run) == RUN_KEYS
    assert (run["status"], run["metadata"]) == ("queued", {"of": "run"})
    assert runs.get(f"/v1/threads/{run['thread_id']}")["metadata"] == {"of": "thread"}
    assert runs.wait(run)["status"] == "completed"
    assert runs.texts(run["thread_id"]) == ["Hello", "Hello"]


@pytest.mark.parametrize("thread", [{}, {"thread": None}, {"thread": {"messages": None}}])
def test_a_thread_may_be_absent_and_its_messages_null(runs: RunsClient, thread: Wire) -> None:
    body = {"assistant_id": runs.assistant(instructions="Greet."), **thread}
    run = runs.post("/v1/threads/runs", body)
    assert runs.wait(run)["status"] == "completed"


def test_null_messages_of_a_thread_are_none(runs: RunsClient) -> None:
    assert runs.messages(runs.post("/v1/threads", {"messages": None})["id"]) == []


def test_tool_resources_of_a_run_are_its_own(runs: RunsClient) -> None:
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    body = {"assistant_id": runs.assistant(instructions="Greet."), "tool_resources": resources}
    run = runs.post("/v1/threads/runs", body)
    assert run["tool_resources"] == resources
    assert runs.get(f"/v1/threads/{run['thread_id']}")["tool_resources"] == {}


def test_nothing_is_stored_if_the_run_of_a_new_thread_is_refused(
    runs: RunsClient, assistant: str
) -> None:
    answer = runs.call("POST", "/v1/threads/runs", {"assistant_id": assistant})
    assert answer.status_code == 400
    assert runs.get("/v1/threads")["data"] == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_runs_is_no_id_of_a_thread(runs: RunsClient, method: str) -> None:
    answer = runs.call(method, "/v1/threads/runs")
    assert refusal_of(answer) == wrong_prefix("thread_id", "runs", "thread")


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai"])
def test_runs_are_served_below_every_prefix(
    runs: RunsClient, thread: str, assistant: str, prefix: str
) -> None:
    body = {"assistant_id": assistant}
    run = runs.wait(runs.post(f"{prefix}/threads/{thread}/runs", body))
    assert runs.get(f"{prefix}/threads/{thread}/runs/{run['id']}") == run
    body["thread"] = {"messages": [{"role": "user", "content": "Hello"}]}
    assert runs.wait(runs.post(f"{prefix}/threads/runs", body))["status"] == "completed"


# list


def test_runs_are_listed_newest_first(runs: RunsClient, thread: str, assistant: str) -> None:
    made = [runs.finished(thread, assistant) for _ in range(3)]
    listed = runs.get(f"/v1/threads/{thread}/runs")
    assert list(listed) == ["object", "data", "first_id", "last_id", "has_more"]
    assert listed["data"] == made[::-1]
    assert listed["has_more"] is False
    assert (listed["first_id"], listed["last_id"]) == (made[2]["id"], made[0]["id"])


def test_a_thread_without_runs_has_an_empty_list(runs: RunsClient, thread: str) -> None:
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert runs.get(f"/v1/threads/{thread}/runs") == empty


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_runs_lead_both_ways(
    runs: RunsClient, thread: str, assistant: str, order: str
) -> None:
    made = [runs.finished(thread, assistant)["id"] for _ in range(4)]
    expected = made if order == "asc" else made[::-1]
    address = f"/v1/threads/{thread}/runs"
    assert pages(runs, address, order, "after", "") == expected
    assert pages(runs, address, order, "before", expected[-1]) == expected[:-1]


def pages(runs: RunsClient, address: str, order: str, cursor: str, start: str) -> list[str]:
    """Return the ids of all pages of two, from a cursor on, in the order of the list."""
    found: list[str] = []
    page: Wire = {"has_more": True}
    while page["has_more"]:
        query = f"order={order}&limit=2" + (f"&{cursor}={start}" if start else "")
        page = runs.get(f"{address}?{query}")
        ids = [each["id"] for each in page["data"]]
        start = ids[-1 if cursor == "after" else 0]
        found = found + ids if cursor == "after" else ids + found
    return found


def test_a_large_run_is_listed_whole(runs: RunsClient, thread: str) -> None:
    assistant = runs.assistant(instructions="i" * 200_000)
    made = [runs.finished(thread, assistant) for _ in range(2)]
    assert runs.get(f"/v1/threads/{thread}/runs?order=asc")["data"] == made


# retrieve and modify


def test_a_client_is_told_how_soon_to_look_again(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.waiting(thread, assistant)
    outputs = [{"tool_call_id": call["id"], "output": ""} for call in calls_of(run)]
    answers = [
        create(runs, runs.thread("Hello"), {"assistant_id": assistant}),
        runs.call("GET", of(run)),
        submit(runs, run, outputs),
    ]
    assert [answer.headers["openai-poll-after-ms"] for answer in answers] == ["20"] * 3


@pytest.mark.parametrize("state", ["requires_action", "completed", "in_progress"])
def test_the_metadata_of_a_run_are_replaced_in_any_state(
    runs: RunsClient, thread: str, assistant: str, state: str
) -> None:
    make = {"requires_action": runs.waiting, "completed": runs.finished, "in_progress": runs.slow}
    run = make[state](thread, assistant, metadata={"a": "1", "b": "2"})
    assert run["status"] == state
    changed = run | {"metadata": {"b": "3"}}
    assert runs.post(of(run), {"metadata": {"b": "3"}}) == changed == runs.see(run)
    assert runs.post(of(run), {}) == changed
    assert runs.post(of(run), []) == changed
    assert runs.post(of(run), {"metadata": None})["metadata"] == {}


def test_metadata_of_a_run_are_strings(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.finished(thread, assistant)
    answer = runs.call("POST", of(run), {"metadata": {"modified": True}})
    assert refusal_of(answer) == wrong_type("metadata.modified", "a string", "a boolean")


@pytest.mark.parametrize("name", ["model", "status", "instructions"])
def test_only_the_metadata_of_a_run_can_be_modified(
    runs: RunsClient, thread: str, assistant: str, name: str
) -> None:
    run = runs.finished(thread, assistant)
    assert refusal_of(runs.call("POST", of(run), {name: "x"})) == unknown(name)


# steps


def test_a_message_is_a_step(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.reply({"text": "Nothing at all."})
    run = runs.finished(thread, assistant)
    [step] = runs.steps(run)
    assert list(step) == STEP_KEYS
    assert re.fullmatch("step_[A-Za-z0-9]{24}", step["id"])
    message = runs.messages(thread)[-1]["id"]
    details = {"type": "message_creation", "message_creation": {"message_id": message}}
    assert step == {
        "id": step["id"],
        "object": "thread.run.step",
        "created_at": step["created_at"],
        "run_id": run["id"],
        "assistant_id": assistant,
        "thread_id": thread,
        "type": "message_creation",
        "status": "completed",
        "cancelled_at": None,
        "completed_at": run["completed_at"],
        "expires_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": details,
        "usage": run["usage"],
    }
    assert runs.get(f"{of(run)}/steps/{step['id']}") == step


def test_the_step_of_a_deleted_message_still_names_it(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.finished(thread, assistant)
    [step] = runs.steps(run)
    message = step["step_details"]["message_creation"]["message_id"]
    runs.call("DELETE", f"/v1/threads/{thread}/messages/{message}")
    assert runs.steps(run) == [step]


def test_a_fresh_run_has_no_steps(runs: RunsClient, thread: str, assistant: str) -> None:
    assert runs.steps(runs.slow(thread, assistant)) == []


def test_calls_are_a_step_and_the_message_is_the_next(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.waiting(thread, assistant)
    [step] = runs.steps(run)
    assert (step["type"], step["status"], step["usage"]) == ("tool_calls", "in_progress", None)
    assert step["expires_at"] == run["expires_at"]
    [call] = calls_of(run)
    shown = {**call, "function": {**call["function"], "output": None}}
    assert step["step_details"] == {"type": "tool_calls", "tool_calls": [shown]}
    runs.submit(run, "20")
    run = runs.wait(run, "completed")
    calls, message = runs.steps(run)
    answered = {**call, "function": {**call["function"], "output": "20"}}
    assert calls["step_details"] == {"type": "tool_calls", "tool_calls": [answered]}
    assert list(calls["step_details"]["tool_calls"][0]["function"]) == [
        *("name", "arguments", "output")
    ]
    assert (calls["status"], calls["expires_at"]) == ("completed", None)
    assert message["type"] == "message_creation"
    sums = {
        name: calls["usage"][name] + message["usage"][name]
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    assert run["usage"] == calls["usage"] | sums
    assert list(run["usage"]) == USAGE_KEYS


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_steps_lead_both_ways(
    runs: RunsClient, thread: str, assistant: str, order: str
) -> None:
    runs.reply(*[{"tool_calls": [CALL]}] * 3, {"text": "20 degrees."})
    run = runs.wait(runs.run(thread, assistant))
    for _ in range(3):
        runs.submit(run)
        run = runs.wait(run)
    made = [step["id"] for step in runs.steps(run)]
    assert (run["status"], len(made)) == ("completed", 4)
    expected = made if order == "asc" else made[::-1]
    assert pages(runs, f"{of(run)}/steps", order, "after", "") == expected
    assert pages(runs, f"{of(run)}/steps", order, "before", expected[-1]) == expected[:-1]
    newest = runs.get(f"{of(run)}/steps")["data"]
    assert [step["id"] for step in newest] == made[::-1]


def test_a_large_step_is_listed_whole(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.waiting(thread, assistant)
    runs.submit(run, "o" * 200_000)
    [calls, _] = runs.steps(runs.wait(run))
    assert calls["step_details"]["tool_calls"][0]["function"]["output"] == "o" * 200_000
    assert runs.get(f"{of(run)}/steps/{calls['id']}") == calls


# outputs


def test_a_run_asks_for_outputs(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.waiting(thread, assistant)
    assert list(run) == RUN_KEYS
    action = run["required_action"]
    assert list(action) == ["type", "submit_tool_outputs"]
    [call] = calls_of(run)
    assert re.fullmatch("call_[A-Za-z0-9]{24}", call["id"])
    function = {"name": "get", "arguments": '{"city":"Rome"}'}
    assert action == {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {
            "tool_calls": [{"id": call["id"], "type": "function", "function": function}]
        },
    }
    assert values(run, NOT_ENDED) == dict.fromkeys(NOT_ENDED)
    assert run["expires_at"] == run["created_at"] + 600


def test_outputs_queue_the_run_again(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.waiting(thread, assistant)
    runs.move_clock(15)
    queued = runs.submit(run)
    assert queued == run | {"status": "queued", "required_action": None}
    ended = runs.wait(run, "completed")
    assert 15 <= ended["started_at"] - run["started_at"] <= 30
    assert ended["expires_at"] is None
    assert runs.texts(thread)[-1] == "20 degrees."


def test_outputs_do_not_prolong_a_run(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.reply({"tool_calls": [CALL]}, {"text": "late", "delay_ms": 60_000})
    run = runs.wait(runs.run(thread, assistant), "requires_action")
    runs.move_clock(15)
    assert runs.submit(run)["expires_at"] == run["expires_at"]
    assert runs.wait(run, "in_progress")["expires_at"] == run["expires_at"]


def test_outputs_come_in_any_order(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.reply({"tool_calls": [CALL, {"name": "other"}]}, {"text": "Done."})
    run = runs.wait(runs.run(thread, assistant), "requires_action")
    ids = [call["id"] for call in calls_of(run)]
    outputs = [{"tool_call_id": id_, "output": id_} for id_ in ids[::-1]]
    assert submit(runs, run, outputs).status_code == 200
    runs.wait(run, "completed")
    [calls, _] = runs.steps(run)
    given = calls["step_details"]["tool_calls"]
    assert [call["id"] for call in given] == ids
    assert [call["function"]["output"] for call in given] == ids
    assert [call["function"]["name"] for call in given] == ["get", "other"]


@pytest.mark.parametrize("output", [{}, {"output": None}, {"output": ""}])
def test_a_missing_output_is_empty(
    runs: RunsClient, thread: str, assistant: str, output: Wire
) -> None:
    run = runs.waiting(thread, assistant)
    outputs = [{"tool_call_id": calls_of(run)[0]["id"], **output}]
    assert submit(runs, run, outputs).status_code == 200
    [calls] = [step for step in runs.steps(run) if step["type"] == "tool_calls"]
    assert calls["step_details"]["tool_calls"][0]["function"]["output"] == ""


def test_one_call_a_turn_without_parallel_calls(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    runs.reply({"tool_calls": [CALL, CALL]}, {"text": "Done."})
    run = runs.wait(runs.run(thread, assistant, parallel_tool_calls=False), "requires_action")
    [call] = calls_of(run)
    [step] = runs.steps(run)
    assert [each["id"] for each in step["step_details"]["tool_calls"]] == [call["id"]]


def test_all_outputs_come_at_once(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.reply({"tool_calls": [CALL, CALL]}, {"text": "Done."})
    run = runs.wait(runs.run(thread, assistant), "requires_action")
    one, two = (call["id"] for call in calls_of(run))
    for sent in ([one], [], [one, "call_x"], [one, two, "call_x"], [one, one], [one, two, one]):
        outputs = [{"tool_call_id": id_, "output": ""} for id_ in sent]
        answer = submit(runs, run, outputs)
        sentence = f"Expected tool outputs for call_ids ['{one}', '{two}'], got {sent}"
        assert refusal_of(answer) == (sentence, None, None)
    assert runs.see(run) == run


def test_the_second_of_two_submits_is_refused(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    runs.reply({"tool_calls": [CALL]}, {"text": "late", "delay_ms": 60_000})
    run = runs.wait(runs.run(thread, assistant), "requires_action")
    outputs = [{"tool_call_id": calls_of(run)[0]["id"], "output": "1"}]
    answers = [submit(runs, run, outputs) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert answers[1].json["error"]["message"] in (
        'Runs in status "queued" do not accept tool outputs.',
        'Runs in status "in_progress" do not accept tool outputs.',
    )


@pytest.mark.parametrize("state", ["in_progress", "completed", "cancelled", "failed", "expired"])
def test_outputs_are_for_a_run_that_asks(
    runs: RunsClient, thread: str, assistant: str, state: str
) -> None:
    run = in_state(runs, thread, assistant, state)
    sentence = f'Runs in status "{state}" do not accept tool outputs.'
    assert refusal_of(submit(runs, run, [])) == (sentence, None, None)


def in_state(runs: RunsClient, thread: str, assistant: str, state: str) -> Wire:
    """Return a run in a state."""
    if state in ("in_progress", "cancelled"):
        run = runs.slow(thread, assistant)
        if state == "cancelled":
            runs.cancel(run)
        return runs.wait(run, state)
    if state == "requires_action":
        return runs.waiting(thread, assistant)
    if state == "expired":
        run = runs.waiting(thread, assistant)
        runs.move_clock(600)
        return runs.wait(run, state)
    replies: Wire = {"failed": {"error": {"code": "server_error"}}}
    replies["incomplete"] = {"text": "Cut", "incomplete": "max_prompt_tokens"}
    runs.reply(replies.get(state, {"text": "Done."}))
    return runs.wait(runs.run(thread, assistant), state)


# cancel


def test_a_run_in_progress_is_cancelling_and_then_cancelled(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.slow(thread, assistant)
    assert runs.cancel(run) == run | {"status": "cancelling"}
    ended = runs.wait(run, "cancelled")
    assert ended["cancelled_at"] >= run["created_at"]
    changed = {"status": "cancelled", "cancelled_at": ended["cancelled_at"], "expires_at": None}
    assert ended == run | changed


def test_a_run_that_waits_for_outputs_is_cancelled_at_once(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.waiting(thread, assistant)
    ended = runs.cancel(run)
    assert (ended["status"], ended["required_action"]) == ("cancelled", None)
    assert ended == runs.see(run)
    [step] = runs.steps(run)
    assert (step["status"], step["cancelled_at"]) == ("cancelled", ended["cancelled_at"])
    assert step["usage"] == ended["usage"] is not None


def test_a_message_cut_by_a_cancel_is_incomplete(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.writing(thread, assistant)
    assert runs.texts(thread) == ["What is new?"]
    runs.cancel(run)
    runs.wait(run, "cancelled")
    message = runs.messages(thread)[-1]
    assert text_of(message) == "Half"
    assert message["incomplete_details"] == {"reason": "run_cancelled"}
    assert (message["status"], message["completed_at"]) == ("incomplete", None)
    assert message["incomplete_at"] >= message["created_at"]
    assert [step["status"] for step in runs.steps(run)] == ["cancelled"]


@pytest.mark.parametrize("body", [None, {}, []])
def test_a_cancel_has_no_body(runs: RunsClient, thread: str, assistant: str, body: Any) -> None:
    run = runs.waiting(thread, assistant)
    assert runs.call("POST", f"{of(run)}/cancel", body).status_code == 200


@pytest.mark.parametrize("state", ["completed", "incomplete", "failed", "cancelled", "expired"])
def test_an_ended_run_cannot_be_cancelled(
    runs: RunsClient, thread: str, assistant: str, state: str
) -> None:
    run = in_state(runs, thread, assistant, state)
    answer = runs.call("POST", f"{of(run)}/cancel")
    assert refusal_of(answer) == (f"Cannot cancel run with status '{state}'.", None, None)
    assert runs.see(run) == run


# refusals


@pytest.mark.parametrize("address", ["/v1/threads/runs", "/v1/threads/{}/runs"])
def test_a_run_has_an_assistant(runs: RunsClient, thread: str, address: str) -> None:
    answer = runs.call("POST", address.format(thread), {})
    assert refusal_of(answer) == missing("assistant_id")
    answer = runs.call("POST", address.format(thread), {"assistant_id": NO_ASSISTANT})
    assert refusal_of(answer, 404) == no_object("assistant", NO_ASSISTANT)
    answer = runs.call("POST", address.format(thread), {"assistant_id": "gpt-4o"})
    assert refusal_of(answer) == wrong_prefix("assistant_id", "gpt-4o", "asst")
    assert runs.get(f"/v1/threads/{thread}/runs")["data"] == []


def test_a_deleted_assistant_runs_no_more(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.call("DELETE", f"/v1/assistants/{assistant}")
    answer = create(runs, thread, {"assistant_id": assistant})
    assert refusal_of(answer, 404) == no_object("assistant", assistant)


@pytest.mark.parametrize("stream", [{}, {"stream": False}, {"stream": True}])
@pytest.mark.parametrize("instructions", [None, ""])
def test_a_run_has_a_question_or_instructions(
    runs: RunsClient, stream: Wire, instructions: str | None
) -> None:
    body = {"assistant_id": runs.assistant(instructions=instructions), **stream}
    sentence = (
        "Run creation requires a Thread with a user message or an assistant with instructions."
    )
    thread = runs.thread()
    runs.post(f"/v1/threads/{thread}/messages", {"role": "assistant", "content": "Hello"})
    for answer in (create(runs, thread, body), runs.call("POST", "/v1/threads/runs", body)):
        assert refusal_of(answer) == (sentence, None, "invalid_thread")
        assert answer.content_type == "application/json"
    assert runs.say(thread).status_code == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": ""}, empty_string("model")),
        ({"model": 4}, wrong_type("model", "a string", "an integer")),
        ({"instructions": "i" * 256_001}, long_string("instructions", 256_000, 256_001)),
        (
            {"additional_instructions": "i" * 256_001},
            long_string("additional_instructions", 256_000, 256_001),
        ),
        (
            {"additional_messages": [{"role": "user"}]},
            missing("additional_messages[0].content"),
        ),
        (
            {"additional_messages": [{"role": "system", "content": "x"}]},
            unsupported("additional_messages[0].role", "system", "'user' and 'assistant'"),
        ),
        ({"tools": [FUNCTION] * 129}, long_array("tools", 128, 129)),
        (
            {"tools": [{"type": "retrieval"}]},
            unsupported(
                "tools[0].type", "retrieval", "'code_interpreter', 'function', and 'file_search'"
            ),
        ),
        ({"max_prompt_tokens": 0}, low_integer("max_prompt_tokens", 1, 0)),
        ({"max_completion_tokens": 0}, low_integer("max_completion_tokens", 1, 0)),
        (
            {"truncation_strategy": {"type": "first"}},
            unsupported("truncation_strategy.type", "first", "'auto' and 'last_messages'"),
        ),
        (
            {"truncation_strategy": {"type": "last_messages", "last_messages": 0}},
            low_integer("truncation_strategy.last_messages", 1, 0),
        ),
        (
            {"tool_choice": "any"},
            unsupported("tool_choice", "any", "'none', 'auto', and 'required'"),
        ),
        (
            {"tool_choice": {"type": "function"}},
            missing("tool_choice.function"),
        ),
        (
            {"parallel_tool_calls": "true"},
            wrong_type("parallel_tool_calls", "a boolean", "a string"),
        ),
        ({"stream": 1}, wrong_type("stream", "a boolean", "an integer")),
        (
            {"reasoning_effort": "huge"},
            unsupported(
                "reasoning_effort",
                "huge",
                "'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'",
            ),
        ),
        ({"assistent_id": "x"}, unknown("assistent_id", "assistant_id")),
        ({"thread": {}}, unknown("thread")),
        ({"tool_resources": {}}, unknown("tool_resources")),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused(
    runs: RunsClient, thread: str, assistant: str, body: Wire, expected: Any
) -> None:
    answer = create(runs, thread, {"assistant_id": assistant, **body})
    assert refusal_of(answer) == expected
    assert len(runs.messages(thread)) == 1


@pytest.mark.parametrize(
    "name", ["additional_messages", "additional_instructions", "reasoning_effort"]
)
def test_a_new_thread_and_run_take_less(runs: RunsClient, assistant: str, name: str) -> None:
    answer = runs.call("POST", "/v1/threads/runs", {"assistant_id": assistant, name: None})
    assert refusal_of(answer) == unknown(name)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, missing("tool_outputs")),
        ({"tool_outputs": {}}, wrong_type("tool_outputs", "an array", "an object")),
        (
            {"tool_outputs": [{"output": 20}]},
            wrong_type("tool_outputs[0].output", "a string", "an integer"),
        ),
        ({"tool_outputs": [{"result": "x"}]}, unknown("tool_outputs[0].result")),
        ({"tool_outputs": [{}] * 129}, long_array("tool_outputs", 128, 129)),
    ],
    ids=str,
)
def test_wrong_outputs_are_refused(
    runs: RunsClient, thread: str, assistant: str, body: Any, expected: Any
) -> None:
    run = runs.waiting(thread, assistant)
    assert refusal_of(runs.call("POST", f"{of(run)}/submit_tool_outputs", body)) == expected
    assert runs.see(run) == run


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/steps"), *CHANGES])
def test_a_missing_run_is_404(
    runs: RunsClient, thread: str, assistant: str, method: str, rest: str
) -> None:
    other = runs.finished(runs.thread("Hello"), assistant)["id"]
    body = {"tool_outputs": []} if "submit" in rest else ({} if method == "POST" else None)
    for id_ in (NO_RUN, other):
        answer = runs.call(method, f"/v1/threads/{thread}/runs/{id_}{rest}", body)
        assert refusal_of(answer, 404) == no_object("run", id_)
        answer = runs.call(method, f"/v1/threads/{NO_THREAD}/runs/{id_}{rest}", body)
        assert refusal_of(answer, 404) == no_object("thread", NO_THREAD)
    answer = runs.call(method, f"/v1/threads/{thread}/runs/thread_1{rest}", body)
    assert refusal_of(answer) == wrong_prefix("run_id", "thread_1", "run")


def test_a_missing_step_is_404(runs: RunsClient, thread: str, assistant: str) -> None:
    first, second = (runs.finished(thread, assistant) for _ in range(2))
    [foreign] = runs.steps(second)
    for id_ in (NO_STEP, foreign["id"]):
        answer = runs.call("GET", f"{of(first)}/steps/{id_}")
        assert refusal_of(answer, 404) == no_object("run step", id_)
    answer = runs.call("GET", f"{of(first)}/steps/msg_1")
    assert refusal_of(answer) == wrong_prefix("step_id", "msg_1", "step")


def test_a_missing_thread_is_404(runs: RunsClient, assistant: str) -> None:
    address = f"/v1/threads/{NO_THREAD}/runs"
    for answer in (
        runs.call("GET", address),
        runs.call("POST", address, {"assistant_id": assistant}),
    ):
        assert refusal_of(answer, 404) == no_object("thread", NO_THREAD)


@pytest.mark.parametrize("cursor", ["after", "before"])
def test_a_cursor_is_a_run_of_the_thread(
    runs: RunsClient, thread: str, assistant: str, cursor: str
) -> None:
    run = runs.finished(thread, assistant)
    [step] = runs.steps(run)
    other = runs.finished(runs.thread("Hello"), assistant)
    for address, kind, id_ in (
        (f"/v1/threads/{thread}/runs", "run", other["id"]),
        (f"{of(run)}/steps", "run step", runs.steps(other)[0]["id"]),
    ):
        sentence = f"No {kind} found with id '{id_}'."
        answer = runs.call("GET", f"{address}?{cursor}={id_}")
        assert refusal_of(answer) == (sentence, cursor, "invalid_value")
    answer = runs.call("GET", f"/v1/threads/{thread}/runs?{cursor}={step['id']}")
    assert refusal_of(answer) == wrong_prefix(cursor, step["id"], "run")
    answer = runs.call("GET", f"{of(run)}/steps?{cursor}={run['id']}")
    assert refusal_of(answer) == wrong_prefix(cursor, run["id"], "step")


@pytest.mark.parametrize("rest", ["", "/{}/steps"])
def test_a_page_has_1_to_100_entries(
    runs: RunsClient, thread: str, assistant: str, rest: str
) -> None:
    address = f"/v1/threads/{thread}/runs" + rest.format(runs.finished(thread, assistant)["id"])
    answer = runs.call("GET", f"{address}?limit=0")
    assert refusal_of(answer) == low_integer("limit", 1, 0)
    answer = runs.call("GET", f"{address}?limit=101")
    assert refusal_of(answer) == high_integer("limit", 100, 101)


# Idempotency-Key


def test_a_repeated_create_makes_one_run(runs: RunsClient, thread: str, assistant: str) -> None:
    body = {"assistant_id": assistant}
    first = create(runs, thread, body, Idempotency_Key="k")
    runs.wait(first.json, "completed")
    again = create(runs, thread, body, Idempotency_Key="k")
    assert again.data == first.data
    assert again.json["status"] == "queued"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [run["id"] for run in runs.get(f"/v1/threads/{thread}/runs")["data"]] == [
        first.json["id"]
    ]
    assert len(runs.messages(thread)) == 2


def test_a_repeated_create_of_thread_and_run_makes_one_of_both(runs: RunsClient) -> None:
    body = {"assistant_id": runs.assistant(instructions="Greet.")}
    first, again = (
        runs.call("POST", "/v1/threads/runs", body, Idempotency_Key="k") for _ in range(2)
    )
    assert again.data == first.data
    runs.wait(first.json, "completed")
    assert len(runs.get("/v1/threads")["data"]) == 1
    assert len(runs.messages(first.json["thread_id"])) == 1


def test_repeated_outputs_count_once(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.waiting(thread, assistant)
    outputs = [{"tool_call_id": calls_of(run)[0]["id"], "output": "1"}]
    body = {"tool_outputs": outputs}
    address = f"{of(run)}/submit_tool_outputs"
    first = runs.call("POST", address, body, Idempotency_Key="k")
    runs.wait(run, "completed")
    again = runs.call("POST", address, body, Idempotency_Key="k")
    assert again.data == first.data
    assert runs.see(run)["status"] == "completed"


def test_a_repeated_cancel_answers_the_same(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.slow(thread, assistant)
    first = runs.call("POST", f"{of(run)}/cancel", Idempotency_Key="k")
    runs.wait(run, "cancelled")
    again = runs.call("POST", f"{of(run)}/cancel", Idempotency_Key="k")
    assert again.data == first.data
    assert again.json["status"] == "cancelling"


def test_a_repeat_is_answered_when_nothing_answers_runs_any_more(
    runs: RunsClient, client_with: Callable[..., FlaskClient], thread: str, assistant: str
) -> None:
    later = RunsClient(client_with(MOCK="off"))
    waiting = runs.waiting(runs.thread("Hello"), assistant)
    outputs = [{"tool_call_id": calls_of(waiting)[0]["id"], "output": "1"}]
    for address, body in (
        (f"/v1/threads/{thread}/runs", {"assistant_id": assistant}),
        ("/v1/threads/runs", {"assistant_id": runs.assistant(instructions="Greet.")}),
        (f"{of(waiting)}/submit_tool_outputs", {"tool_outputs": outputs}),
    ):
        first = runs.call("POST", address, body, Idempotency_Key=address)
        again = later.call("POST", address, body, Idempotency_Key=address)
        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"
        other = later.call("POST", address, body | {"stream": False}, Idempotency_Key=address)
        assert refusal_of(other, 422)[2] == "idempotency_key_reused"
        new = later.call("POST", address, body, Idempotency_Key="new")
        assert refusal_of(new)[2] == "model_not_configured"


def test_a_stream_cannot_be_repeated(runs: RunsClient, thread: str, assistant: str) -> None:
    waiting = runs.waiting(runs.thread("Hello"), assistant)
    outputs = [{"tool_call_id": calls_of(waiting)[0]["id"], "output": "1"}]
    threads = runs.get("/v1/threads")
    sentence = "A stream cannot be repeated: send no Idempotency-Key with 'stream'."
    run = {"assistant_id": assistant, "stream": True}
    for address, body in (
        (f"/v1/threads/{thread}/runs", run),
        ("/v1/threads/runs", run),
        (f"{of(waiting)}/submit_tool_outputs", {"tool_outputs": outputs, "stream": True}),
    ):
        answer = runs.call("POST", address, body, Idempotency_Key="k")
        assert refusal_of(answer) == (sentence, "stream", "invalid_value")
    assert runs.get(f"/v1/threads/{thread}/runs")["data"] == []
    assert runs.get("/v1/threads") == threads
    assert runs.see(waiting) == waiting
    assert create(runs, thread, {"assistant_id": assistant}, Idempotency_Key="k").json["id"]


# the draft


def test_a_draft_is_found_by_its_id_only(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.writing(thread, assistant)
    [step] = runs.steps(run)
    id_ = step["step_details"]["message_creation"]["message_id"]
    draft = runs.get(f"/v1/threads/{thread}/messages/{id_}")
    assert text_of(draft) == "Half"
    expected = {"status": "in_progress", "run_id": run["id"], "assistant_id": assistant}
    expected |= {"completed_at": None, "incomplete_at": None, "incomplete_details": None}
    assert values(draft, expected) == expected
    assert list(draft) == list(runs.messages(thread)[0])
    assert runs.texts(thread) == ["What is new?"]
    assert runs.messages(thread, f"run_id={run['id']}") == []
    assert runs.get("/v1/threads?q=Half")["data"] == []
    copy = runs.post(f"/v1/threads/{thread}/copy")["id"]
    assert runs.texts(copy) == ["What is new?"]
    other = runs.thread("Hello")
    answer = runs.call("GET", f"/v1/threads/{other}/messages/{id_}")
    assert refusal_of(answer, 404) == no_object("message", id_)


# parts of an answer in a stream


def events_of(answer: TestResponse) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
    assert blocks[-1] == ["event: done", "data: [DONE]"]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks[:-1]
    ]


def test_a_stream_tells_one_call_without_parallel_calls(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    runs.reply({"tool_calls": [CALL, CALL]}, {"text": "Done."})
    body = {"assistant_id": assistant, "parallel_tool_calls": False, "stream": True}
    events = events_of(create(runs, thread, body))
    deltas = [data["delta"] for name, data in events if name == "thread.run.step.delta"]
    calls = [call for delta in deltas for call in delta["step_details"]["tool_calls"]]
    assert {call["index"] for call in calls} == {0}
    name, run = events[-1]
    assert name == "thread.run.requires_action"
    assert [call["id"] for call in calls_of(run)] == [call["id"] for call in calls if "id" in call]
