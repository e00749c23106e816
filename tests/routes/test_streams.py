"""`stream: true`: the events of a run, in the order and with the data of the runs reference."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import pytest
from conftest import Server, serving, until

Wire = dict[str, Any]
Events = list[tuple[str, Any]]
CALL = {"name": "get", "arguments": {"city": "Rome"}}
TEXT_EVENTS = [
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
    "done",
]
CALL_EVENTS = [
    "thread.created",
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.run.step.delta",
    "thread.run.step.delta",
    "thread.run.requires_action",
    "done",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one process, since the mock controls script the replies."""
    with serving(tmp_path_factory.mktemp("server") / "log", WORKERS=1) as server:
        yield server


def post(server: Server, path: str, body: Wire) -> Wire:
    answer = server.call("POST", path, body)
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


@pytest.fixture
def assistant(server: Server) -> str:
    assert server.call("DELETE", "/_mock/replies").status == 200
    assert server.call("DELETE", "/_mock/faults").status == 200
    return str(post(server, "/v1/assistants", {"model": "m"})["id"])


def reply(server: Server, *replies: Wire) -> None:
    rules = {"rules": [{"replies": list(replies)}]}
    assert server.call("PUT", "/_mock/replies", rules).status == 200


def fault(server: Server, **rule: Any) -> None:
    path = "*/runs"
    rules = {"rules": [{"path": path, "times": 1, **rule}]}
    assert server.call("POST", "/_mock/faults", rules).status == 200


def parsed(body: bytes) -> Events:
    """Return the names and data of events; comments are left out."""
    events: Events = []
    for each in body.decode().split("\n\n"):
        if each.startswith("event: "):
            name, data = each.removeprefix("event: ").split("\ndata: ")
            events.append((name, data if data == "[DONE]" else json.loads(data)))
    return events


def stream(server: Server, path: str, body: Wire) -> Events:
    answer = server.call("POST", path, {**body, "stream": True})
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.body.endswith(b"event: done\ndata: [DONE]\n\n") or b"event: error" in answer.body
    return parsed(answer.body)


def run(server: Server, assistant: str, text: str = "Hello") -> Events:
    thread = {"messages": [{"role": "user", "content": text}]}
    body = {"assistant_id": assistant, "thread": thread}
    return stream(server, "/v1/threads/runs", body)


def names(events: Events) -> list[str]:
    return [name for name, _ in events]


def data_of(events: Events, name: str) -> list[Any]:
    return [data for each, data in events if each == name]


def get(server: Server, path: str) -> Any:
    return json.loads(server.call("GET", path).body)


def test_a_text_has_the_recorded_events(server: Server, assistant: str) -> None:
    events = run(server, assistant)
    begin = ["thread.created", "thread.run.created", "thread.run.queued"]
    assert names(events) == begin + TEXT_EVENTS
    thread, created, queued = (data for _, data in events[:3])
    assert thread["object"] == "thread"
    assert created == queued
    assert (created["status"], created["started_at"], created["usage"]) == ("queued", None, None)
    assert created["expires_at"] == created["created_at"] + 600
    assert data_of(events, "thread.run.in_progress")[0]["started_at"] is not None


def test_the_step_and_the_message_are_there_before_their_deltas(
    server: Server, assistant: str
) -> None:
    events = run(server, assistant)
    step = data_of(events, "thread.run.step.created")[0]
    message = data_of(events, "thread.message.created")[0]
    delta = data_of(events, "thread.message.delta")[0]
    assert (step["status"], step["usage"]) == ("in_progress", None)
    assert step["step_details"] == {
        "type": "message_creation",
        "message_creation": {"message_id": message["id"]},
    }
    assert (message["status"], message["content"]) == ("in_progress", [])
    text = {"value": "Hello", "annotations": []}
    assert delta == {
        "id": message["id"],
        "object": "thread.message.delta",
        "delta": {"content": [{"index": 0, "type": "text", "text": text}]},
    }


def test_only_the_first_delta_has_annotations(server: Server, assistant: str) -> None:
    reply(server, {"text": "abcdef", "chunk_characters": 2})
    deltas = data_of(run(server, assistant), "thread.message.delta")
    values = [delta["delta"]["content"][0]["text"] for delta in deltas]
    assert values == [{"value": "ab", "annotations": []}, {"value": "cd"}, {"value": "ef"}]


def test_a_streamed_run_leaves_the_rows_of_its_events(server: Server, assistant: str) -> None:
    events = run(server, assistant)
    ended = data_of(events, "thread.run.completed")[0]
    path = f"/v1/threads/{ended['thread_id']}"
    assert get(server, f"{path}/runs/{ended['id']}") == ended
    step = data_of(events, "thread.run.step.completed")[0]
    assert step["expires_at"] == ended["created_at"] + 600  # so in events only
    stored = get(server, f"{path}/runs/{ended['id']}/steps")["data"]
    assert stored == [step | {"expires_at": None}]
    message = data_of(events, "thread.message.completed")[0]
    assert get(server, f"{path}/messages")["data"][0] == message
    assert message["content"][0]["text"] == {"value": "Hello", "annotations": []}


def test_calls_come_in_pieces_and_end_the_stream(server: Server, assistant: str) -> None:
    reply(server, {"tool_calls": [CALL]}, {"text": "20 degrees."})
    events = run(server, assistant)
    assert names(events) == CALL_EVENTS
    first, second = (
        data["delta"]["step_details"]["tool_calls"][0]
        for data in data_of(events, "thread.run.step.delta")
    )
    assert first["id"].startswith("call_")
    assert (first["index"], first["type"]) == (0, "function")
    assert first["function"] == {"name": "get", "arguments": "", "output": None}
    arguments = {"arguments": '{"city":"Rome"}'}
    assert second == {"index": 0, "type": "function", "function": arguments}
    waiting = data_of(events, "thread.run.requires_action")[0]
    call = waiting["required_action"]["submit_tool_outputs"]["tool_calls"][0]
    assert call["function"] == {"name": "get", "arguments": '{"city":"Rome"}'}


def test_outputs_have_a_stream_of_their_own(server: Server, assistant: str) -> None:
    reply(server, {"tool_calls": [CALL, CALL]}, {"text": "20 degrees."})
    waiting = data_of(run(server, assistant), "thread.run.requires_action")[0]
    calls = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": call["id"], "output": "20"} for call in calls]
    path = f"/v1/threads/{waiting['thread_id']}/runs/{waiting['id']}/submit_tool_outputs"
    events = stream(server, path, {"tool_outputs": outputs})
    assert names(events) == ["thread.run.step.completed", "thread.run.queued", *TEXT_EVENTS]
    step = events[0][1]
    assert [call["function"]["output"] for call in step["step_details"]["tool_calls"]] == ["20"] * 2
    assert step["usage"]["total_tokens"] > 0


def test_a_limit_of_tokens_ends_with_incomplete(server: Server, assistant: str) -> None:
    reply(server, {"text": "Half", "incomplete": "max_completion_tokens"})
    events = run(server, assistant)
    assert names(events)[-4:] == [
        "thread.message.incomplete",
        "thread.run.step.completed",
        "thread.run.incomplete",
        "done",
    ]
    assert data_of(events, "thread.message.incomplete")[0]["incomplete_details"] == {
        "reason": "max_tokens"
    }


def test_a_failure_is_no_error_event(server: Server, assistant: str) -> None:
    reply(server, {"error": {"code": "rate_limit_exceeded", "message": "Too many."}})
    events = run(server, assistant)
    assert names(events)[-2:] == ["thread.run.failed", "done"]
    error = {"code": "rate_limit_exceeded", "message": "Too many."}
    assert data_of(events, "thread.run.failed")[0]["last_error"] == error


@pytest.mark.parametrize("is_deleted", [False, True], ids=["cancelled", "deleted"])
def test_a_stream_ends_with_its_run(server: Server, assistant: str, is_deleted: bool) -> None:
    reply(server, {"text": "Half of it", "chunk_characters": 4, "chunk_ms": 20_000})
    thread = post(server, "/v1/threads", {"messages": [{"role": "user", "content": "Hi"}]})["id"]
    found: Events = []

    def read() -> None:
        found.extend(stream(server, f"/v1/threads/{thread}/runs", {"assistant_id": assistant}))

    reader = threading.Thread(target=read)
    reader.start()
    runs = f"/v1/threads/{thread}/runs"
    assert until(lambda: bool(get(server, runs)["data"]))
    run_id = get(server, runs)["data"][0]["id"]
    steps = f"{runs}/{run_id}/steps"
    assert until(lambda: bool(get(server, steps)["data"]))
    if is_deleted:
        assert server.call("DELETE", f"/v1/threads/{thread}").status == 200
    else:
        assert server.call("POST", f"{runs}/{run_id}/cancel").status == 200
    reader.join()
    if is_deleted:
        assert names(found)[-1] == "error"
    else:
        ends = ["thread.message.incomplete", "thread.run.step.cancelled", "thread.run.cancelled"]
        assert names(found)[-5:] == ["thread.run.cancelling", *ends, "done"]


def test_a_refusal_of_a_stream_is_plain_json(server: Server, assistant: str) -> None:
    body = {"assistant_id": assistant, "stream": True}
    answer = server.call("POST", "/v1/threads/runs", body)
    assert (answer.status, answer.headers["Content-Type"]) == (400, "application/json")
    assert json.loads(answer.body)["error"]["code"] == "invalid_thread"


def test_the_log_tells_the_length_of_a_stream(server: Server, assistant: str) -> None:
    reply(server, {"text": "Slow", "delay_ms": 300})
    before = len(server.log.read_text())

    def told() -> list[float]:
        """Return the milliseconds that the log tells; the line of a stream follows its end."""
        lines = map(json.loads, re.findall("{.*}\n", server.log.read_text()[before:]))
        return [line["ms"] for line in lines if line.get("route", "").endswith("/threads/runs")]

    answer = run(server, assistant)
    assert names(answer)[-1] == "done"
    assert until(lambda: bool(told()))
    assert told()[-1] >= 300


# Faults that break a stream


def test_a_fault_drops_a_stream_midway(server: Server, assistant: str) -> None:
    fault(server, drop="midway", after_events=3)
    connection = HTTPConnection(*server.address, timeout=30)
    thread = {"messages": [{"role": "user", "content": "Hello"}]}
    body = {"assistant_id": assistant, "thread": thread, "stream": True}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/threads/runs", json.dumps(body), headers)
    with (
        closing(connection),
        closing(connection.getresponse()) as response,
        pytest.raises(IncompleteRead) as cut,
    ):
        response.read()
    received = cut.value.partial
    assert names(parsed(received)) == ["thread.created", "thread.run.created", "thread.run.queued"]
    thread_id = parsed(received)[0][1]["id"]
    runs = f"/v1/threads/{thread_id}/runs"
    assert until(lambda: get(server, runs)["data"][0]["status"] == "completed")


def test_a_fault_puts_an_error_into_a_stream(server: Server, assistant: str) -> None:
    fault(server, stream_error=True, after_events=2)
    events = run(server, assistant)
    assert names(events) == ["thread.created", "thread.run.created", "error"]
    assert events[-1][1]["error"]["type"] == "server_error"


def test_a_fault_stalls_a_stream(server: Server, assistant: str) -> None:
    fault(server, stall_ms=[20, 30], after_events=2)
    begin = ["thread.created", "thread.run.created", "thread.run.queued"]
    assert names(run(server, assistant)) == begin + TEXT_EVENTS


@pytest.mark.parametrize(
    "rule",
    [{"after_events": 1, "status": 500}, {"drop": "midway", "status": 500}, {"after_events": 1}],
    ids=str,
)
def test_a_senseless_fault_of_a_stream_is_refused(server: Server, rule: Wire) -> None:
    answer = server.call("POST", "/_mock/faults", {"rules": [rule]})
    assert answer.status == 400
