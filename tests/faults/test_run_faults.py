"""Runs while processes die, stop and are replaced: none is lost, none is doubled, none stays."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, await_ready, launched, serving, until
from harness import WHOLE, Client, rounds

ROUNDS = rounds(2, 5)
RUNS, CLIENTS = (500, 8) if WHOLE else (160, 8)
AT_ONCE = 50 if WHOLE else 20
SECONDS_TO_END = 15
ENDS = ("completed", "incomplete", "failed", "cancelled", "expired")
ENDS_OF_RUNS = [f"thread.run.{status}" for status in ENDS]
CALL = {"name": "get", "arguments": {"city": "Rome"}}
SCRIPT = {
    "rules": [
        {"match": "slow*", "replies": [{"text": "Slowly said, word by word.", "chunk_ms": 150}]},
        {"match": "late*", "replies": [{"text": "Said late.", "delay_ms": 900}]},
        {"match": "held*", "replies": [{"text": "Never said.", "delay_ms": 60_000}]},
        {"match": "tool*", "replies": [{"tool_calls": [CALL]}, {"text": "It is warm."}]},
    ]
}
ANSWERS = {
    "slow": "Slowly said, word by word.",
    "late": "Said late.",
    "tool": "It is warm.",
}
Wire = dict[str, Any]


def answer_to(question: str) -> str:
    """Return what the script says; without a rule the answer repeats the question."""
    return ANSWERS.get(question.split()[0], question)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Wire:
    """A kept database, and the script that every process of the server plays."""
    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps(SCRIPT))
    return {"DATABASE_URL": database_url, "REPLIES": replies}


def ask(client: Client, assistant: str, question: str) -> Wire:
    thread = {"messages": [{"role": "user", "content": question}]}
    body = {"assistant_id": assistant, "thread": thread, "metadata": {"question": question}}
    return dict(client.expect("POST", "/v1/threads/runs", body))


def see(client: Client, run: Wire) -> Wire:
    return dict(client.expect("GET", f"/v1/threads/{run['thread_id']}/runs/{run['id']}"))


def follow(client: Client, run: Wire) -> Wire:
    """Poll a run to its end, and give the outputs that it waits for."""
    assert until(lambda: has_ended(client, run), seconds=60)
    return see(client, run)


def has_ended(client: Client, run: Wire) -> bool:
    seen = see(client, run)
    if seen["status"] == "requires_action":
        calls = seen["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": "20"} for call in calls]
        path = f"/v1/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
        client.send("POST", path, {"tool_outputs": outputs})
    return seen["status"] in ENDS


def answers_of(client: Client, run: Wire) -> list[tuple[str, str]]:
    """Return the status and the text of the messages of a run."""
    path = f"/v1/threads/{run['thread_id']}/messages?run_id={run['id']}"
    messages = client.expect("GET", path)["data"]
    return [(each["status"], each["content"][0]["text"]["value"]) for each in messages]


def assert_is_right(client: Client, run: Wire) -> None:
    """Check the end of a run, its messages, its steps, and that its thread is free."""
    question = run["metadata"]["question"]
    answers, seen = answers_of(client, run), see(client, run)
    if seen["status"] == "completed":
        assert answers == [("completed", answer_to(question))]
    else:
        assert seen["status"] == "failed", seen
        assert seen["last_error"]["code"] == "server_error"
        assert all(status == "incomplete" for status, _ in answers)
        assert all(answer_to(question).startswith(text) for _, text in answers)
        assert len(answers) <= 1
    path = f"/v1/threads/{run['thread_id']}"
    steps = client.expect("GET", f"{path}/runs/{run['id']}/steps")["data"]
    assert all(step["status"] in ("completed", "failed") for step in steps)
    client.expect("POST", f"{path}/messages", {"role": "user", "content": "Thanks"})


def questions(count: int, tag: str) -> Iterator[str]:
    for number in range(count):
        yield f"{('slow', 'late', 'tool', 'plain')[number % 4]} {tag} {number}"


@pytest.mark.timeout(200)
def test_eight_clients_lose_no_run_and_double_none(serve: Any) -> None:
    failures: list[str] = []

    def work(server: Server, assistant: str, number: int) -> None:
        with closing(Client(server)) as client:
            for question in [f"{number} asks {turn}" for turn in range(RUNS // CLIENTS)]:
                run = ask(client, assistant, question)
                follow(client, run)
                if answers_of(client, run) != [("completed", question)]:
                    failures.append(question)

    with serve() as server, closing(Client(server)) as client:
        assistant = client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
        arguments = [(server, assistant, number) for number in range(CLIENTS)]
        threads = [threading.Thread(target=work, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


@pytest.mark.timeout(300)
@pytest.mark.sqlite_only("the processes that die share a database file")
def test_kill_9_leaves_every_run_with_an_end(tmp_path: Path, settings: Wire) -> None:
    log, runs, longest = tmp_path / "log", list[Wire](), 0.0
    assistant = ""
    for turn in (*ROUNDS, "last"):
        with launched(log, **settings) as process:
            server = await_ready(process, log)
            began = time.monotonic()
            with closing(Client(server)) as client:
                for run in runs:
                    left = SECONDS_TO_END - (time.monotonic() - began)
                    assert until(lambda: has_ended(client, run), seconds=left)  # noqa: B023
                longest = max(longest, time.monotonic() - began if runs else 0)
                for run in runs:
                    assert_is_right(client, run)
                if turn == "last":
                    break
                assistant = (
                    assistant or client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
                )
                runs = [ask(client, assistant, each) for each in questions(AT_ONCE, str(turn))]
                until(lambda: has_ended(client, runs[turn]), seconds=1)  # noqa: B023
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    print(f"every run has ended {longest:.1f} s after a restart")


@pytest.mark.timeout(200)
@pytest.mark.sqlite_only("the processes share a database file")
@pytest.mark.parametrize("is_reload", [True, False], ids=["reload", "restart"])
def test_a_stop_ends_every_run_or_queues_it_again(
    tmp_path: Path, settings: Wire, is_reload: bool
) -> None:
    log = tmp_path / "log"
    with serving(log, **settings) as server, closing(Client(server)) as client:
        assistant = client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
        runs = [ask(client, assistant, each) for each in questions(AT_ONCE, "stop")]
        if is_reload:
            before = server.workers()
            server.process.send_signal(signal.SIGHUP)
            assert until(lambda: server.workers() and not before & server.workers(), seconds=30)
            assert_all_end(server, runs)
            return
        assert server.stop() == 0
    with serving(log, **settings) as server:
        assert_all_end(server, runs)


def assert_all_end(server: Server, runs: list[Wire]) -> None:
    with closing(Client(server)) as client:
        for run in runs:
            follow(client, run)
            assert_is_right(client, run)


# Streams


def open_stream(server: Server, assistant: str, question: str) -> HTTPConnection:
    """Begin to read the stream of a run; its events come in the answer of the connection."""
    connection = HTTPConnection(*server.address, timeout=60)
    thread = {"messages": [{"role": "user", "content": question}]}
    body = {"assistant_id": assistant, "thread": thread, "stream": True}
    body["metadata"] = {"question": question}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/threads/runs", json.dumps(body), headers)
    return connection


def events_of(connection: HTTPConnection) -> list[tuple[str, Any]]:
    """Read a stream to its end, which may be cut off; return the names and data of its events."""
    lines: list[bytes] = []
    try:
        with closing(connection.getresponse()) as response:
            lines = response.read().split(b"\n\n")
    except (OSError, HTTPException) as error:
        lines = getattr(error, "partial", b"").split(b"\n\n")
    pairs = [each.split(b"\ndata: ", 1) for each in lines if each.startswith(b"event: ")]
    return [(name[7:].decode(), data) for name, data in pairs]


def first_event(connection: HTTPConnection) -> Wire:
    """Return the run of the first event of a stream."""
    with closing(connection.getresponse()) as response:
        while not (line := response.readline()).startswith(b'data: {"id":"run_'):
            assert line
    return dict(json.loads(line[6:]))


@pytest.mark.timeout(200)
def test_a_reader_that_goes_away_ends_no_run(serve: Any, settings: Wire) -> None:
    with serve(REPLIES=settings["REPLIES"]) as server, closing(Client(server)) as client:
        assistant = client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
        runs = []
        for question in questions(AT_ONCE, "gone"):
            connection = open_stream(server, assistant, question)
            runs.append(first_event(connection))
            connection.close()
        assert_all_end(server, runs)


@pytest.mark.timeout(200)
@pytest.mark.sqlite_only("the database outlives its server")
@pytest.mark.parametrize("is_reload", [True, False], ids=["reload", "stop"])
def test_a_stop_ends_every_stream_with_an_event(
    tmp_path: Path, settings: Wire, is_reload: bool
) -> None:
    log, runs = tmp_path / "log", list[Wire]()
    with serving(log, **settings) as server, closing(Client(server)) as client:
        assistant = client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
        asked = [f"slow {number}" for number in range(AT_ONCE)]
        streams = [open_stream(server, assistant, question) for question in asked]
        path = "/v1/threads?limit=100"
        assert until(lambda: len(client.expect("GET", path)["data"]) == AT_ONCE)
        server.process.send_signal(signal.SIGHUP if is_reload else signal.SIGTERM)
        for stream in streams:
            with closing(stream):
                events = events_of(stream)
            runs += [json.loads(data) for name, data in events if name == "thread.run.created"]
            assert events[-1][0] in ("done", "error"), events[-1]
            assert events[-1][0] == "error" or events[-2][0] in ENDS_OF_RUNS
        assert len(runs) == AT_ONCE
        if is_reload:
            return assert_all_end(server, runs)
        assert server.process.wait(timeout=30) == 0
    with serving(log, **settings) as server:
        assert_all_end(server, runs)


@pytest.mark.timeout(200)
def test_a_reader_that_takes_nothing_holds_up_no_run(serve: Any, tmp_path: Path) -> None:
    replies, text = tmp_path / "replies.json", "long " * 50_000
    replies.write_text(json.dumps({"rules": [{"replies": [{"text": text}]}]}))
    with serve(REPLIES=replies) as server, closing(Client(server)) as client:
        assistant = client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
        before = threads_of(server)
        streams = [open_stream(server, assistant, f"slow {each}") for each in range(5)]
        assert until(lambda: len(client.expect("GET", "/v1/threads")["data"]) == 5)
        for thread in client.expect("GET", "/v1/threads")["data"]:
            runs = f"/v1/threads/{thread['id']}/runs"
            assert until(lambda: is_completed(client, runs), seconds=30)  # noqa: B023
        for stream in streams:
            stream.close()
        # The players stay for the next runs.
        assert until(lambda: threads_of(server) <= before + 5 + 4, seconds=30)


def is_completed(client: Client, runs: str) -> bool:
    return bool(client.expect("GET", runs)["data"][0]["status"] == "completed")


def threads_of(server: Server) -> int:
    """Return how many threads the workers of a server have."""
    return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in server.workers())


@pytest.mark.timeout(200)
def test_a_hundred_streams_are_open_at_once_and_leave_no_thread(serve: Any, settings: Wire) -> None:
    with serve(REPLIES=settings["REPLIES"], RUNS=8) as server, closing(Client(server)) as client:
        assistant = client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
        streams = [open_stream(server, assistant, f"held {number}") for number in range(100)]
        path = "/v1/threads?limit=100"
        assert until(lambda: len(client.expect("GET", path)["data"]) == 100, seconds=60)
        assert threads_of(server) > 100
        for thread in client.expect("GET", path)["data"]:
            runs = f"/v1/threads/{thread['id']}/runs"
            client.expect("POST", f"{runs}/{client.expect('GET', runs)['data'][0]['id']}/cancel")
        for stream in streams:
            with closing(stream):
                names = [name for name, _ in events_of(stream)]
            assert names[-2:] == ["thread.run.cancelled", "done"]
        assert until(lambda: threads_of(server) < 30)


@pytest.mark.timeout(200)
@pytest.mark.sqlite_only("the processes that die share a database file")
def test_kill_9_amid_streams_leaves_every_run_with_an_end(tmp_path: Path, settings: Wire) -> None:
    log, runs = tmp_path / "log", list[Wire]()
    with launched(log, **settings) as process:
        server = await_ready(process, log)
        with closing(Client(server)) as client:
            assistant = client.expect("POST", "/v1/assistants", {"model": "m"})["id"]
        streams = [open_stream(server, assistant, f"slow {each}") for each in range(AT_ONCE)]
        runs = [first_event(stream) for stream in streams]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in streams:
        stream.close()
    with serving(log, **settings) as server:
        assert_all_end(server, runs)
