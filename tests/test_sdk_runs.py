"""The official SDK's runs against a live server; every answer is checked by its models."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Server, serving, until
from openai import (
    AssistantEventHandler,
    AsyncAssistantEventHandler,
    AsyncOpenAI,
    BadRequestError,
    NotFoundError,
    OpenAI,
)
from openai.types.beta import AssistantStreamEvent
from openai.types.beta.threads import Message, Run, Text, TextDelta
from openai.types.beta.threads.runs import FunctionToolCall, RunStep, ToolCall

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ROME = {"name": "get_weather", "arguments": {"city": "Rome"}}
OSLO = {"name": "get_weather", "arguments": {"city": "Oslo"}}
ANSWER = {"text": "It is 20 degrees."}
NEVER = {"text": "too late", "delay_ms": 60_000}
HALF = {"text": f"{'a' * 20}the other half", "chunk_ms": 60_000}
HELLO: Any = [{"role": "user", "content": "hello"}]
TEXT_EVENTS = [
    *("thread.run.created", "thread.run.queued", "thread.run.in_progress"),
    *("thread.run.step.created", "thread.run.step.in_progress"),
    *("thread.message.created", "thread.message.in_progress", "thread.message.delta"),
    *("thread.message.completed", "thread.run.step.completed", "thread.run.completed"),
]
CALL_EVENTS = [
    *("thread.run.created", "thread.run.queued", "thread.run.in_progress"),
    *("thread.run.step.created", "thread.run.step.in_progress", "thread.run.step.delta"),
    "thread.run.requires_action",
]
pytestmark = pytest.mark.filterwarnings("ignore:.*[Dd]eprecated.*:DeprecationWarning")
Say = Callable[..., None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One live server with the mock controls, shared by the module's tests."""
    with serving(tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture(autouse=True)
def say(server: Server) -> Iterator[Say]:
    """Let every run of this test answer with these replies; without any it repeats the question."""

    def say(*replies: Any) -> None:
        rules = {"rules": [{"replies": replies}]}
        assert server.call("PUT", "/_mock/replies", rules).status == 200

    yield say
    assert server.call("DELETE", "/_mock/replies").status == 200


@pytest.fixture(scope="module")
def assistant(sdk: OpenAI) -> str:
    tools = [WEATHER, {"type": "file_search"}]
    assistants = sdk.beta.assistants
    return assistants.create(model="gpt-4o", instructions="Be brief.", tools=tools).id


@pytest.fixture
def thread(sdk: OpenAI) -> str:
    return sdk.beta.threads.create(messages=HELLO).id


def outputs_for(run: Run) -> Any:
    """Return an output for each call that a run waits for: the name of its city."""
    assert run.required_action is not None
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": call.function.arguments} for call in calls]


def texts(sdk: OpenAI, thread: str, **query: Any) -> list[str]:
    messages = sdk.beta.threads.messages.list(thread, order="asc", **query)
    return [message.content[0].text.value for message in messages]  # type: ignore[union-attr]


def in_progress(sdk: OpenAI, thread: str, assistant: str) -> Run:
    runs = sdk.beta.threads.runs
    run = runs.create(thread, assistant_id=assistant)
    assert until(lambda: runs.retrieve(run.id, thread_id=thread).status == "in_progress")
    return run


def test_create_and_poll_returns_the_run_with_its_answer(
    sdk: OpenAI, thread: str, assistant: str
) -> None:
    runs = sdk.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    assert (run.status, run.expires_at, run.required_action) == ("completed", None, None)
    assert run.usage.total_tokens == run.usage.prompt_tokens + run.usage.completion_tokens == 4
    newest = sdk.beta.threads.messages.list(thread).data[0]
    assert (newest.role, newest.run_id, newest.assistant_id) == ("assistant", run.id, assistant)
    assert texts(sdk, thread) == ["hello", "hello"]
    assert runs.retrieve(run.id, thread_id=thread) == run


def test_a_run_takes_every_parameter(sdk: OpenAI, thread: str, assistant: str) -> None:
    settings: Any = {
        "model": "gpt-4o-mini",
        "instructions": "Answer.",
        "tools": [WEATHER],
        "metadata": {"a": "1"},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_prompt_tokens": 256,
        "max_completion_tokens": 16,
        "truncation_strategy": {"type": "last_messages", "last_messages": 10},
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
    }
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread,
        assistant_id=assistant,
        additional_instructions="In rhymes.",
        additional_messages=[{"role": "user", "content": "and bye"}],
        include=["step_details.tool_calls[*].file_search.results[*].content"],
        **settings,
    )
    stored = run.to_dict()
    assert stored["instructions"] == "Answer.\n\nIn rhymes."
    assert {name: stored[name] for name in settings} == settings | {
        "instructions": "Answer.\n\nIn rhymes.",
        "tools": [{**WEATHER, "function": {**WEATHER["function"], "strict": False}}],
    }
    assert texts(sdk, thread) == ["hello", "and bye", "and bye"]


def test_a_run_without_instructions_has_none(server: Server, thread: str) -> None:
    with server.sdk(_strict_response_validation=False) as sdk:  # its model of a run forbids null
        assistant = sdk.beta.assistants.create(model="gpt-4o")
        runs = sdk.beta.threads.runs
        run = runs.create_and_poll(thread_id=thread, assistant_id=assistant.id)
        assert (run.status, run.instructions) == ("completed", None)


def test_create_and_run_poll_makes_the_thread(sdk: OpenAI, assistant: str) -> None:
    asked: Any = {"messages": HELLO, "metadata": {"a": "1"}}
    run = sdk.beta.threads.create_and_run_poll(assistant_id=assistant, thread=asked)
    assert run.status == "completed"
    assert sdk.beta.threads.retrieve(run.thread_id).metadata == {"a": "1"}
    assert texts(sdk, run.thread_id, run_id=run.id) == ["hello"]


def test_two_parallel_calls_get_their_outputs(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say({"tool_calls": [ROME, OSLO]}, ANSWER)
    runs = sdk.beta.threads.runs
    waiting = runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    assert waiting.status == "requires_action"
    outputs = outputs_for(waiting)
    assert [each["output"] for each in outputs] == ['{"city":"Rome"}', '{"city":"Oslo"}']
    run = runs.submit_tool_outputs_and_poll(
        run_id=waiting.id, thread_id=thread, tool_outputs=outputs[::-1]
    )
    assert run.status == "completed"
    assert texts(sdk, thread) == ["hello", "It is 20 degrees."]
    said, called = runs.steps.list(run.id, thread_id=thread)
    assert said.step_details.type == "message_creation"
    assert called.step_details.type == "tool_calls"
    stored = [call.function.output for call in called.step_details.tool_calls]  # type: ignore[union-attr]
    assert stored == ['{"city":"Rome"}', '{"city":"Oslo"}']
    assert runs.steps.retrieve(called.id, thread_id=thread, run_id=run.id) == called


def test_a_run_is_cancelled_while_it_is_in_progress(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say(NEVER)
    runs = sdk.beta.threads.runs
    run = in_progress(sdk, thread, assistant)
    assert runs.cancel(run.id, thread_id=thread).status == "cancelling"
    cancelled = runs.poll(run.id, thread_id=thread)
    assert (cancelled.status, cancelled.last_error) == ("cancelled", None)
    assert texts(sdk, thread) == ["hello"]


def test_a_run_that_fails_says_why(sdk: OpenAI, thread: str, assistant: str, say: Say) -> None:
    say({"error": {"code": "rate_limit_exceeded", "message": "Slow down."}})
    run = sdk.beta.threads.runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    assert (run.status, run.last_error.code) == ("failed", "rate_limit_exceeded")
    assert run.last_error.message == "Slow down."


def test_an_answer_that_is_cut_short_is_incomplete(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say({"text": "It is", "incomplete": "max_completion_tokens"})
    run = sdk.beta.threads.runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_completion_tokens")
    newest = sdk.beta.threads.messages.list(thread).data[0]
    assert (newest.status, newest.incomplete_details.reason) == ("incomplete", "max_tokens")


def test_an_answer_that_is_polled_tells_when_to_look_again(
    sdk: OpenAI, thread: str, assistant: str
) -> None:
    raw = sdk.beta.threads.runs.with_raw_response
    created = raw.create(thread, assistant_id=assistant)
    seen = raw.retrieve(created.parse().id, thread_id=thread)
    assert [each.headers["openai-poll-after-ms"] for each in (created, seen)] == ["20", "20"]


def test_the_metadata_of_a_run_are_modified(sdk: OpenAI, thread: str, assistant: str) -> None:
    runs = sdk.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread, assistant_id=assistant, metadata={"a": "1"})
    assert runs.update(run.id, thread_id=thread, metadata={"b": "2"}).metadata == {"b": "2"}


def test_the_sdk_pages_through_all_runs(sdk: OpenAI, thread: str, assistant: str) -> None:
    runs = sdk.beta.threads.runs
    made = [runs.create_and_poll(thread_id=thread, assistant_id=assistant).id for _ in range(5)]
    assert [run.id for run in runs.list(thread, limit=2, order="asc")] == made
    assert [run.id for run in runs.list(thread, limit=2)] == made[::-1]


def test_the_sdk_pages_through_all_steps(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say({"tool_calls": [ROME]}, {"tool_calls": [ROME]}, {"tool_calls": [ROME]}, ANSWER)
    runs = sdk.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    while run.status == "requires_action":
        run = runs.submit_tool_outputs_and_poll(
            run_id=run.id, thread_id=thread, tool_outputs=outputs_for(run)
        )
    steps = list(runs.steps.list(run.id, thread_id=thread, limit=2, order="asc"))
    assert [step.type for step in steps] == ["tool_calls"] * 3 + ["message_creation"]
    assert run.usage.total_tokens == sum(step.usage.total_tokens for step in steps)


class Handler(AssistantEventHandler):
    """Notes what a stream tells."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.pieces: list[str] = []
        self.done: list[Any] = []
        self.steps: list[RunStep] = []

    def on_event(self, event: AssistantStreamEvent) -> None:
        if self.names[-1:] != [event.event]:
            self.names.append(event.event)

    def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        assert snapshot.value.endswith(delta.value or "")
        self.pieces.append(delta.value or "")

    def on_text_done(self, text: Text) -> None:
        self.done.append(text.value)

    def on_message_done(self, message: Message) -> None:
        self.done.append(message.status)

    def on_tool_call_done(self, tool_call: ToolCall) -> None:
        assert isinstance(tool_call, FunctionToolCall)
        self.done.append((tool_call.function.name, tool_call.function.arguments))

    def on_run_step_done(self, run_step: RunStep) -> None:
        self.done.append(run_step.type)
        self.steps.append(run_step)


def test_a_handler_is_told_a_text(sdk: OpenAI, thread: str, assistant: str, say: Say) -> None:
    say(ANSWER | {"chunk_characters": 6})
    runs = sdk.beta.threads.runs
    handler = Handler()
    with runs.stream(thread_id=thread, assistant_id=assistant, event_handler=handler) as stream:
        stream.until_done()
        run, [message] = stream.get_final_run(), stream.get_final_messages()
        assert [step.id for step in stream.get_final_run_steps()] == [handler.steps[0].id]
    assert handler.names == TEXT_EVENTS
    assert handler.pieces == ["It is ", "20 deg", "rees."]
    assert handler.done == ["It is 20 degrees.", "completed", "message_creation"]
    assert run == runs.retrieve(run.id, thread_id=thread)
    assert message == sdk.beta.threads.messages.retrieve(message.id, thread_id=thread)
    [told] = [step.to_dict() for step in handler.steps]
    stored = runs.steps.retrieve(handler.steps[0].id, thread_id=thread, run_id=run.id).to_dict()
    assert stored | {"expires_at": run.created_at + 600} == told
    assert stored["expires_at"] is None


def test_a_handler_is_told_calls_and_the_answer_to_their_outputs(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say({"tool_calls": [ROME, OSLO], "chunk_characters": 4}, ANSWER)
    runs = sdk.beta.threads.runs
    first, second = Handler(), Handler()
    with runs.stream(thread_id=thread, assistant_id=assistant, event_handler=first) as stream:
        stream.until_done()
        waiting = stream.get_final_run()
    assert first.names == CALL_EVENTS
    calls = [("get_weather", '{"city":"Rome"}'), ("get_weather", '{"city":"Oslo"}')]
    assert first.done == calls
    with runs.submit_tool_outputs_stream(
        run_id=waiting.id,
        thread_id=thread,
        tool_outputs=outputs_for(waiting),
        event_handler=second,
    ) as stream:
        stream.until_done()
        run = stream.get_final_run()
    assert second.names == ["thread.run.step.completed", *TEXT_EVENTS[1:]]
    assert second.done[-3:] == ["It is 20 degrees.", "completed", "message_creation"]
    assert run == runs.retrieve(run.id, thread_id=thread)


def test_create_and_run_stream_tells_the_thread_first(sdk: OpenAI, assistant: str) -> None:
    asked: Any = {"messages": HELLO}
    with sdk.beta.threads.create_and_run_stream(assistant_id=assistant, thread=asked) as stream:
        event = next(stream)
        assert event.event == "thread.created"
        pieces = list(stream.text_deltas)
    assert "".join(pieces) == "hello"
    assert texts(sdk, event.data.id) == ["hello", "hello"]


def test_a_plain_stream_is_iterated(sdk: OpenAI, thread: str, assistant: str) -> None:
    stream = sdk.beta.threads.runs.create(thread, assistant_id=assistant, stream=True)
    assert [event.event for event in stream] == TEXT_EVENTS


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"error": {"code": "server_error"}}, "failed"),
        ({"text": "It is", "incomplete": "max_prompt_tokens"}, "incomplete"),
    ],
)
def test_a_stream_tells_any_end(
    sdk: OpenAI, thread: str, assistant: str, say: Say, reply: Any, status: str
) -> None:
    say(reply)
    with sdk.beta.threads.runs.stream(thread_id=thread, assistant_id=assistant) as stream:
        names = [event.event for event in stream]
        assert stream.get_final_run().status == status
    assert names[-1] == f"thread.run.{status}"


def test_a_stream_tells_that_its_run_was_cancelled(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say(HALF)
    runs = sdk.beta.threads.runs
    with runs.stream(thread_id=thread, assistant_id=assistant) as stream:
        names = []
        for event in stream:
            names.append(event.event)
            if event.event == "thread.message.delta":
                [run] = runs.list(thread).data
                runs.cancel(run.id, thread_id=thread)
        assert stream.get_final_run().status == "cancelled"
        [message] = stream.get_final_messages()
    assert names[-3:] == [
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
    ]
    assert message.incomplete_details.reason == "run_cancelled"
    assert texts(sdk, thread) == ["hello", "a" * 20]


def test_a_run_goes_on_when_its_reader_leaves(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say({"text": "20 degrees in Rome, 5 in Oslo", "chunk_ms": 100})
    runs = sdk.beta.threads.runs
    with runs.stream(thread_id=thread, assistant_id=assistant) as stream:
        next(stream.text_deltas)
    [run] = runs.list(thread).data
    assert runs.poll(run.id, thread_id=thread).status == "completed"
    assert texts(sdk, thread) == ["hello", "20 degrees in Rome, 5 in Oslo"]


class AsyncHandler(AsyncAssistantEventHandler):
    """Notes the texts and calls that a stream tells."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    async def on_text_done(self, text: Text) -> None:
        self.done.append(text.value)

    async def on_tool_call_done(self, tool_call: ToolCall) -> None:
        assert isinstance(tool_call, FunctionToolCall)
        self.done.append(tool_call.function.arguments)


def test_the_async_client_polls_and_streams(
    server: Server, thread: str, assistant: str, say: Say
) -> None:
    say({"tool_calls": [ROME]}, ANSWER)

    async def polled(sdk: AsyncOpenAI) -> None:
        runs = sdk.beta.threads.runs
        waiting = await runs.create_and_poll(thread_id=thread, assistant_id=assistant)
        outputs, run_id = outputs_for(waiting), waiting.id
        run = await runs.submit_tool_outputs_and_poll(
            run_id=run_id, thread_id=thread, tool_outputs=outputs
        )
        assert run.status == "completed"
        assert [each.id async for each in runs.list(thread, limit=1)] == [run_id]
        assert len([each async for each in runs.steps.list(run_id, thread_id=thread)]) == 2

    async def streamed(sdk: AsyncOpenAI) -> list[str]:
        runs = sdk.beta.threads.runs
        first, second = AsyncHandler(), AsyncHandler()
        async with runs.stream(
            thread_id=thread, assistant_id=assistant, event_handler=first
        ) as stream:
            await stream.until_done()
            waiting = await stream.get_final_run()
        async with runs.submit_tool_outputs_stream(
            run_id=waiting.id,
            thread_id=thread,
            tool_outputs=outputs_for(waiting),
            event_handler=second,
        ) as stream:
            await stream.until_done()
        asked: Any = {"messages": HELLO}
        async with sdk.beta.threads.create_and_run_stream(
            assistant_id=assistant, thread=asked
        ) as started:
            run = await started.get_final_run()
        await runs.cancel(run.id, thread_id=run.thread_id)
        return first.done + second.done

    async def both() -> list[str]:
        async with server.async_sdk() as sdk:
            await polled(sdk)
            return await streamed(sdk)

    assert asyncio.run(both()) == ['{"city":"Rome"}', "It is 20 degrees."]


def refused(kind: type[BadRequestError | NotFoundError], call: Callable[[], Any]) -> Any:
    """Return what the refusal of a call says, without its id."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert error.type == "invalid_request_error"
    return error.body["message"], error.param, error.code  # type: ignore[index]


def test_what_is_missing_is_not_found(sdk: OpenAI, thread: str, assistant: str) -> None:
    runs = sdk.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    nowhere = {"thread_id": thread, "run_id": "run_0"}
    no_run = "No run found with id 'run_0'."
    calls: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: runs.create(thread, assistant_id="asst_0"),
            "No assistant found with id 'asst_0'.",
        ),
        (
            lambda: runs.create("thread_0", assistant_id=assistant),
            "No thread found with id 'thread_0'.",
        ),
        (
            lambda: sdk.beta.threads.create_and_run(assistant_id="asst_0"),
            "No assistant found with id 'asst_0'.",
        ),
        (lambda: runs.list("thread_0"), "No thread found with id 'thread_0'."),
        (lambda: runs.retrieve(**nowhere), no_run),
        (lambda: runs.update(**nowhere, metadata={}), no_run),
        (lambda: runs.cancel(**nowhere), no_run),
        (lambda: runs.submit_tool_outputs(**nowhere, tool_outputs=[]), no_run),
        (lambda: runs.steps.list(**nowhere), no_run),
        (lambda: runs.steps.retrieve("step_0", **nowhere), no_run),
        (
            lambda: runs.steps.retrieve("step_0", thread_id=thread, run_id=run.id),
            "No run step found with id 'step_0'.",
        ),
    ]
    for call, message in calls:
        assert refused(NotFoundError, call) == (message, None, None)


def test_a_locked_thread_refuses_messages_and_runs(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say(NEVER)
    runs = sdk.beta.threads.runs
    run = in_progress(sdk, thread, assistant)
    busy = (f"Thread {thread} already has an active run {run.id}.", None, None)
    more: Any = {"assistant_id": assistant, "additional_messages": HELLO}
    assert refused(BadRequestError, lambda: runs.create(thread, assistant_id=assistant)) == busy
    assert refused(BadRequestError, lambda: runs.create(thread, **more)) == busy
    assert refused(BadRequestError, lambda: runs.create(thread, **more, stream=True)) == busy
    closed = f"Can't add messages to {thread} while a run {run.id} is active."
    add = sdk.beta.threads.messages.create
    for role in ("user", "assistant"):
        call = lambda role=role: add(thread, role=role, content="x")  # noqa: E731
        assert refused(BadRequestError, call) == (closed, None, None)
    runs.cancel(run.id, thread_id=thread)
    runs.poll(run.id, thread_id=thread)
    assert add(thread, role="user", content="x").thread_id == thread


def test_a_state_that_does_not_fit_is_refused(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    runs = sdk.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    place = {"run_id": run.id, "thread_id": thread}
    assert refused(BadRequestError, lambda: runs.cancel(**place)) == (
        "Cannot cancel run with status 'completed'.",
        None,
        None,
    )
    assert refused(BadRequestError, lambda: runs.submit_tool_outputs(**place, tool_outputs=[])) == (
        'Runs in status "completed" do not accept tool outputs.',
        None,
        None,
    )


def test_outputs_that_do_not_fit_are_refused(
    sdk: OpenAI, thread: str, assistant: str, say: Say
) -> None:
    say({"tool_calls": [ROME, OSLO]}, ANSWER)
    runs = sdk.beta.threads.runs
    run = runs.create_and_poll(thread_id=thread, assistant_id=assistant)
    rome, oslo = outputs_for(run)
    ids = [each["tool_call_id"] for each in (rome, oslo)]
    for sent in ([rome], [oslo], [], [rome, oslo, {"tool_call_id": "call_0", "output": ""}]):
        call = lambda sent=sent: runs.submit_tool_outputs(  # noqa: E731
            run.id, thread_id=thread, tool_outputs=sent
        )
        got = [each["tool_call_id"] for each in sent]
        message = f"Expected tool outputs for call_ids {ids}, got {got}"
        assert refused(BadRequestError, call) == (message, None, None)
    assert runs.cancel(run.id, thread_id=thread).status == "cancelled"


def test_a_run_without_a_question_is_refused(sdk: OpenAI) -> None:
    assistant = sdk.beta.assistants.create(model="gpt-4o").id
    thread = sdk.beta.threads.create().id
    runs = sdk.beta.threads.runs
    assert refused(BadRequestError, lambda: runs.create(thread, assistant_id=assistant)) == (
        "Run creation requires a Thread with a user message or an assistant with instructions.",
        None,
        "invalid_thread",
    )


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"extra_body": {"assistant_id": None}}, "assistant_id", "invalid_type"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type", "invalid_value"),
        ({"metadata": {"a": True}}, "metadata.a", "invalid_type"),
        ({"extra_body": {"unknown": 1}}, "unknown", "unknown_parameter"),
    ],
)
def test_a_body_that_is_wrong_is_refused(
    sdk: OpenAI, thread: str, assistant: str, body: Any, param: str, code: str
) -> None:
    runs = sdk.beta.threads.runs
    for stream in (False, True):
        call = lambda stream=stream: runs.create(  # noqa: E731
            thread, **({"assistant_id": assistant} | body), stream=stream
        )
        assert refused(BadRequestError, call)[1:] == (param, code)


def test_a_missing_assistant_is_named(server: Server, thread: str) -> None:
    answer = server.call("POST", f"/v1/threads/{thread}/runs", {})
    assert answer.status == 400
    assert b"\"Missing required parameter: 'assistant_id'.\"" in answer.body
    assert b'"missing_required_parameter"' in answer.body


def test_a_stream_cannot_be_repeated(sdk: OpenAI, thread: str, assistant: str) -> None:
    runs = sdk.beta.threads.runs
    key = {"Idempotency-Key": "once"}
    manager = runs.stream(thread_id=thread, assistant_id=assistant, extra_headers=key)
    assert refused(BadRequestError, manager.__enter__)[1:] == ("stream", "invalid_value")
    assert runs.list(thread).data == []
    polled = {"thread_id": thread, "assistant_id": assistant, "extra_headers": key}
    assert runs.create(**polled).id == runs.create(**polled).id
    assert len(runs.list(thread).data) == 1


def test_a_server_without_controls_answers_no_run(serve: Callable[..., Any]) -> None:
    with serve(MOCK="off") as server, server.sdk() as sdk:
        assistant = sdk.beta.assistants.create(model="gpt-4o", instructions="Be brief.").id
        thread = sdk.beta.threads.create(messages=HELLO).id
        runs = sdk.beta.threads.runs
        _, param, code = refused(
            BadRequestError, lambda: runs.create(thread, assistant_id=assistant)
        )
        assert (param, code) == (None, "model_not_configured")
        assert runs.list(thread).data == []
        assert sdk.beta.threads.messages.create(thread, role="user", content="x").id
