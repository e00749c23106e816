"""A model answers runs: what it is sent, what becomes of its answers, and of its faults."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

import fake_model
import pytest
from conftest import until
from fake_model import (
    KEY,
    USAGE,
    FakeModel,
    breaks,
    call,
    calls,
    chunk,
    refuses,
    says,
    sends,
    stalls,
    streams,
)
from flask.testing import FlaskClient
from runs_client import RunsClient, Wire, calls_of, of, text_of

import cli
from chat import endpoint
from config import ROOT

pytestmark = pytest.mark.sqlite_only("a model is asked the same way with both")

TOOL = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}
STALLS = {None: stalls(is_silent=True), "nothing": stalls(), "Half": stalls("Half")}
BAD_STREAM = "Its answer ended in the middle"


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with fake_model.endpoint() as model:
        yield model


@pytest.fixture
def runs(client_with: Callable[..., FlaskClient], model: FakeModel) -> RunsClient:
    """The client of an app whose runs this test's model answers."""
    return RunsClient(client_with(MOCK="on", MODEL_URL=model.url, MODEL_KEY=KEY, MODEL_TIMEOUT=20))


@pytest.fixture
def thread(runs: RunsClient) -> str:
    return runs.thread("What is new?")


@pytest.fixture
def assistant(runs: RunsClient) -> str:
    return runs.assistant()


def of_user(text: str) -> Wire:
    return {"role": "user", "content": text}


def of_assistant(text: str) -> Wire:
    return {"role": "assistant", "content": text}


# an answer


def test_the_answer_of_the_model_is_a_message(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    run = runs.finished(thread, assistant)
    assert (run["status"], run["last_error"]) == ("completed", None)
    assert {name: run["usage"][name] for name in USAGE} == USAGE
    assert runs.texts(thread) == ["What is new?", "Hello."]
    [request] = model.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "m",
        "messages": [of_user("What is new?")],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_stream_has_the_pieces_of_the_model(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(says("It is ", "", "sunny", "."))
    body = {"assistant_id": assistant, "stream": True}
    text = runs.call("POST", f"/v1/threads/{thread}/runs", body).text
    deltas = [line[6:] for line in text.splitlines() if "thread.message.delta" in line[6:]]
    deltas = [each for each in deltas if each.startswith("{")]
    pieces = [json.loads(each)["delta"]["content"][0]["text"]["value"] for each in deltas]
    assert pieces == ["It is ", "sunny", "."]
    assert text.rstrip().endswith("data: [DONE]")


def test_clients_are_told_to_poll_a_model_less_often(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.finished(thread, assistant)
    assert runs.call("GET", of(run)).headers["openai-poll-after-ms"] == "500"


def test_an_endpoint_without_streams_answers_as_well(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    choice = {"index": 0, "message": of_assistant("Whole."), "finish_reason": "stop"}
    model.play(sends(200, {"choices": [choice], "usage": USAGE}))
    run = runs.finished(thread, assistant)
    assert runs.texts(thread)[-1] == "Whole."
    assert run["usage"]["total_tokens"] == 35


@pytest.mark.parametrize(
    ("names", "sent"),
    [
        ({}, "m"),
        ({"m": "qwen3:8b", "*": "llama3.2"}, "qwen3:8b"),
        ({"gpt-4o": "qwen3:8b", "*": "llama3.2"}, "llama3.2"),
        ({"gpt-4o": "qwen3:8b"}, "m"),
    ],
)
def test_a_model_has_its_name_there(
    client_with: Callable[..., FlaskClient], model: FakeModel, names: Wire, sent: str
) -> None:
    runs = RunsClient(client_with(MODEL_URL=model.url, MODELS=names))
    run = runs.finished(runs.thread("Hi"), runs.assistant())
    assert (model.bodies[0]["model"], run["model"]) == (sent, "m")
    assert "Authorization" not in model.requests[0].headers


# script or model


def test_a_rule_that_matches_wins_over_the_model(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    runs.reply({"text": "By the script."}, match="*new*")
    runs.finished(thread, assistant)
    assert runs.texts(thread)[-1] == "By the script."
    assert model.requests == []
    other = runs.thread("Old?")
    runs.finished(other, assistant)
    assert runs.texts(other)[-1] == "Hello."


def test_a_run_keeps_the_model_that_answered_its_first_turn(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    model.play(calls(call("get", "{}")), says("By the model."))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    runs.reply({"text": "By the script."})
    runs.submit(run)
    runs.wait(run, "completed")
    assert runs.texts(thread)[-1] == "By the model."
    assert runs.get("/_mock/replies")["rules"][0]["runs"] == 0


def test_a_model_answers_where_the_controls_are_off(
    client_with: Callable[..., FlaskClient], model: FakeModel
) -> None:
    runs = RunsClient(client_with(MOCK="off", MODEL_URL=model.url))
    thread = runs.thread("Hi")
    assert runs.finished(thread, runs.assistant())["status"] == "completed"
    assert runs.texts(thread) == ["Hi", "Hello."]


def test_without_a_model_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    program = "import app, sys; app.create_app(); sys.exit('chat' in sys.modules)"
    own = {"THREADS_DATABASE_URL": f"sqlite:///{tmp_path / 'threads.db'}"}
    for settings, status in (({}, 0), ({"THREADS_MODEL_URL": "http://127.0.0.1:9/v1"}, 1)):
        command = [sys.executable, "-c", program]
        assert (
            subprocess.run(command, cwd=ROOT, env=os.environ | own | settings).returncode == status
        )


# functions


def test_functions_are_called_and_their_outputs_sent(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    arguments = '{"city":"Rome"}'
    model.play(calls(call("get", '{"city":', '"Rome"}'), call("get", index=1)), says("20."))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    functions = [each["function"] for each in calls_of(run)]
    assert [each["arguments"] for each in functions] == [arguments, "{}"]
    ids = [each["id"] for each in calls_of(run)]
    runs.submit(run, "sunny")
    assert runs.wait(run, "completed")["usage"]["total_tokens"] == 70
    asked = [
        {"id": id_, "type": "function", "function": {"name": "get", "arguments": each}}
        for id_, each in zip(ids, (arguments, "{}"), strict=True)
    ]
    outputs = [{"role": "tool", "tool_call_id": id_, "content": "sunny"} for id_ in ids]
    begin = {"role": "assistant", "content": None, "tool_calls": asked}
    history = [of_user("What is new?"), begin, *outputs]
    assert model.bodies[1]["messages"] == history
    assert runs.say(thread, "Thanks!").status_code == 200
    runs.finished(thread, run["assistant_id"])
    assert model.bodies[2]["messages"] == [*history, of_assistant("20."), of_user("Thanks!")]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get"}}])
def test_a_tool_is_demanded_until_one_is_called(
    runs: RunsClient, thread: str, model: FakeModel, choice: Any
) -> None:
    """Else an endpoint that obeys would have the run call for ever."""
    model.play(calls(call("get", "{}")), says("Done."))
    run = runs.run(thread, runs.assistant(tools=[TOOL]), tool_choice=choice)
    runs.submit(runs.wait(run, "requires_action"))
    assert runs.wait(run, "completed")["tool_choice"] == choice
    first, second = model.bodies
    assert (first["tool_choice"], "tool_choice" in second) == (choice, False)
    assert second["tools"] == first["tools"]


def test_text_before_a_call_is_one_message_with_it(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    model.play(calls([chunk({"content": "One moment."})], call("get", "{}")), says("Done."))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    runs.submit(run)
    runs.wait(run, "completed")
    assert runs.texts(thread) == ["What is new?", "One moment.", "Done."]
    _, asked, output = model.bodies[1]["messages"]
    assert (asked["content"], len(asked["tool_calls"])) == ("One moment.", 1)
    assert output["role"] == "tool"


def piece(name: str | None, arguments: Any, **place: Any) -> Wire:
    """Return a piece of a call that has an index and an id, one of them, or neither."""
    return {**place, "function": {"name": name, "arguments": arguments}}


TOLD_APART: dict[str, list[Wire]] = {
    "one index": [piece(name, {"n": 1}, index=0, id=name) for name in "ab"],
    "one index, in pieces": [
        piece("a", "", index=0, id="1"),
        piece(None, '{"n":1}', index=0),
        piece("b", "", index=0, id="2"),
        piece(None, '{"n":1}', index=0),
    ],
    "one index and no id": [piece(name, {"n": 1}, index=0, id="") for name in "ab"],
    "no index": [piece(name, {"n": 1}, id=name) for name in "ab"],
    "neither": [piece(name, {"n": 1}) for name in "ab"],
    "neither, in pieces": [
        piece("a", '{"n"'),
        piece(None, ":1}"),
        piece("b", '{"n"'),
        piece(None, ":1}"),
    ],
    "a name in each piece": [
        piece("a", '{"n"', index=0),
        piece("a", ":1}", index=0),
        piece("b", '{"n"', index=1),
        piece("b", ":1}", index=1),
    ],
}


@pytest.mark.parametrize("name", TOLD_APART)
def test_calls_are_told_apart_whatever_place_they_have(
    runs: RunsClient, thread: str, model: FakeModel, name: str
) -> None:
    model.play(calls([chunk({"tool_calls": [each]}) for each in TOLD_APART[name]], finish="stop"))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    functions = [each["function"] for each in calls_of(run)]
    assert [(each["name"], each["arguments"]) for each in functions] == [
        ("a", '{"n":1}'),
        ("b", '{"n":1}'),
    ]


def test_a_function_without_index_and_id_may_be_called_twice(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    model.play(calls([chunk({"tool_calls": [piece("a", {"n": n}) for n in (1, 2)]})]))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    assert [each["function"]["arguments"] for each in calls_of(run)] == ['{"n":1}', '{"n":2}']


def test_only_functions_are_offered(runs: RunsClient, thread: str, model: FakeModel) -> None:
    tools = [{"type": "code_interpreter"}, {"type": "file_search"}]
    runs.finished(thread, runs.assistant(tools=tools), tool_choice="required")
    runs.finished(thread, runs.assistant(tools=[*tools, TOOL]))
    without, only = model.bodies
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & without.keys()
    assert [each["function"]["name"] for each in only["tools"]] == ["get"]
    assert "strict" not in only["tools"][0]["function"]


def test_a_program_from_before_the_shutdown_runs_unmodified(
    serve: Callable[..., Any], model: FakeModel
) -> None:
    """Functions, streams, and streamed outputs, by the official SDK's helpers."""
    model.play(calls(call("get_weather", '{"city":', '"Rome"}')), says("It is ", "sunny."))
    command = [sys.executable, "-W", "ignore", ROOT / "examples" / "weather_assistant.py"]
    with serve(MODEL_URL=model.url) as server:
        where = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "any"}
        done = subprocess.run(command, env=os.environ | where, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("It is sunny.\n", "")
    output = model.bodies[1]["messages"][-1]["content"]
    assert output == "It is 20 degrees and sunny in Rome."


# what a run sets


def test_what_is_set_is_sent(runs: RunsClient, thread: str, model: FakeModel) -> None:
    choice = {"type": "function", "function": {"name": "get"}}
    settings: Wire = {
        "temperature": 0.5,
        "top_p": 0.25,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "max_completion_tokens": 400,
    }
    runs.finished(thread, runs.assistant(tools=[TOOL]), **settings)
    body = model.bodies[0]
    assert {name: body[name] for name in settings} == settings


def test_what_nobody_set_is_not_sent(runs: RunsClient, thread: str, model: FakeModel) -> None:
    runs.finished(thread, runs.assistant(tools=[TOOL], temperature=1, top_p=1))
    assert model.bodies[0].keys() == {"model", "messages", "stream", "stream_options", "tools"}


def test_the_turns_of_a_run_share_its_budget(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    model.play(calls(call("get", "{}")))
    assistant = runs.assistant(tools=[TOOL])
    run = runs.wait(runs.run(thread, assistant, max_completion_tokens=9), "requires_action")
    runs.submit(run)
    run = runs.wait(run, "requires_action")
    assert [body["max_completion_tokens"] for body in model.bodies] == [9, 4]
    runs.submit(run)
    run = runs.wait(run, "incomplete")
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert len(model.bodies) == 2


def test_an_answer_is_cut_where_the_endpoint_knows_no_limit(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(stalls("a", "b", "c", "d"))
    run = runs.finished(thread, assistant, max_completion_tokens=3)
    assert (run["status"], run["usage"]["completion_tokens"]) == ("incomplete", 3)
    assert runs.texts(thread)[-1] == "abc"
    assert until(lambda: bool(model.left))


UNKNOWN = {
    "OpenAI": "Unsupported parameter: '{}' is not supported with this model. Use 'it' instead.",
    "OpenAI, too": "Unknown parameter: '{}'.",
    "Azure": "Unrecognized request argument supplied: {}",
    "Azure AI": "Extra parameters ['{}'] are not allowed when extra-parameters is not set",
    "vLLM": "[{{'type': 'extra_forbidden', 'loc': ('body', '{}'), 'msg': 'Extra inputs are not "
    "permitted', 'input': 40}}]",
    "LiteLLM": "litellm.UnsupportedParamsError: mistral does not support parameters: {{'{}': 40}}",
    "Google": 'Invalid JSON payload received. Unknown name "{}": Cannot find field.',
    "Groq": "property '{}' is unsupported",
    "Go": 'json: unknown field "{}"',
    "JSON Schema": "Additional properties are not allowed ('{}' was unexpected)",
    "Python": "create() got an unexpected keyword argument '{}'",
    "a person": "{} is not supported",
}


@pytest.mark.parametrize("option", ["stream_options", "max_completion_tokens"])
@pytest.mark.parametrize("who", UNKNOWN)
def test_an_option_that_the_endpoint_does_not_know_is_left_out_from_then_on(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel, option: str, who: str
) -> None:
    model.play(refuses(400, UNKNOWN[who].format(option)), says("Fine."))
    for _ in range(2):
        run = runs.finished(thread, assistant, max_completion_tokens=40)
        assert run["status"] == "completed"
    assert [option in body for body in model.bodies] == [True, False, False]
    assert model.bodies[2].get("max_tokens") == (40 if option[0] == "m" else None)


def test_an_option_that_one_model_does_not_know_is_sent_to_another(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(refuses(400, UNKNOWN["OpenAI"].format("max_completion_tokens")), says("Fine."))
    runs.finished(thread, assistant, max_completion_tokens=40)
    runs.finished(thread, assistant, max_completion_tokens=40, model="another")
    limits = ["max_completion_tokens", "max_tokens", "max_completion_tokens"]
    assert [limit in body for body, limit in zip(model.bodies, limits, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    "said",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 10000.",
        "The parameter `max_completion_tokens` specified in the request are not valid: integer "
        "above maximum value, expected a value <= 4096, but got 10000 instead.",
        "Unsupported value: 'max_completion_tokens' does not support 10000 with this model.",
    ],
)
def test_a_value_that_the_endpoint_refuses_says_nothing_of_the_option(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel, said: str
) -> None:
    model.play(refuses(400, said), says("Fine."))
    run = runs.finished(thread, assistant, max_completion_tokens=10_000)
    assert failure(run)[0] == "invalid_prompt"
    runs.finished(thread, assistant, max_completion_tokens=40)
    assert [body["max_completion_tokens"] for body in model.bodies] == [10_000, 40]


# the conversation


def test_instructions_and_messages_are_sent_in_order(runs: RunsClient, model: FakeModel) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}}
    of_file = {"type": "image_file", "image_file": {"file_id": "file-1"}}
    thread = runs.thread("one", "two")
    for role, content in [
        ("assistant", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ("user", [{"type": "text", "text": "Look:"}, image, of_file]),
    ]:
        runs.post(f"/v1/threads/{thread}/messages", {"role": role, "content": content})
    more = {"additional_messages": [of_user("three")], "additional_instructions": "Be kind."}
    runs.finished(thread, runs.assistant(instructions="Be brief."), **more)
    note = "[An image file was left out: this server keeps no files.]"
    parts = [{"type": "text", "text": "Look:"}, image, {"type": "text", "text": note}]
    assert model.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        of_user("one\n\ntwo"),
        of_assistant("a\nb"),
        of_user([*parts, {"type": "text", "text": "three"}]),  # type: ignore[arg-type]
    ]


def test_a_run_needs_no_message(runs: RunsClient, model: FakeModel) -> None:
    run = runs.finished(runs.thread(), runs.assistant(instructions="Say hello."))
    assert run["status"] == "completed"
    assert model.bodies[0]["messages"] == [{"role": "system", "content": "Say hello."}]


def test_the_last_messages_are_sent(runs: RunsClient, assistant: str, model: FakeModel) -> None:
    thread = runs.thread("first")
    for text in ("second", "third"):
        runs.finished(thread, assistant)
        runs.say(thread, text)
    strategy = {"type": "last_messages", "last_messages": 3}
    runs.finished(thread, assistant, truncation_strategy=strategy)
    sent = [of_user("second"), of_assistant("Hello."), of_user("third")]
    assert model.bodies[-1]["messages"] == sent


def test_the_newest_that_fit_are_sent(runs: RunsClient, assistant: str, model: FakeModel) -> None:
    thread = runs.thread("old " * 100)
    runs.finished(thread, assistant)
    runs.say(thread, "new " * 100)
    runs.finished(thread, assistant, max_prompt_tokens=101)
    assert model.bodies[-1]["messages"] == [of_assistant("Hello."), of_user("new " * 100)]
    runs.say(thread, "long " * 100)
    run = runs.finished(thread, assistant, max_prompt_tokens=101)
    assert (run["status"], run["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_prompt_tokens",
    )
    assert len(model.bodies) == 2


def test_a_thread_that_is_too_long_stays_so(
    runs: RunsClient, assistant: str, model: FakeModel
) -> None:
    """The run that does not fit leaves an empty message, which would fit."""
    thread = runs.thread("long " * 800)
    for _ in range(2):
        run = runs.finished(thread, assistant, max_prompt_tokens=10)
        assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}
        assert runs.texts(thread)[-1] == ""
    assert model.bodies == []


def test_an_empty_message_is_none_of_the_last_messages(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(says(""), says("Fine."))
    strategy = {"type": "last_messages", "last_messages": 1}
    for _ in range(2):
        runs.finished(thread, assistant, truncation_strategy=strategy)
    assert runs.texts(thread) == ["What is new?", "", "Fine."]
    assert [body["messages"] for body in model.bodies] == [[of_user("What is new?")]] * 2


def test_a_call_is_never_parted_from_its_output(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    model.play(calls(call("get", "{}")), says("Done."))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    runs.submit(run, "long " * 200)
    runs.wait(run, "completed")
    runs.say(thread, "And now?")
    other = runs.assistant()
    runs.finished(thread, other, max_prompt_tokens=200)
    assert [each["role"] for each in model.bodies[2]["messages"]] == ["assistant", "user"]
    runs.finished(thread, other)
    roles = [each["role"] for each in model.bodies[3]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]


def test_calls_of_a_run_without_a_message_stand_where_they_were(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    model.play(calls(call("get", "{}")), calls(call("get", "{}")), says("Done."))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    runs.submit(run)
    runs.cancel(runs.wait(run, "requires_action"))
    runs.move_clock(60)
    runs.say(thread, "Go on.")
    runs.finished(thread, runs.assistant())
    roles = [each["role"] for each in model.bodies[2]["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]


# faults


def failure(run: Wire) -> tuple[str, str]:
    assert run["status"] == "failed"
    return run["last_error"]["code"], run["last_error"]["message"]


SERVER, LIMIT, PROMPT = "server_error", "rate_limit_exceeded", "invalid_prompt"
FAULTS: dict[str, tuple[Any, str, str]] = {
    "401": (
        refuses(401, f"Wrong key {KEY}"),
        SERVER,
        "Check THREADS_MODEL_KEY. It says: Wrong key (the key)",
    ),
    "404": (refuses(404, "no such model"), SERVER, "THREADS_MODELS"),
    "400": (refuses(400, "bad temperature"), PROMPT, "what the run sets. It says: bad temperature"),
    "413": (sends(413, b"large"), PROMPT, "(413). Check the name of the model"),
    "too long": (refuses(400, "maximum context length is 2048"), PROMPT, "Set max_prompt_tokens"),
    "500": (sends(500, b"<h1>Oops</h1>"), SERVER, "It failed (500)"),
    "503": (refuses(503, "Loading model"), SERVER, "It says: Loading model"),
    "redirect": (sends(307, {}, Location="http://127.0.0.1:9/v1"), SERVER, "not followed"),
    "429": (refuses(429, "slow down", Retry_After="0"), LIMIT, "THREADS_RUNS"),
    "429 for long": (refuses(429, "tomorrow", Retry_After="86400"), LIMIT, "tomorrow"),
    "no answer": (lambda handler: None, SERVER, BAD_STREAM),
    "broken off": (breaks("Half"), SERVER, BAD_STREAM),
    "no end": (streams(chunk({"content": "Half"}), is_done=False), SERVER, BAD_STREAM),
    "broken JSON": (streams("{'a': 1}"), SERVER, "no JSON of a chat completion"),
    "another JSON": (streams({"choices": "none"}), SERVER, "no JSON of a chat completion"),
    "no JSON at all": (sends(200, b"<h1>Hello</h1>"), SERVER, "OpenAI-compatible"),
    "an error within": (streams({"error": {"message": "out of memory"}}), SERVER, "out of memory"),
    "arguments": (calls(call("get", '{"city":')), SERVER, "the function get with arguments"),
    "no object": (calls(call("get", "7")), SERVER, "no JSON object"),
    "filter": (says("Half", finish="content_filter"), SERVER, "content filter"),
    "unknown end": (says("Half", finish="tired"), SERVER, "tired"),
    "lone surrogate": (streams(chunk({"content": "a\ud800b"})), SERVER, r"a\ud800b"),
} | {
    f"U+0000 in {where}": (play, code, sentence)
    for where, play, code, sentence in [
        ("a text", says("Half", " a\0b"), SERVER, "U+0000, which cannot be stored"),
        ("a name", calls(call("g\0t", "{}")), SERVER, "It says: g\ufffdt"),
        ("arguments", calls(call("get", '{"a":"\0"}')), SERVER, 'It says: {"a":"\ufffd"}'),
        ("an end", says("Half", finish="ti\0red"), SERVER, "ti\ufffdred"),
        ("an error", refuses(400, "b\0d"), PROMPT, "It says: b\ufffdd"),
        ("an error within", streams({"error": {"message": "o\0m"}}), SERVER, "o\ufffdm"),
        ("what is no JSON", sends(200, b"<\0h1>"), SERVER, "<\ufffdh1>"),
    ]
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_model_ends_the_run_with_its_cause(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel, name: str
) -> None:
    play, code, sentence = FAULTS[name]
    model.play(play)
    run = runs.finished(thread, assistant)
    assert failure(run)[0] == code
    assert sentence in failure(run)[1]
    assert failure(run)[1].startswith("The model's endpoint: ")
    assert KEY not in json.dumps(run)
    assert runs.say(thread).status_code == 200


@pytest.mark.parametrize("name", [name for name in FAULTS if "U+0000" in name])
def test_a_thread_can_be_moved_whatever_the_model_has_said(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel, name: str
) -> None:
    model.play(FAULTS[name][0])
    run = runs.finished(thread, assistant)
    line = runs.call("GET", f"/admin/threads/{thread}/export?as=jsonl").data
    assert runs.call("DELETE", f"/v1/threads/{thread}").status_code == 200
    answer = runs.client.post("/_mock/seed", data=line)
    assert (answer.status_code, answer.json["threads"]) == (200, 1), answer.text
    assert runs.see(run) == run


def test_arguments_may_write_any_character_as_an_escape(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    """They are the JSON of the function, which reads it as it likes."""
    model.play(calls(call("get", r'{"a":"\u0000"}')))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    assert calls_of(run)[0]["function"]["arguments"] == r'{"a":"\u0000"}'


def test_a_429_is_waited_for_twice(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(*[refuses(429, Retry_After="0")] * 2, says("At last."))
    assert runs.finished(thread, assistant)["status"] == "completed"
    model.requests.clear()
    model.play(*[refuses(429, Retry_After="0")] * 3, says("Too late."))
    assert failure(runs.finished(thread, assistant))[0] == LIMIT
    assert len(model.requests) == 3


def test_what_text_there_was_is_kept(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(breaks("Half", " of"))
    run = runs.finished(thread, assistant)
    message = runs.messages(thread)[-1]
    assert text_of(message) == "Half of"
    assert (message["status"], message["incomplete_details"]) == (
        "incomplete",
        {"reason": "run_failed"},
    )
    [step] = runs.steps(run)
    assert (step["status"], step["last_error"]) == ("failed", run["last_error"])


def test_nobody_listens(client_with: Callable[..., FlaskClient]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        runs = RunsClient(client_with(MODEL_URL=url))
        run = runs.finished(runs.thread("Hi"), runs.assistant())
    expected = "Connection refused. Is it running where THREADS_MODEL_URL says?"
    assert expected in failure(run)[1]


@pytest.mark.parametrize("said", [None, "nothing", "Half"])
def test_a_model_that_stalls_is_given_up(
    client_with: Callable[..., FlaskClient], model: FakeModel, said: str | None
) -> None:
    runs = RunsClient(client_with(MODEL_URL=model.url, MODEL_TIMEOUT=1))
    model.play(STALLS[said])
    run = runs.finished(runs.thread("Hi"), runs.assistant())
    assert "nothing for 1 seconds" in failure(run)[1]
    assert until(lambda: bool(model.left))


def test_an_answer_that_is_cut_short_is_incomplete(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(says("Half", finish="length"))
    run = runs.finished(thread, assistant)
    assert (run["status"], run["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_completion_tokens",
    )
    assert runs.messages(thread)[-1]["incomplete_details"] == {"reason": "max_tokens"}


def test_calls_that_are_cut_short_are_not_asked_for(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    model.play(calls(call("get", '{"city":'), finish="length"), says("Fine."))
    assistant = runs.assistant(tools=[TOOL])
    run = runs.finished(thread, assistant)
    assert (run["status"], run["required_action"]) == ("incomplete", None)
    assert run["usage"]["total_tokens"] == 35
    runs.finished(thread, assistant)
    assert model.bodies[1]["messages"] == [of_user("What is new?")]


def test_cached_and_reasoning_tokens_are_those_of_the_endpoint(
    runs: RunsClient, thread: str, model: FakeModel
) -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    finish = {**chunk({}, "tool_calls"), "usage": USAGE | details}
    model.play(streams(*call("get", "{}"), finish, usage=None), says("20.", usage=USAGE | details))
    run = runs.wait(runs.run(thread, runs.assistant(tools=[TOOL])), "requires_action")
    runs.submit(run)
    usage = runs.wait(run, "completed")["usage"]
    assert usage["prompt_token_details"] == {"cached_tokens": 40}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 8}
    steps = [step["usage"]["prompt_token_details"] for step in runs.steps(run)]
    assert steps == [{"cached_tokens": 20}] * 2


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [1],
        {"prompt_tokens": -1, "prompt_tokens_details": [1]},
        {"prompt_tokens": True, "completion_tokens": 2**63},
    ],
)
def test_without_usage_the_tokens_are_an_estimate(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel, usage: Any
) -> None:
    model.play(says("four" * 10, usage=usage))
    usage = runs.finished(thread, assistant)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 10)


# the key


def test_the_key_is_nowhere_but_in_the_requests(
    serve: Callable[..., Any], model: FakeModel, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'threads.db'}"
    model.play(refuses(500, KEY), sends(200, KEY.encode()), streams({"error": KEY}), says("Hello."))
    with serve(DATABASE_URL=url, MODEL_URL=model.url, MODEL_KEY=KEY, MOCK="on") as server:
        assistant = json.loads(server.call("POST", "/v1/assistants", {"model": "m"}).body)["id"]
        body = {"assistant_id": assistant, "stream": True}
        body["thread"] = {"messages": [of_user("Hi")]}
        seen = [server.call("POST", "/v1/threads/runs", body).body for _ in range(4)]
        pages = (
            "/admin/",
            "/_mock/requests",
            "/_mock/replies",
            "/metrics",
            "/readyz",
            "/v1/models",
        )
        seen += [server.call("GET", path).body for path in pages]
        app = cli.create_app({"DATABASE_URL": url, "MODEL_URL": model.url, "MODEL_KEY": KEY})
        for command in ("export", "doctor"):
            with app.app_context():
                seen.append(app.test_cli_runner().invoke(args=[command]).output.encode())
    seen += [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
    assert all(request.headers["Authorization"] == f"Bearer {KEY}" for request in model.requests)
    assert [text for text in seen if KEY.encode() in text] == []


# cancel


@pytest.mark.parametrize("said", [None, "nothing", "Half"])
def test_a_cancel_closes_the_connection(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel, said: str | None
) -> None:
    model.play(STALLS[said])
    run = runs.run(thread, assistant)
    assert until(lambda: bool(model.requests))
    assert runs.cancel(run)["status"] == "cancelling"
    runs.wait(run, "cancelled")
    assert until(lambda: bool(model.left))
    assert runs.say(thread).status_code == 200


def test_a_cancel_ends_the_wait_for_an_address_that_does_not_answer(
    client_with: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "CONNECT_SECONDS", 100)
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # nobody accepts them, so that the next one waits
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        runs = RunsClient(client_with(MOCK="on", MODEL_URL=url))
        run = runs.run(runs.thread("What is new?"), runs.assistant())
        runs.wait(run, "in_progress")
        sleep(0.3)  # it waits for the connection by now
        runs.cancel(run)
        runs.wait(run, "cancelled")


def test_a_cancel_ends_the_wait_for_a_connection(
    client_with: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "CONNECT_SECONDS", 100)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        runs = RunsClient(client_with(MOCK="on", MODEL_URL=url))
        run = runs.run(runs.thread("What is new?"), runs.assistant())
        with silent.accept()[0]:
            runs.cancel(run)
            runs.wait(run, "cancelled")


def test_a_cancel_ends_the_wait_for_a_429(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    model.play(refuses(429, Retry_After="50"))
    run = runs.run(thread, assistant)
    assert until(lambda: bool(model.requests))
    runs.cancel(run)
    assert runs.wait(run, "cancelled")["last_error"] is None


# models, doctor, metrics

LISTED = {
    "object": "list",
    "data": [{"id": "org/a:1b", "created": 7, "owned_by": "me"}, {"id": "b"}],
}


def test_the_models_are_those_of_the_endpoint(runs: RunsClient, model: FakeModel) -> None:
    model.play(sends(200, LISTED))
    first = {"id": "org/a:1b", "object": "model", "created": 7, "owned_by": "me"}
    second = {"id": "b", "object": "model", "created": 0, "owned_by": "unknown"}
    assert runs.get("/v1/models") == {"object": "list", "data": [first, second]}
    assert runs.get("/models/org/a:1b") == first
    assert model.requests[0].path == "/v1/models"
    assert model.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    missing = runs.call("GET", "/v1/models/c")
    assert (missing.status_code, missing.json["error"]["code"]) == (404, "model_not_found")


def test_models_that_cannot_be_listed_are_a_502(runs: RunsClient, model: FakeModel) -> None:
    model.play(refuses(401, KEY))
    answer = runs.call("GET", "/v1/models")
    assert (answer.status_code, answer.json["error"]["code"]) == (502, "model_unavailable")
    assert "Check THREADS_MODEL_KEY." in answer.text
    assert KEY not in answer.text


def test_without_an_endpoint_the_script_is_the_model(
    client_with: Callable[..., FlaskClient],
) -> None:
    script = {"id": "script", "object": "model", "created": 0, "owned_by": "threads"}
    runs = RunsClient(client_with(MOCK="on"))
    assert runs.get("/v1/models") == {"object": "list", "data": [script]}
    assert runs.get("/v1/models/script") == script
    assert RunsClient(client_with(MOCK="off")).get("/v1/models")["data"] == []


def finding(database_url: str, status: int = 0, **settings: Any) -> str:
    """Return the line of `flask doctor` about the model."""
    app = cli.create_app({"DATABASE_URL": database_url, **settings})
    with app.app_context():
        result = app.test_cli_runner().invoke(args=["doctor"])
    assert result.exit_code == status, result.output
    return next((line for line in result.stdout.splitlines() if line[6:12] == "model "), "")


@pytest.mark.sqlite_only("flask doctor examines SQLite")
def test_the_doctor_asks_the_endpoint(database_url: str, model: FakeModel) -> None:
    assert finding(database_url) == ""
    settings = {"MODEL_URL": model.url, "MODEL_KEY": KEY, "MODELS": {"m": "b", "*": "c"}}
    model.play(sends(200, LISTED))
    found = "the endpoint has 2: org/a:1b, b; c of THREADS_MODELS is not there"
    assert finding(database_url, **settings) == f"warn  model        {found}"
    model.play(refuses(401, KEY))
    found = finding(database_url, status=1, **settings)
    assert found.startswith("fail  model        The model's endpoint: It refuses the key (401).")
    assert KEY not in found


def counts(runs: RunsClient) -> dict[str, float]:
    lines = runs.call("GET", "/metrics").text.splitlines()
    named = (line.rsplit(" ", 1) for line in lines if line.startswith(("threads_run", "threads_m")))
    return {name: float(value) for name, value in named}


def test_the_metrics_count_runs_tokens_and_the_seconds_of_the_model(
    runs: RunsClient, thread: str, assistant: str, model: FakeModel
) -> None:
    before = counts(runs)
    model.play(says("Hello."), breaks("Half"))
    for _ in range(2):
        runs.finished(thread, assistant)
    after = counts(runs)
    risen = {name: value - before.get(name, 0) for name, value in after.items()}
    counted = {name: risen[name] for name in risen if "_total" in name or "seconds_count" in name}
    assert {name: value for name, value in counted.items() if value} == {
        'threads_runs_total{status="completed"}': 1,
        'threads_runs_total{status="failed"}': 1,
        'threads_run_tokens_total{kind="prompt"}': 30,
        'threads_run_tokens_total{kind="completion"}': 5,
        'threads_model_seconds_count{end="whole"}': 1,
        'threads_model_seconds_count{end="fault"}': 1,
    }
