"""The lock of a thread: what an active run refuses and allows, and every way out of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands, until
from flask.testing import FlaskClient
from runs_client import CALL, RunsClient, Wire, of, text_of
from sentences import no_object, refusal_of

from store import deletions

MAKERS = {"in_progress": "slow", "requires_action": "waiting"}
NO_DELAY = {"text": "Done."}


@pytest.fixture
def runs(client_with: Callable[..., FlaskClient]) -> RunsClient:
    """The client of an app with one player, so that a second run stays queued."""
    return RunsClient(client_with(MOCK="on", RUNS=1))


@pytest.fixture
def assistant(runs: RunsClient) -> str:
    return runs.assistant()


@pytest.fixture
def thread(runs: RunsClient) -> str:
    return runs.thread("What is new?")


def in_state(runs: RunsClient, thread: str, assistant: str, state: str) -> Wire:
    """Return an active run in a state; it stays there for long."""
    if state == "queued":
        runs.slow(runs.thread("first"), assistant)
        return runs.run(thread, assistant)
    run: Wire = getattr(runs, MAKERS[state])(thread, assistant)
    return run


def second_run(runs: RunsClient, thread: str, assistant: str, **body: Any) -> Any:
    body = {"assistant_id": assistant, **body}
    return runs.call("POST", f"/v1/threads/{thread}/runs", body)


def sentence(run: Wire) -> tuple[str, None, None]:
    return f"Thread {run['thread_id']} already has an active run {run['id']}.", None, None


def message_sentence(run: Wire) -> tuple[str, None, None]:
    started = f"Can't add messages to {run['thread_id']}"
    return f"{started} while a run {run['id']} is active.", None, None


# what is refused


@pytest.mark.parametrize("state", ["queued", "in_progress", "requires_action"])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_an_active_run_refuses_messages(
    runs: RunsClient, thread: str, assistant: str, state: str, role: str
) -> None:
    run = in_state(runs, thread, assistant, state)
    answer = runs.call("POST", f"/v1/threads/{thread}/messages", {"role": role, "content": "x"})
    assert refusal_of(answer) == message_sentence(run)
    assert runs.texts(thread) == ["What is new?"]
    assert runs.see(run) == run


@pytest.mark.parametrize("state", ["queued", "in_progress", "requires_action"])
@pytest.mark.parametrize(
    "body", [{}, {"stream": True}, {"additional_messages": [{"role": "user", "content": "x"}]}]
)
def test_an_active_run_refuses_another(
    runs: RunsClient, thread: str, assistant: str, state: str, body: Wire
) -> None:
    run = in_state(runs, thread, assistant, state)
    assert refusal_of(second_run(runs, thread, assistant, **body)) == sentence(run)
    assert runs.texts(thread) == ["What is new?"]
    assert runs.get(f"/v1/threads/{thread}/runs")["data"] == [run]


def test_a_run_that_is_cancelling_keeps_the_lock(
    runs: RunsClient, thread: str, assistant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.cancel(runs.unwatched(thread, assistant, monkeypatch))
    assert run["status"] == "cancelling"
    assert refusal_of(runs.say(thread)) == message_sentence(run)
    assert refusal_of(second_run(runs, thread, assistant)) == sentence(run)
    answer = runs.call("POST", f"{of(run)}/cancel")
    assert refusal_of(answer) == ("Cannot cancel run with status 'cancelling'.", None, None)
    answer = runs.call("POST", f"{of(run)}/submit_tool_outputs", {"tool_outputs": []})
    expected = 'Runs in status "cancelling" do not accept tool outputs.'
    assert refusal_of(answer) == (expected, None, None)
    runs.move_clock(600)
    assert runs.see(run)["status"] == "expired"
    assert runs.say(thread).status_code == 200


def test_a_missing_thread_is_not_locked(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.slow(thread, assistant)
    other = f"thread_{'x' * 24}"
    assert refusal_of(runs.say(other), 404) == no_object("thread", other)
    assert refusal_of(second_run(runs, other, assistant), 404) == no_object("thread", other)


# what is allowed


@pytest.mark.parametrize("state", ["queued", "in_progress", "requires_action"])
def test_everything_else_is_allowed(
    runs: RunsClient, thread: str, assistant: str, state: str
) -> None:
    run = in_state(runs, thread, assistant, state)
    [message] = runs.messages(thread)
    address = f"/v1/threads/{thread}"
    assert runs.post(address, {"metadata": {"a": "1"}})["metadata"] == {"a": "1"}
    assert runs.get(address)["metadata"] == {"a": "1"}
    changed = runs.post(f"{address}/messages/{message['id']}", {"metadata": {"a": "1"}})
    assert changed["metadata"] == {"a": "1"}
    assert runs.get(f"{address}/messages/{message['id']}") == changed
    assert runs.call("DELETE", f"{address}/messages/{message['id']}").status_code == 200
    assert runs.messages(thread) == []
    assert runs.say(runs.thread()).status_code == 200
    assert runs.see(run)["status"] == state


@pytest.mark.parametrize("state", ["in_progress", "requires_action"])
@pytest.mark.parametrize("count", [1, 600])
def test_a_copy_is_free_and_without_runs(
    runs: RunsClient, assistant: str, state: str, count: int
) -> None:
    thread = runs.thread(*["What is new?"] * count)
    answered = runs.finished(thread, assistant)
    in_state(runs, thread, assistant, state)
    copy = runs.post(f"/v1/threads/{thread}/copy")["id"]
    assert runs.get(f"/v1/threads/{copy}/runs")["data"] == []
    newest = runs.get(f"/v1/threads/{copy}/messages?limit=1")["data"][0]
    assert (newest["run_id"], newest["assistant_id"]) == (answered["id"], assistant)
    assert runs.say(copy).status_code == 200


# the ways out


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "Done."},
        {"text": "Cut", "incomplete": "max_completion_tokens"},
        {"error": {"code": "server_error"}},
    ],
)
def test_every_end_frees_the_thread(
    runs: RunsClient, thread: str, assistant: str, reply: Wire
) -> None:
    runs.reply(reply)
    runs.finished(thread, assistant)
    assert runs.say(thread).status_code == 200
    runs.reply(NO_DELAY)
    assert runs.finished(thread, assistant)["status"] == "completed"


@pytest.mark.parametrize("state", ["queued", "in_progress", "requires_action"])
def test_a_cancel_frees_the_thread(
    runs: RunsClient, thread: str, assistant: str, state: str
) -> None:
    run = in_state(runs, thread, assistant, state)
    runs.cancel(run)
    assert runs.wait(run, "cancelled")
    assert runs.say(thread).status_code == 200
    assert second_run(runs, thread, assistant).status_code == 200


@pytest.mark.parametrize("state", ["queued", "in_progress", "requires_action"])
@pytest.mark.parametrize("count", [1, deletions.MESSAGES_AT_ONCE + 1])
def test_deleting_the_thread_ends_its_run(
    runs: RunsClient, assistant: str, state: str, count: int
) -> None:
    thread = runs.thread(*["What is new?"] * count)
    run = in_state(runs, thread, assistant, state)
    assert runs.call("DELETE", f"/v1/threads/{thread}").status_code == 200
    for address in (of(run), f"{of(run)}/steps", f"/v1/threads/{thread}/runs"):
        assert refusal_of(runs.call("GET", address), 404) == no_object("thread", thread)
    assert_a_player_is_free(runs, assistant, state)


def assert_a_player_is_free(runs: RunsClient, assistant: str, state: str) -> None:
    """Check that the only player plays again: its own run is the one that was stopped."""
    if state != "queued":
        runs.reply(NO_DELAY)
        assert runs.finished(runs.thread("next"), assistant)["status"] == "completed"


@pytest.mark.parametrize("state", ["in_progress", "requires_action"])
def test_the_pages_delete_ends_the_run(
    runs: RunsClient, thread: str, assistant: str, state: str
) -> None:
    run = in_state(runs, thread, assistant, state)
    page = runs.client.get(f"/admin/threads/{thread}").text
    token = page.partition('name="csrf_token" value="')[2].partition('"')[0]
    answer = runs.client.post(f"/admin/threads/{thread}/delete", data={"csrf_token": token})
    assert answer.status_code in (302, 303), answer.text
    assert runs.call("GET", of(run)).status_code == 404
    assert_a_player_is_free(runs, assistant, state)


def load(flask: Commands, folder: Path) -> None:
    """Import an old thread, which replaces one with its id."""
    thread = {"id": "thread_old", "object": "thread", "created_at": 7, "metadata": {}}
    text = {"type": "text", "text": {"value": "What was new?", "annotations": []}}
    message = {"id": "msg_old", "object": "thread.message", "created_at": 7, "role": "user"}
    message |= {"thread_id": "thread_old", "content": [text], "metadata": {}}
    file = folder / "old.jsonl"
    file.write_text(json.dumps({"thread": thread, "messages": [message]}))
    flask("import", str(file), "--on-conflict", "replace")


@pytest.mark.parametrize("state", ["in_progress", "requires_action"])
def test_prune_ends_the_run(
    runs: RunsClient, assistant: str, flask: Commands, tmp_path: Path, state: str
) -> None:
    load(flask, tmp_path)
    run = in_state(runs, "thread_old", assistant, state)
    assert flask("prune", "--older-than", "1d").output == "Deleted 1 of 1 threads\n"
    assert runs.call("GET", of(run)).status_code == 404
    assert_a_player_is_free(runs, assistant, state)


@pytest.mark.parametrize("state", ["in_progress", "requires_action"])
def test_an_import_that_replaces_the_thread_ends_its_run(
    runs: RunsClient, assistant: str, flask: Commands, tmp_path: Path, state: str
) -> None:
    load(flask, tmp_path)
    run = in_state(runs, "thread_old", assistant, state)
    load(flask, tmp_path)
    assert runs.call("GET", of(run)).status_code == 404
    assert runs.say("thread_old").status_code == 200
    assert_a_player_is_free(runs, assistant, state)
    assert runs.texts("thread_old") == ["What was new?", "more"]


# expiry


def test_a_run_expires_when_its_ten_minutes_are_over(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    runs.call("PUT", "/_mock/clock", {"frozen_at": 1_000_000})
    run = runs.waiting(thread, assistant)
    assert run["expires_at"] == 1_000_600
    runs.call("PUT", "/_mock/clock", {"frozen_at": 1_000_599})
    assert runs.see(run) == run
    runs.call("PUT", "/_mock/clock", {"frozen_at": 1_000_600})
    ended = runs.see(run)
    changed = {"status": "expired", "expires_at": None, "required_action": None}
    assert ended == run | changed | {"usage": ended["usage"]}
    [step] = runs.steps(run)
    assert (step["status"], step["expires_at"], step["last_error"]) == ("expired", None, None)
    assert ended["usage"] == step["usage"] is not None


@pytest.mark.parametrize("state", ["queued", "in_progress", "requires_action"])
@pytest.mark.parametrize("look", ["read", "list", "message", "run"])
def test_a_due_run_has_expired_for_the_next_request(
    runs: RunsClient, thread: str, assistant: str, state: str, look: str
) -> None:
    run = in_state(runs, thread, assistant, state)
    runs.move_clock(600)
    if look == "read":
        assert runs.see(run)["status"] == "expired"
    elif look == "list":
        [listed] = runs.get(f"/v1/threads/{thread}/runs")["data"]
        assert (listed["id"], listed["status"]) == (run["id"], "expired")
    elif look == "message":
        assert runs.say(thread).status_code == 200
    else:
        assert second_run(runs, thread, assistant).status_code == 200
    assert runs.see(run)["status"] == "expired"


def test_the_steps_of_a_due_run_have_ended(runs: RunsClient, thread: str, assistant: str) -> None:
    for address in ("steps", "steps/{}"):
        run = runs.waiting(thread, assistant)
        [step] = runs.steps(run)
        runs.move_clock(600)
        found = runs.get(f"{of(run)}/{address.format(step['id'])}")
        assert found.get("data", [found])[0]["status"] == "expired"
        runs.move_clock(0)


def test_a_message_cut_by_expiry_is_incomplete(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.writing(thread, assistant)
    runs.move_clock(600)
    assert runs.see(run)["status"] == "expired"
    message = runs.messages(thread)[-1]
    assert text_of(message) == "Half"
    assert message["incomplete_details"] == {"reason": "run_expired"}
    assert (message["status"], message["run_id"]) == ("incomplete", run["id"])
    [step] = runs.steps(run)
    assert (step["status"], step["expires_at"]) == ("expired", None)


def test_an_expired_run_stops_its_player(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.writing(thread, assistant)
    runs.move_clock(600)
    assert runs.see(run)["status"] == "expired"
    runs.reply(NO_DELAY)
    assert runs.finished(thread, assistant)["status"] == "completed"
    assert runs.texts(thread) == ["What is new?", "Half", "Done."]


def test_a_due_run_expires_though_nobody_looks(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.writing(thread, assistant)
    id_ = runs.steps(run)[0]["step_details"]["message_creation"]["message_id"]
    runs.move_clock(600)
    assert until(lambda: id_ in [message["id"] for message in runs.messages(thread)])


@pytest.mark.parametrize("rest", ["cancel", "submit_tool_outputs"])
def test_a_change_of_a_due_run_is_refused(
    runs: RunsClient, thread: str, assistant: str, rest: str
) -> None:
    run = runs.waiting(thread, assistant)
    runs.move_clock(600)
    body = {"tool_outputs": []} if "submit" in rest else None
    answer = runs.call("POST", f"{of(run)}/{rest}", body)
    expected = "Cannot cancel run with status 'expired'."
    if body:
        expected = 'Runs in status "expired" do not accept tool outputs.'
    assert refusal_of(answer) == (expected, None, None)


@pytest.mark.parametrize("rest", ["cancel", "submit_tool_outputs", "another run"])
def test_a_run_that_expires_is_counted_once_however_many_changes_are_refused(
    runs: RunsClient, assistant: str, rest: str
) -> None:
    run = runs.waiting(runs.thread(), assistant, instructions="Say hello.")
    before = expired_runs(runs)
    runs.move_clock(600)  # from now on the players may end it, too
    for _ in range(3):
        if rest == "another run":
            answer = second_run(runs, run["thread_id"], assistant)
        else:
            body = {"tool_outputs": []} if "submit" in rest else None
            answer = runs.call("POST", f"{of(run)}/{rest}", body)
        assert answer.status_code == 400
    assert runs.see(run)["status"] == "expired"
    assert expired_runs(runs) - before == 1


def expired_runs(runs: RunsClient) -> float:
    """Return how many runs have expired, by the metrics."""
    text = runs.call("GET", "/metrics").text
    found = re.search(r'^threads_runs_total{status="expired"} (\S+)', text, re.MULTILINE)
    return float(found[1]) if found else 0


def test_a_frozen_clock_stops_no_run(runs: RunsClient, thread: str, assistant: str) -> None:
    runs.call("PUT", "/_mock/clock", {"frozen_at": 1_000_000})
    runs.reply({"tool_calls": [CALL]}, {"text": "Done.", "delay_ms": 100})
    run = runs.wait(runs.run(thread, assistant))
    runs.submit(run)
    ended = runs.wait(run, "completed")
    assert (ended["started_at"], ended["completed_at"]) == (1_000_000, 1_000_000)
