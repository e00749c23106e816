"""The second of a new thread: who pages forward by time misses none, whatever the clock does."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Server, until
from flask import Flask
from flask.testing import FlaskClient

import database
from exchange import imports
from rules.ids_and_clock import sources
from store import copies, threads

FUTURE = 4_000_000_000
LINE = (
    b'{"thread":{"id":"thread_of_the_future","object":"thread","created_at":4000000000,'
    b'"metadata":{},"tool_resources":{}},"messages":[]}'
)


def create(client: FlaskClient) -> int:
    return int(client.post("/threads").json["created_at"])


def after(client: FlaskClient, cursor: str) -> list[str]:
    page = client.get(f"/threads?order=asc&limit=100&after={cursor}").json["data"]
    return [thread["id"] for thread in page]


def set_back(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    monkeypatch.setattr(sources, "now", lambda: time.time() - seconds)


def test_a_clock_that_is_set_back_gives_no_earlier_second(
    client: FlaskClient, make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor after a deletion, nor in another process, nor for the messages of the thread."""
    newest = client.post("/threads").json
    client.delete(f"/threads/{newest['id']}")
    set_back(monkeypatch, 3_600)
    body = {"messages": [{"role": "user", "content": "x"}]}
    thread = make_app().test_client().post("/threads", json=body).json
    [message] = client.get(f"/threads/{thread['id']}/messages").json["data"]
    assert thread["created_at"] == message["created_at"] == newest["created_at"]
    assert after(client, newest["id"]) == [thread["id"]]


def test_imported_times_and_the_mock_clock_do_not_count(
    app: Flask, client_with: Callable[..., FlaskClient]
) -> None:
    client = client_with(MOCK="on")
    with app.app_context():
        list(imports.import_lines("default", [LINE], "fail"))
    client.put("/_mock/clock", json={"frozen_at": FUTURE})
    assert create(client) == FUTURE
    client.put("/_mock/clock", json={"frozen_at": 7})
    assert create(client) == 7
    client.put("/_mock/clock", json={})
    assert abs(create(client) - time.time()) < 60


def test_each_project_has_a_second_of_its_own(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_in(project: str) -> int:
        change: Any = lambda connection: threads.create_thread(connection, project, {})  # noqa: E731
        return int(database.write(change)["created_at"])

    with app.app_context():
        first = create_in("one")
        set_back(monkeypatch, 3_600)
        assert (create_in("one"), create_in("two")) == (first, int(time.time()) - 3_600)


def test_a_large_copy_comes_after_what_was_made_during_it(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "MESSAGES_AT_ONCE", 5)
    now = int(time.time())
    monkeypatch.setattr(sources, "now", lambda: now)
    body = {"messages": [{"role": "user", "content": "x"}] * 12}
    large = client.post("/threads", json=body).json["id"]
    during: list[str] = []

    def create_one(_: float) -> None:
        during.append(app.test_client().post("/threads").json["id"])

    monkeypatch.setattr(time, "sleep", create_one)
    copy = client.post(f"/threads/{large}/copy").json
    assert after(client, during[-1]) == [copy["id"]]
    assert after(client, large) == [*during, copy["id"]]
    small = client.post(f"/threads/{during[0]}/copy").json
    assert after(client, copy["id"]) == [small["id"]]


def test_a_thread_takes_its_second_when_its_turn_has_come(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation that waits for a slow writer is not listed before what was made meanwhile."""
    clock = [int(time.time())]
    monkeypatch.setattr(sources, "now", lambda: clock[0])
    waits, go_on = threading.Event(), threading.Event()

    def slow(connection: database.Connection) -> str:
        waits.set()
        assert go_on.wait(10)
        clock[0] += 1
        return str(threads.create_thread(connection, "default", {})["id"])

    def write_slowly() -> str:
        with app.app_context():
            return database.write(slow)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(write_slowly)
        assert waits.wait(10)
        second = pool.submit(app.test_client().post, "/threads")
        go_on.set()
        one, two = first.result(), second.result().json["id"]
    listed = [each["id"] for each in client.get("/threads?order=asc").json["data"]]
    assert sorted(listed) == sorted([one, two])
    assert after(client, listed[0]) == listed[1:]


def test_a_reader_who_follows_the_end_misses_no_thread_of_many_writers(
    serve: Callable[..., Any],
) -> None:
    with serve(WORKERS=2) as server, ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(create_many, server) for _ in range(4)]
        seen = follow(server, lambda: all(writer.done() for writer in writers))
        made = [id_ for writer in writers for id_ in writer.result()]
    assert sorted(seen) == sorted(made)


def create_many(server: Server) -> list[str]:
    with server.sdk() as sdk:
        return [sdk.beta.threads.create().id for _ in range(60)]


def follow(server: Server, have_ended: Callable[[], bool]) -> list[str]:
    seen: list[str] = []

    def read() -> bool:
        ended = have_ended()
        while True:
            cursor = f"&after={seen[-1]}" if seen else ""
            page = server.call("GET", f"/v1/threads?order=asc&limit=100{cursor}")
            ids = [each["id"] for each in json.loads(page.body)["data"]]
            seen.extend(ids)
            if not ids:
                return ended

    assert until(read, seconds=60)
    return seen
