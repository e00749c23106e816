"""Large threads: copied and deleted in batches, while others write, and whole for every reader."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import until
from flask import Flask
from flask.testing import FlaskClient

import database
from database import Connection, sqlite
from models import DEFAULT_PROJECT, HIDDEN_PROJECT, Message, Thread
from rules import refusals
from store import copies, deletions, stored_answers
from store.copies import Copy

MESSAGES = 25
AT_ONCE = 10


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of these tests takes three batches."""
    monkeypatch.setattr(copies, "MESSAGES_AT_ONCE", AT_ONCE)
    monkeypatch.setattr(deletions, "MESSAGES_AT_ONCE", AT_ONCE)


@pytest.fixture
def large(client: FlaskClient) -> str:
    texts = [{"role": "user", "content": f"word{number}"} for number in range(MESSAGES)]
    body = {"messages": texts, "metadata": {"size": "large"}}
    return str(client.post("/threads", json=body).json["id"])


def texts(client: FlaskClient, thread_id: str) -> list[str]:
    page = client.get(f"/threads/{thread_id}/messages?order=asc&limit=100").json
    return [message["content"][0]["text"]["value"] for message in page["data"]]


def stored(app: Flask) -> tuple[int, int]:
    """The threads and messages in the database, those out of sight too."""
    with app.app_context(), database.snapshot() as connection:
        return tuple(
            connection.value(sa.select(sa.func.count()).select_from(table))
            for table in (Thread, Message)
        )


def between_batches(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> list[Any]:
    """Call a function in each pause between two batches; return what it returned."""
    results: list[Any] = []
    monkeypatch.setattr(time, "sleep", lambda _: results.append(run()))
    return results


def test_a_copy_is_out_of_sight_until_it_is_whole(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> tuple[list[str], list[str]]:
        other = app.test_client()
        pages = (other.get(path).json["data"] for path in ("/threads", "/threads?q=word3"))
        first, second = ([thread["id"] for thread in page] for page in pages)
        return first, second

    results = between_batches(monkeypatch, look)
    copy = client.post(f"/threads/{large}/copy").json
    assert results == [([large], [large])] * 2
    assert texts(client, copy["id"]) == [f"word{number}" for number in range(MESSAGES)]
    assert copy["metadata"] == {"size": "large"}
    found = client.get("/threads?metadata[size]=large&q=word24").json["data"]
    assert {thread["id"] for thread in found} == {large, copy["id"]}


def test_others_write_while_a_thread_is_copied_and_deleted(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = between_batches(monkeypatch, lambda: app.test_client().post("/threads").status_code)
    copy = client.post(f"/threads/{large}/copy").json["id"]
    client.delete(f"/threads/{large}")
    assert set(statuses) == {200}
    assert len(statuses) >= 4
    assert len(texts(client, copy)) == MESSAGES
    assert stored(app) == (1 + len(statuses), MESSAGES)


def test_a_thread_that_is_deleted_while_it_is_copied_is_404_and_leaves_nothing(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete() -> None:
        monkeypatch.undo()
        app.test_client().delete(f"/threads/{large}")

    between_batches(monkeypatch, delete)
    assert client.post(f"/threads/{large}/copy").status_code == 404
    assert stored(app) == (0, 0)


def test_a_copy_has_the_messages_of_its_beginning(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"role": "user", "content": "late"}
    between_batches(
        monkeypatch, lambda: app.test_client().post(f"/threads/{large}/messages", json=late)
    )
    copy = client.post(f"/threads/{large}/copy").json["id"]
    assert texts(client, copy) == [f"word{number}" for number in range(MESSAGES)]


@pytest.mark.sqlite_only("another writer keeps none waiting on PostgreSQL")
def test_a_copy_or_deletion_that_gets_no_turn_leaves_nothing_half_done(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy is refused; a deletion is done for every reader, and ends later."""
    turn = app.extensions["database"].turn
    monkeypatch.setattr(sqlite, "QUEUE_SECONDS", 0.05)

    def hold_turn() -> None:
        threading.Thread(target=turn.acquire, args=(1,)).start()
        assert until(turn._lock.locked)

    between_batches(monkeypatch, hold_turn)
    assert client.post(f"/threads/{large}/copy").json["error"]["code"] == "database_busy"
    turn.release()
    assert client.delete(f"/threads/{large}").status_code == 200
    assert client.get(f"/threads/{large}").status_code == 404
    turn.release()
    monkeypatch.undo()
    later = time.time() + deletions.LEFT_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with app.app_context():
        deletions.delete_left()
    assert stored(app) == (0, 0)


def test_a_copy_follows_the_columns_of_the_model(client: FlaskClient, large: str) -> None:
    thread = client.post("/threads", json={"tool_resources": {"file_search": {}}}).json
    copy = client.post(f"/threads/{thread['id']}/copy").json
    assert copy | {"id": thread["id"], "created_at": thread["created_at"]} == thread


def test_an_idempotent_copy_is_made_once(app: Flask, client: FlaskClient, large: str) -> None:
    key = {"Idempotency-Key": "copy"}
    first, second = (client.post(f"/threads/{large}/copy", headers=key) for _ in range(2))
    assert first.json == second.json
    assert stored(app) == (2, 2 * MESSAGES)


def test_a_deleted_thread_is_gone_at_the_first_commit(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> tuple[int, list[Any]]:
        other = app.test_client()
        page = other.get("/threads?metadata[size]=large").json["data"]
        return other.get(f"/threads/{large}").status_code, page

    results = between_batches(monkeypatch, look)
    assert client.delete(f"/threads/{large}").status_code == 200
    assert len(results) >= 2
    assert all(each == (404, []) for each in results)
    assert stored(app) == (0, 0)


def test_what_a_killed_process_left_is_removed_and_a_running_copy_is_not(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(_: float) -> None:
        raise Killed

    with monkeypatch.context() as patch, app.app_context():
        patch.setattr(time, "sleep", kill)
        with pytest.raises(Killed):
            deletions.delete_thread(DEFAULT_PROJECT, large)
        other = client.post("/threads", json={"messages": [{"role": "user", "content": "x"}] * 25})
        with pytest.raises(Killed):
            Copy(DEFAULT_PROJECT, other.json["id"], {}).__enter__()
    with app.app_context():
        deletions.delete_left()
        assert hidden() == 1
        hour = deletions.LEFT_SECONDS + 1
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + hour)
        deletions.delete_left()
        assert hidden() == 0
    assert stored(app) == (1, 25)


@pytest.mark.sqlite_only("PostgreSQL gives no number twice")
def test_a_copy_whose_first_commit_fails_deletes_no_other_thread(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next thread gets the number that the copy would have."""
    copy_hidden, drop, made = Copy._copy_hidden, Copy._drop, []

    def fail(copy: Copy, connection: Connection) -> None:
        copy_hidden(copy, connection)
        raise refusals.disk_full()

    def create_and_drop(copy: Copy) -> None:
        made.append(app.test_client().post("/threads").json)
        drop(copy)

    monkeypatch.setattr(Copy, "_copy_hidden", fail)
    monkeypatch.setattr(Copy, "_drop", create_and_drop)
    assert client.post(f"/threads/{large}/copy").json["error"]["code"] == "disk_full"
    assert client.get(f"/threads/{made[0]['id']}").json == made[0]


def test_a_copy_whose_last_commit_fails_is_deleted_at_once(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise refusals.disk_full()

    monkeypatch.setattr(stored_answers, "keep", fail)
    answer = client.post(f"/threads/{large}/copy", headers={"Idempotency-Key": "copy"})
    assert answer.json["error"]["code"] == "disk_full"
    assert stored(app) == (1, MESSAGES)


@pytest.mark.parametrize("at_once", [AT_ONCE, MESSAGES - 1], ids=["a batch", "the last batch"])
def test_a_copy_writes_nothing_to_a_thread_that_gets_its_number(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(copies, "MESSAGES_AT_ONCE", at_once)
    between_batches(monkeypatch, show_hidden)
    assert client.post(f"/threads/{large}/copy").json["error"]["code"] == "database_busy"
    assert len(texts(client, "thread_other")) == at_once


def test_a_deletion_takes_nothing_of_a_thread_that_gets_its_number(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    between_batches(monkeypatch, show_hidden)
    assert client.delete(f"/threads/{large}").status_code == 200
    assert len(texts(client, "thread_other")) == MESSAGES - AT_ONCE


def show_hidden() -> None:
    """Put a thread in the place of the hidden one, as /_mock/restore may."""
    hidden = sa.update(Thread).where(Thread.project == HIDDEN_PROJECT)
    change = hidden.values(project=DEFAULT_PROJECT, id="thread_other")
    database.write(lambda connection: connection.change(change))


def hidden() -> int:
    count = sa.select(sa.func.count()).select_from(Thread)
    with database.read() as connection:
        return int(connection.value(count.where(Thread.project == HIDDEN_PROJECT)))


def test_many_copies_at_once_are_all_whole(app: Flask, client: FlaskClient, large: str) -> None:
    """On PostgreSQL, too, where each waits for a connection of its own."""
    with ThreadPoolExecutor(8) as pool:
        answers = [
            pool.submit(app.test_client().post, f"/threads/{large}/copy").result for _ in range(8)
        ]
        ids = [answer().json["id"] for answer in answers]
    assert all(len(texts(client, id_)) == MESSAGES for id_ in ids)
