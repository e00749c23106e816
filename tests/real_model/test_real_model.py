"""Runs that a real model answers, over a server nobody here wrote: `make test-model`.

It installs a llama.cpp server with a small model into an environment of its own. What the model
says is its own affair: the tests look at how the runs end.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, serving, until
from openai import OpenAI
from programs import Program, running
from test_clients import environment

from config import ROOT

FOLDER = Path(__file__).parent
LONG = "Write a long story about a tram that goes up to a castle. Do not stop."
ENDS = ("completed", "incomplete", "failed", "cancelled", "expired")
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def llama(folder: Path, *words: str) -> AbstractContextManager[Program]:
    program = [environment(FOLDER) / "bin" / "python", FOLDER / "llama.py"]
    return running([*program, *words], folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with llama(tmp_path_factory.mktemp("model")) as model:
        yield model


@pytest.fixture(scope="module")
def server(model: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, MODEL_URL=model.url, MOCK="off") as server:
        yield server


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[OpenAI]:
    with server.sdk() as sdk:
        yield sdk


@pytest.fixture(scope="module")
def assistant(sdk: OpenAI) -> str:
    return sdk.beta.assistants.create(model="any", instructions="Answer in one short sentence.").id


def thread(sdk: OpenAI, text: str) -> str:
    return sdk.beta.threads.create(messages=[{"role": "user", "content": text}]).id


def last_message(sdk: OpenAI, thread_id: str) -> Any:
    return sdk.beta.threads.messages.list(thread_id).data[0]


def is_free(sdk: OpenAI, thread_id: str) -> bool:
    """Tell whether a thread takes messages, which a locked one refuses with an error."""
    return bool(sdk.beta.threads.messages.create(thread_id, role="user", content="More.").id)


def test_the_models_are_those_of_the_server(sdk: OpenAI) -> None:
    [model] = sdk.models.list().data
    assert model.id.endswith("model.gguf")


def test_a_run_is_polled(sdk: OpenAI, assistant: str) -> None:
    thread_id = thread(sdk, "What is the capital of France?")
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread_id, assistant_id=assistant, max_completion_tokens=24
    )
    assert run.status in ("completed", "incomplete"), run.last_error
    assert run.usage.prompt_tokens > 10
    assert 0 < run.usage.completion_tokens <= 24
    message = last_message(sdk, thread_id)
    assert (message.role, message.run_id) == ("assistant", run.id)
    assert message.content[0].text.value.strip()
    assert is_free(sdk, thread_id)


def test_what_the_model_has_in_its_cache_is_told(sdk: OpenAI, assistant: str) -> None:
    thread_id = thread(sdk, "Remember that trams are yellow.")
    for _ in range(2):
        run = sdk.beta.threads.runs.create_and_poll(
            thread_id=thread_id, assistant_id=assistant, max_completion_tokens=8
        )
    assert run.usage.to_dict()["prompt_token_details"]["cached_tokens"] > 10


def test_a_run_is_streamed(sdk: OpenAI, assistant: str) -> None:
    thread_id = thread(sdk, "Count from one to ten.")
    with sdk.beta.threads.runs.stream(
        thread_id=thread_id, assistant_id=assistant, max_completion_tokens=24
    ) as stream:
        pieces = list(stream.text_deltas)
        [run] = [stream.current_run] if stream.current_run else []
    assert len(pieces) > 3
    assert last_message(sdk, thread_id).content[0].text.value == "".join(pieces)
    assert sdk.beta.threads.runs.retrieve(run.id, thread_id=thread_id).status in ENDS[:2]


def test_a_limit_of_tokens_makes_it_incomplete(sdk: OpenAI, assistant: str) -> None:
    thread_id = thread(sdk, LONG)
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread_id, assistant_id=assistant, max_completion_tokens=12, instructions=""
    )
    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_completion_tokens")
    assert run.usage.completion_tokens == 12
    assert last_message(sdk, thread_id).incomplete_details.reason == "max_tokens"


def written(sdk: OpenAI, run: Any) -> str:
    """Return the id of the message that a run has begun to write, or nothing."""
    steps = sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data
    return steps[0].step_details.message_creation.message_id if steps else ""


def end_of(sdk: OpenAI, run: Any) -> Any:
    def retrieve() -> Any:
        return sdk.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)

    assert until(lambda: retrieve().status in ENDS, seconds=60, pause=0.1)
    return retrieve()


def begun(sdk: OpenAI, assistant: str) -> Any:
    """Return a run in the middle of a long answer."""
    run = sdk.beta.threads.runs.create(
        thread_id=thread(sdk, LONG), assistant_id=assistant, instructions="Tell stories."
    )
    assert until(lambda: bool(written(sdk, run)), seconds=60, pause=0.05)
    return run


def test_a_cancel_ends_it_in_mid_answer(sdk: OpenAI, assistant: str) -> None:
    run = begun(sdk, assistant)
    if sdk.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id).status == "in_progress":
        sdk.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    run = end_of(sdk, run)
    assert run.status == "cancelled"
    assert last_message(sdk, run.thread_id).incomplete_details.reason == "run_cancelled"
    assert is_free(sdk, run.thread_id)


def test_four_runs_are_answered_at_once(sdk: OpenAI, assistant: str) -> None:
    runs = [
        sdk.beta.threads.runs.create(
            thread_id=thread(sdk, f"Say hello to number {number}."),
            assistant_id=assistant,
            max_completion_tokens=20,
        )
        for number in range(4)
    ]
    for run in [end_of(sdk, run) for run in runs]:
        assert run.status in ("completed", "incomplete"), run.last_error
        assert last_message(sdk, run.thread_id).run_id == run.id


def test_a_thread_too_long_for_the_model_is_told(sdk: OpenAI, assistant: str) -> None:
    thread_id = thread(sdk, "tram " * 4000)
    run = sdk.beta.threads.runs.create_and_poll(thread_id=thread_id, assistant_id=assistant)
    assert (run.status, run.last_error.code) == ("failed", "invalid_prompt")
    assert "The thread is too long for it." in run.last_error.message
    run = sdk.beta.threads.runs.create_and_poll(
        thread_id=thread_id, assistant_id=assistant, max_prompt_tokens=500
    )
    assert (run.status, run.incomplete_details.reason) == ("incomplete", "max_prompt_tokens")


def test_a_model_that_is_killed_in_mid_answer_fails_the_run(serve: Any, tmp_path: Path) -> None:
    with llama(tmp_path) as model, serve(MODEL_URL=model.url) as server, server.sdk() as sdk:
        assistant = sdk.beta.assistants.create(model="any", instructions="Be brief.").id
        run = begun(sdk, assistant)
        os.kill(model.pid, signal.SIGKILL)
        run = end_of(sdk, run)
        assert run.status == "failed"
        assert run.last_error.message.startswith("The model's endpoint: Its answer ended in the")
        message = last_message(sdk, run.thread_id)
        assert message.content[0].text.value
        assert message.incomplete_details.reason == "run_failed"
        assert is_free(sdk, run.thread_id)
        again = sdk.beta.threads.runs.create_and_poll(
            thread_id=run.thread_id, assistant_id=assistant
        )
        assert "Connection refused" in again.last_error.message
        assert server.call("GET", "/readyz").status == 200
        assert json.loads(server.call("GET", "/healthz").body) == {"status": "ok"}


def test_a_program_from_before_the_shutdown_runs_unmodified(serve: Any, tmp_path: Path) -> None:
    """A model so small calls a function, or says again what it was asked; either ends well."""
    call = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
    command = [sys.executable, "-W", "ignore", ROOT / "examples" / "weather_assistant.py"]
    with llama(tmp_path, "turns") as model, serve(MODEL_URL=model.url) as server:
        where = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "any"}
        done = subprocess.run(
            [*command, f"Weather in Rome? {call}"],
            env=os.environ | where,
            capture_output=True,
            text=True,
        )
        with server.sdk() as sdk:
            [listed] = json.loads(server.call("GET", "/v1/threads").body)["data"]
            [run] = sdk.beta.threads.runs.list(listed["id"]).data
            steps = sdk.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id).data
            answer = last_message(sdk, run.thread_id).content[0].text.value
    assert (done.returncode, done.stderr) == (0, "")
    assert (run.status, run.last_error) == ("completed", None)
    assert done.stdout.endswith(f"{answer}\n")
    calls = [step.step_details.tool_calls for step in steps if step.type == "tool_calls"]
    for each in (each for step in calls for each in step):
        assert each.function.output.startswith("It is 20 degrees and sunny in ")
