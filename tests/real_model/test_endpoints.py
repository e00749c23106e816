"""Runs that other people's servers of models answer: LiteLLM's proxy, and aimock from npm.

Both have the same models: `text` says TEXT, `weather` calls a function, `limited`, `locked` and
`broken` fail.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, serving
from openai import OpenAI
from programs import Program, running
from test_clients import environment, interpreter

FOLDER = Path(__file__).parent
AIMOCK = FOLDER / "aimock" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
KEY = "sk-of-the-endpoint-0123456789abcdef"
TEXT = "Hello from the endpoint, in several pieces."
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def aimock(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    node = interpreter(FOLDER / "aimock", request)
    command = [node, AIMOCK, "--port", "0", "--fixtures", FOLDER / "aimock" / "answers.json"]
    with running(command, tmp_path_factory.mktemp("aimock"), AIMOCK_API_KEYS=KEY) as program:
        yield program


@pytest.fixture(scope="module")
def litellm(aimock: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = environment(FOLDER / "litellm") / "bin" / "litellm"
    config = FOLDER / "litellm" / "config.yaml"
    command = [program, "--config", config, "--host", "127.0.0.1", "--port", "0"]
    variables = {
        "KEY": KEY,
        "AIMOCK_URL": aimock.url,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices
    }
    folder = tmp_path_factory.mktemp("litellm")
    with running([*command, "--telemetry", "False"], folder, **variables) as program:
        yield program


@pytest.fixture(scope="module", params=["aimock", "litellm"])
def endpoint(request: pytest.FixtureRequest) -> Program:
    program: Program = request.getfixturevalue(request.param)
    return program


@pytest.fixture(scope="module")
def server(endpoint: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, MODEL_URL=endpoint.url, MODEL_KEY=KEY, MOCK="off") as server:
        yield server


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[OpenAI]:
    with server.sdk() as sdk:
        yield sdk


def asked(sdk: OpenAI, model: str) -> dict[str, str]:
    """Return the ids of a thread with a question, and of an assistant of a model."""
    thread = sdk.beta.threads.create(messages=[{"role": "user", "content": "And in Rome?"}])
    assistant = sdk.beta.assistants.create(model=model, tools=[TOOL], instructions="Be brief.")
    return {"thread_id": thread.id, "assistant_id": assistant.id}


def polled(sdk: OpenAI, model: str) -> Any:
    return sdk.beta.threads.runs.create_and_poll(**asked(sdk, model), poll_interval_ms=20)


def streamed(sdk: OpenAI, model: str) -> Any:
    """Return the run at the end of its stream."""
    with sdk.beta.threads.runs.stream(**asked(sdk, model)) as stream:
        stream.until_done()
        return stream.current_run


WAYS = pytest.mark.parametrize("way", [polled, streamed])


def last_text(sdk: OpenAI, thread_id: str) -> str:
    return str(sdk.beta.threads.messages.list(thread_id).data[0].content[0].text.value)


def test_the_models_are_those_of_the_endpoint(sdk: OpenAI) -> None:
    assert len([model.id for model in sdk.models.list()]) > 3


@WAYS
def test_a_run_has_the_text_and_the_usage(sdk: OpenAI, way: Any) -> None:
    run = way(sdk, "text")
    assert (run.status, last_text(sdk, run.thread_id)) == ("completed", TEXT)
    assert run.usage.prompt_tokens > 5
    assert 5 < run.usage.completion_tokens < 20
    assert run.usage.total_tokens == run.usage.prompt_tokens + run.usage.completion_tokens


def test_a_stream_has_the_pieces(sdk: OpenAI) -> None:
    with sdk.beta.threads.runs.stream(**asked(sdk, "text")) as stream:
        pieces = list(stream.text_deltas)
    assert len(pieces) > 2
    assert "".join(pieces) == TEXT


@WAYS
def test_a_run_calls_a_function_and_takes_its_output(sdk: OpenAI, way: Any) -> None:
    run = way(sdk, "weather")
    assert run.status == "requires_action"
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Rome"}')
    outputs: Any = {
        "run_id": run.id,
        "thread_id": run.thread_id,
        "tool_outputs": [{"tool_call_id": call.id, "output": "sunny"}],
    }
    if way is polled:
        run = sdk.beta.threads.runs.submit_tool_outputs_and_poll(**outputs)
    else:
        with sdk.beta.threads.runs.submit_tool_outputs_stream(**outputs) as stream:
            stream.until_done()
            run = stream.current_run
    assert (run.status, last_text(sdk, run.thread_id)) == ("completed", "It is 20 degrees.")
    assert run.usage.completion_tokens > 5


@WAYS
def test_a_limit_of_the_endpoint_fails_the_run(sdk: OpenAI, way: Any) -> None:
    run = way(sdk, "limited")
    assert (run.status, run.last_error.code) == ("failed", "rate_limit_exceeded")
    assert "It has too many requests (429)." in run.last_error.message


@WAYS
def test_a_fault_of_the_endpoint_fails_the_run(sdk: OpenAI, way: Any) -> None:
    run = way(sdk, "broken")
    assert (run.status, run.last_error.code) == ("failed", "server_error")
    assert "It failed (50" in run.last_error.message


@WAYS
def test_a_refused_key_fails_the_run(sdk: OpenAI, way: Any) -> None:
    run = way(sdk, "locked")
    assert (run.status, run.last_error.code) == ("failed", "server_error")
    assert "It refuses the key (401). Check THREADS_MODEL_KEY." in run.last_error.message
