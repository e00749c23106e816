"""The players of a process: their number, what reaches them, and what replaces all data."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Commands, close, until
from flask import Flask
from flask.testing import FlaskClient
from runs_client import CALL, RunsClient, Wake, of, text_of

import database
from app import create_app
from chat.completion import Completion
from players import pool
from players.answers import Call
from players.turn import Turn
from rules.errors import AnswerError
from runs import leases

COPIES = pytest.mark.sqlite_only("reset, snapshot and restore copy SQLite's file")
PIECES, PIECE = 5_000, "x" * 200
DONE = {"text": "Done."}


@pytest.fixture
def runs(client_with: Callable[..., FlaskClient]) -> RunsClient:
    return RunsClient(client_with(MOCK="on"))


@pytest.fixture
def assistant(runs: RunsClient) -> str:
    return runs.assistant()


@pytest.fixture
def thread(runs: RunsClient) -> str:
    return runs.thread("What is new?")


@pytest.fixture
def single(client_with: Callable[..., FlaskClient]) -> RunsClient:
    """The client of an app with one player."""
    return RunsClient(client_with(MOCK="on", RUNS=1))


def players_of(runs: RunsClient) -> pool.Players:
    app: Flask = runs.client.application
    return app.extensions["players"]  # type: ignore[no-any-return]


def is_idle(runs: RunsClient) -> bool:
    return not players_of(runs)._plays


class Piece(str):
    """A piece of text. The class counts the characters that are copied to add pieces to texts."""

    copied = 0

    def __radd__(self, text: str) -> str:
        Piece.copied += len(text) + len(self)
        return f"{text}{self}"


@dataclass
class Chunks:
    """The chunks of an answer, as an endpoint streams them."""

    chunks: list[Any]
    is_stream = True

    def events(self) -> list[Any]:
        return self.chunks

    def object(self, chunk: Any) -> Any:
        return chunk


def turn_of_pieces(piece: str) -> None:
    turn = Turn(
        SimpleNamespace(seq=1, id="run", parallel_tool_calls="true", expires_at=1),
        "thread",
        0,
        None,
    )
    for part in [Call(0, "f", ""), *[Call(0, "", piece)] * PIECES]:
        turn.take(part)


def completion_of_pieces(piece: str) -> None:
    begin, more = (
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": function}]}}]}
        for function in ({"name": "f"}, {"arguments": piece})
    )
    answer: Any = Chunks([begin, *[more] * PIECES])
    with suppress(AnswerError):  # the arguments are no object
        list(Completion(answer, 0, None).parts())


# how many play


def test_a_process_that_plays_nothing_has_no_player(runs: RunsClient, thread: str) -> None:
    players = players_of(runs)
    assert not players._executor._threads
    assert players._watcher is None


def test_runs_beyond_the_players_wait_and_are_played(single: RunsClient) -> None:
    assistant = single.assistant()
    first = single.slow(single.thread("first"), assistant)
    single.reply(DONE)
    waiting = [single.run(single.thread("next"), assistant) for _ in range(3)]
    assert [single.see(run)["status"] for run in waiting] == ["queued"] * 3
    single.cancel(first)
    ended = [single.wait(run, "completed") for run in waiting]
    assert [single.texts(run["thread_id"]) for run in ended] == [["next", "Done."]] * 3


def test_several_runs_play_at_once(runs: RunsClient, assistant: str) -> None:
    slow = [runs.slow(runs.thread("slow"), assistant) for _ in range(3)]
    runs.reply(DONE)
    assert runs.finished(runs.thread("quick"), assistant)["status"] == "completed"
    assert [runs.see(run)["status"] for run in slow] == ["in_progress"] * 3


def test_a_sweep_writes_nothing_for_runs_that_wait(
    single: RunsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant = single.assistant()
    single.slow(single.thread("first"), assistant)
    for _ in range(3):
        single.run(single.thread("next"), assistant)
    looked: list[int] = []
    recovered: list[str] = []
    left, recover = leases.left, leases.recover

    def counted_left(connection: Any) -> Any:
        rows = left(connection)
        looked.append(len(rows))
        return rows

    def counted_recover(connection: Any, run: Any) -> None:
        recovered.append(run.status)
        recover(connection, run)

    monkeypatch.setattr(leases, "left", counted_left)
    monkeypatch.setattr(leases, "recover", counted_recover)
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 0.01)
    assert until(lambda: looked.count(3) >= 2)
    assert recovered == []


# what reaches a player


def test_a_cancel_reaches_a_delay(runs: RunsClient, thread: str, assistant: str) -> None:
    run = runs.slow(thread, assistant)
    runs.cancel(run)
    runs.wait(run, "cancelled")
    assert until(lambda: is_idle(runs))
    assert runs.texts(thread) == ["What is new?"]


def test_a_cancel_reaches_the_first_run_after_a_rest(
    runs: RunsClient, thread: str, assistant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 1000)  # a rest lasts so long
    wake = players_of(runs)._wake = Wake()
    runs.reply(DONE)
    runs.finished(thread, assistant)
    assert until(lambda: wake.seconds == 1000)
    run = runs.slow(thread, assistant)
    runs.cancel(run)
    runs.wait(run, "cancelled")


def test_a_cancel_reaches_a_pause_between_two_pieces(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.writing(thread, assistant)
    runs.cancel(run)
    runs.wait(run, "cancelled")
    assert until(lambda: is_idle(runs))
    assert runs.texts(thread) == ["What is new?", "Half"]


@pytest.mark.parametrize("maker", ["slow", "writing"])
def test_a_deletion_reaches_a_player(
    runs: RunsClient, thread: str, assistant: str, maker: str, capfd: pytest.CaptureFixture[str]
) -> None:
    getattr(runs, maker)(thread, assistant)
    runs.call("DELETE", f"/v1/threads/{thread}")
    assert until(lambda: is_idle(runs))
    assert "Error" not in capfd.readouterr().err


@pytest.mark.sqlite_only("its trigger deletes a thread in the middle of a claim")
def test_a_thread_may_be_deleted_while_its_run_begins(
    runs: RunsClient, thread: str, assistant: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = runs.client.application
    when = "AFTER UPDATE OF status ON runs WHEN NEW.status = 'in_progress'"
    trigger = f"CREATE TRIGGER gone {when} BEGIN DELETE FROM threads; END"
    with app.app_context():
        database.write(lambda connection: connection.change(trigger))
    run = runs.run(thread, assistant)
    assert until(lambda: runs.call("GET", of(run)).status_code == 404)
    assert until(lambda: is_idle(runs))
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_cancel_beside_a_player_that_begins_is_answered(
    client_with: Callable[..., FlaskClient],
) -> None:
    app: Flask = client_with(MOCK="on", RUNS=8).application
    runs = RunsClient(app.test_client())
    runs.reply({**DONE, "delay_ms": 5})
    assistant = runs.assistant()

    def cancel_some(_: int) -> list[int]:
        client = RunsClient(app.test_client())
        begun = (client.run(client.thread("next"), assistant) for _ in range(50))
        return [client.call("POST", f"{of(run)}/cancel").status_code for run in begun]

    with ThreadPoolExecutor(4) as executor:
        statuses = {status for each in executor.map(cancel_some, range(4)) for status in each}
    assert statuses <= {200, 400}  # 400: it was completed before
    assert until(lambda: is_idle(runs))


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_run_whose_time_is_over_is_not_begun(
    single: RunsClient, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 1000)  # the player alone can find it
    assistant, thread = single.assistant(), single.thread("next")
    address = f"/v1/threads/{thread}/runs"
    first = single.slow(single.thread("first"), assistant)
    single.reply(DONE)
    single.move_clock(-300)
    with ThreadPoolExecutor() as executor:
        body = {"assistant_id": assistant, "stream": is_stream}
        answer = executor.submit(single.call, "POST", address, body)
        assert until(lambda: bool(single.get(address)["data"]))
        single.move_clock(300)
        single.cancel(first)
        text = answer.result().text
    assert until(lambda: is_idle(single))
    [run] = single.get(address)["data"]
    assert (run["status"], run["started_at"]) == ("expired", None)
    assert not is_stream or text.count("event: thread.run.expired") == 1


def test_a_stream_ends_when_its_waiting_run_is_cancelled(single: RunsClient) -> None:
    assistant, thread = single.assistant(), single.thread("next")
    first = single.slow(single.thread("first"), assistant)
    body = {"assistant_id": assistant, "stream": True}
    with ThreadPoolExecutor(1) as executor:
        stream = executor.submit(single.call, "POST", f"/v1/threads/{thread}/runs", body)
        assert until(lambda: bool(single.get(f"/v1/threads/{thread}/runs")["data"]))
        [run] = single.get(f"/v1/threads/{thread}/runs")["data"]
        assert single.cancel(run)["status"] == "cancelled"
        names = [line for line in stream.result().text.splitlines() if line[:6] == "event:"]
    assert names[-2:] == ["event: thread.run.cancelled", "event: done"]
    assert single.see(first)["status"] == "in_progress"


# what other processes leave


@pytest.fixture
def other(database_url: str) -> Iterator[Flask]:
    """A second app on this test's database, as another process has it."""
    app = create_app({"DATABASE_URL": database_url, "DURABILITY": "normal", "MOCK": "on"})
    yield app
    close(app)


def abandon(app: Flask) -> None:
    """Let the players of an app end without writing, as those of a killed process do."""
    players: pool.Players = app.extensions["players"]
    players._pauses, players._is_stopped = 1, True
    with players._change:
        players._order("replaced")
    assert until(lambda: not players._at_work)


@pytest.mark.parametrize(
    ("maker", "status"), [("slow", "completed"), ("writing", "failed"), ("waiting", "completed")]
)
def test_another_process_takes_what_one_left(
    runs: RunsClient, thread: str, assistant: str, other: Flask, maker: str, status: str
) -> None:
    left = RunsClient(other.test_client())
    run = getattr(left, maker)(thread, assistant)
    abandon(other)
    runs.reply(DONE)
    players_of(runs).open()
    if maker == "waiting":
        assert runs.see(run) == run
        runs.submit(run)
    assert until(lambda: runs.see(run)["status"] == status, seconds=20)
    ended = runs.see(run)
    if status == "failed":
        message = "The process that answered this run ended."
        assert ended["last_error"] == {"code": "server_error", "message": message}
        [step] = runs.steps(run)
        assert (step["status"], step["last_error"]) == ("failed", ended["last_error"])
        details = runs.messages(thread)[-1]["incomplete_details"]
        assert (runs.texts(thread)[-1], details) == ("Half", {"reason": "run_failed"})
    assert runs.say(thread).status_code == 200


# stop


@pytest.mark.parametrize(
    ("maker", "status"), [("slow", "queued"), ("writing", "failed"), ("waiting", "requires_action")]
)
def test_a_process_that_stops_ends_what_it_has_shown(
    runs: RunsClient,
    thread: str,
    assistant: str,
    maker: str,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "STOP_SECONDS", 0.0)
    run = getattr(runs, maker)(thread, assistant)
    players_of(runs).stop()
    assert runs.see(run)["status"] == status
    if status == "failed":
        message = "The server stopped while it answered this run."
        assert runs.see(run)["last_error"] == {"code": "server_error", "message": message}
        assert runs.texts(thread)[-1] == "Half"


# all data are replaced


def snapshot(runs: RunsClient) -> None:
    assert runs.call("POST", "/_mock/snapshot").status_code == 200


def restore(runs: RunsClient) -> None:
    assert runs.call("POST", "/_mock/restore").status_code == 200


def exported(flask: Commands) -> str:
    return flask("export").stdout


@COPIES
@pytest.mark.parametrize("address", ["/_mock/reset", "/_mock/restore"])
def test_nothing_late_lands_in_the_new_data(
    runs: RunsClient, address: str, flask: Commands
) -> None:
    assert runs.call("POST", "/_mock/reset").status_code == 200
    snapshot(runs)
    assistant = runs.assistant()
    for number in range(4):
        thread = runs.thread("What is new?")
        runs.writing(thread, assistant) if number % 2 else runs.slow(thread, assistant)
    assert runs.call("POST", address).status_code == 200
    assert until(lambda: is_idle(runs))
    assert exported(flask) == ""


@COPIES
@pytest.mark.parametrize("maker", ["slow", "writing"])
def test_the_active_runs_of_a_restored_snapshot_start_again(
    runs: RunsClient, thread: str, assistant: str, maker: str
) -> None:
    run = getattr(runs, maker)(thread, assistant)
    snapshot(runs)
    runs.cancel(run)
    runs.wait(run, "cancelled")
    runs.reply(DONE)
    restore(runs)
    ended = runs.wait(run, "completed")
    assert ended["last_error"] is None
    assert runs.texts(thread) == ["What is new?", "Done."]
    assert [step["status"] for step in runs.steps(run)] == ["completed"]


@COPIES
def test_a_restored_run_that_was_cancelling_is_cancelled(
    runs: RunsClient, thread: str, assistant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.cancel(runs.unwatched(thread, assistant, monkeypatch))
    snapshot(runs)
    restore(runs)
    assert runs.see(run)["status"] == "cancelled"
    assert runs.say(thread).status_code == 200


@COPIES
def test_a_restored_run_waits_for_the_outputs_it_asked_for(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    run = runs.waiting(thread, assistant)
    snapshot(runs)
    runs.submit(run)
    runs.wait(run, "completed")
    restore(runs)
    assert runs.see(run) == run
    runs.submit(run)
    assert runs.wait(run, "completed")["status"] == "completed"
    assert runs.texts(thread) == ["What is new?", "20 degrees."]


@pytest.mark.parametrize("maker", ["slow", "writing"])
def test_runs_that_a_seed_stops_start_again(
    runs: RunsClient, thread: str, assistant: str, maker: str
) -> None:
    run = getattr(runs, maker)(thread, assistant)
    runs.reply(DONE)
    old = {"id": "thread_old", "object": "thread", "created_at": 7, "metadata": {}}
    seed = json.dumps({"thread": old, "messages": []})
    assert runs.client.post("/_mock/seed", data=seed).status_code == 200
    assert runs.wait(run, "completed")["last_error"] is None
    assert runs.texts(thread) == ["What is new?", "Done."]


def test_a_seed_replaces_the_thread_of_a_run(
    runs: RunsClient, assistant: str, flask: Commands
) -> None:
    thread = runs.thread("What is new?")
    line = exported(flask).splitlines()[-1]
    assert thread in line
    runs.writing(thread, assistant)
    assert runs.client.post("/_mock/seed", data=line).status_code == 200
    assert runs.get(f"/v1/threads/{thread}/runs")["data"] == []
    assert until(lambda: is_idle(runs))
    assert runs.texts(thread) == ["What is new?"]


def test_of_two_at_once_the_last_to_end_lets_runs_play(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    with players_of(runs).paused():  # as another restore does
        assert runs.client.post("/_mock/seed", data="").status_code == 200
        run = runs.run(thread, assistant)
        assert not until(lambda: runs.see(run)["status"] != "queued", seconds=0.5)
    assert runs.wait(run, "completed")


# drafts


def test_a_draft_is_no_message_yet(
    runs: RunsClient, thread: str, assistant: str, flask: Commands
) -> None:
    run = runs.writing(thread, assistant)
    [step] = runs.steps(run)
    id_ = step["step_details"]["message_creation"]["message_id"]
    draft = runs.get(f"/v1/threads/{thread}/messages/{id_}")
    assert (draft["status"], text_of(draft)) == ("in_progress", "Half")
    assert runs.texts(thread) == ["What is new?"]
    assert runs.get("/v1/threads?q=Half")["data"] == []
    messages = [json.loads(line).get("messages") for line in exported(flask).splitlines()]
    assert [len(each) for each in messages if each is not None] == [1]
    copy = runs.post(f"/v1/threads/{thread}/copy")["id"]
    assert runs.texts(copy) == ["What is new?"]
    runs.cancel(run)
    runs.wait(run, "cancelled")
    assert runs.texts(thread) == ["What is new?", "Half"]
    assert runs.get("/v1/threads?q=Half")["data"] != []


def test_text_before_a_call_is_a_message_of_its_own(
    runs: RunsClient, thread: str, assistant: str
) -> None:
    runs.reply({"text": "One moment.", "tool_calls": [CALL]}, DONE)
    run = runs.wait(runs.run(thread, assistant), "requires_action")
    assert runs.texts(thread) == ["What is new?", "One moment."]
    assert [step["status"] for step in runs.steps(run)] == ["completed", "in_progress"]
    runs.submit(run)
    run = runs.wait(run, "completed")
    assert runs.texts(thread) == ["What is new?", "One moment.", "Done."]
    kinds = [step["type"] for step in runs.steps(run)]
    assert kinds == ["message_creation", "tool_calls", "message_creation"]


# what an answer costs


@pytest.mark.parametrize("take", [turn_of_pieces, completion_of_pieces])
def test_arguments_in_many_pieces_cost_what_their_number_says(
    take: Callable[[str], None],
) -> None:
    Piece.copied = 0
    take(Piece(PIECE))
    assert Piece.copied <= PIECES * len(PIECE)
