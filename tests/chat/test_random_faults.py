"""Runs against a model that fails at random: each ends, no thread stays locked, nothing is left."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from threading import active_count
from typing import Any

import fake_model
import pytest
from conftest import until
from fake_model import (
    KEY,
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
from runs_client import ENDS, RunsClient

pytestmark = pytest.mark.sqlite_only("a model is asked the same way with both")

RUNS, AT_ONCE = 500, 20
PLAYS = [
    says("Hello."),
    says("Hel", "lo."),
    says("Half", finish="length"),
    says("Half", finish="content_filter"),
    says("Half", finish="tired"),
    says("No usage.", usage=None),
    calls(call("get", "{}")),
    calls(call("get", "{")),
    calls(call("get", "{"), finish="length"),
    refuses(400),
    refuses(401, KEY),
    refuses(429, Retry_After="0"),
    refuses(500),
    sends(307, {}, Location="http://127.0.0.1:9/"),
    sends(200, b"<h1>Hello</h1>"),
    streams("{"),
    streams({"choices": 7}),
    streams({"error": {"message": "no memory"}}),
    streams(chunk({"content": "Half"}), is_done=False),
    stalls(),
    stalls("Half"),
    breaks(),
    breaks("Half"),
    lambda handler: None,
]


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with fake_model.endpoint() as model:
        yield model


def begin(runs: RunsClient, assistant: str, draw: random.Random) -> dict[str, Any]:
    """Start a run, polled or streamed, on a thread of its own."""
    thread = runs.thread("What is new?")
    if draw.random() < 0.2:
        body = {"assistant_id": assistant, "stream": True}
        assert "event: done" in runs.call("POST", f"/v1/threads/{thread}/runs", body).text
        return dict(runs.get(f"/v1/threads/{thread}/runs")["data"][0])
    return runs.run(thread, assistant)


def finish(runs: RunsClient, run: dict[str, Any], draw: random.Random) -> str:
    """Let a run end: some are cancelled, one that waits for outputs gets them or is cancelled."""
    for _ in range(50):
        if draw.random() < 0.1 and runs.see(run)["status"] in ("queued", "in_progress"):
            runs.call("POST", f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel")
        run = runs.wait(run)
        if run["status"] in ENDS:
            return str(run["status"])
        runs.submit(run)
    runs.cancel(run)
    return str(runs.wait(run, "cancelled")["status"])


@pytest.mark.timeout(400)
def test_every_run_ends_whatever_the_model_does(
    client_with: Callable[..., FlaskClient], model: FakeModel
) -> None:
    runs = RunsClient(client_with(MODEL_URL=model.url, MODEL_KEY=KEY, MODEL_TIMEOUT=1))
    draw, ends = random.Random(21), Counter[str]()
    model.play(lambda handler: draw.choice(PLAYS)(handler))
    assistant = runs.assistant()
    for _ in range(RUNS // AT_ONCE):
        begun = [begin(runs, assistant, draw) for _ in range(AT_ONCE)]
        ends.update(finish(runs, run, draw) for run in begun)
        assert all(runs.say(run["thread_id"]).status_code == 200 for run in begun)
    assert ends.total() == RUNS
    assert ends.keys() >= {"completed", "incomplete", "failed", "cancelled"}
    players = runs.client.application.extensions["players"]
    assert until(lambda: not players._plays)
    assert until(lambda: active_count() <= 3 + players._most)
    assert KEY not in runs.call("GET", "/metrics").text
