"""Both orders of threads, compared with a plain Python model over random changes."""

import json
import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from click.testing import Result
from conftest import until
from flask import Flask
from flask.testing import FlaskClient

import database
from exchange import exports, imports
from rules.ids_and_clock import sources

STEPS = 150
START = 1_800_000_000
MESSAGE = {"role": "user", "content": "Hello"}
ENDED = ("completed", "failed")


class Thread:
    """A thread of the model: its times, and when it was made and touched, in steps."""

    def __init__(self, created_at: int, times: list[int], made: int) -> None:
        self.created_at, self.times = created_at, times
        self.made = self.touched = made

    def place(self, sort: str) -> tuple[int, ...]:
        """Return what the order compares."""
        if sort == "created_at":
            return (self.created_at, self.made)
        return (max([self.created_at, *self.times[-1:]]), self.touched)


class Model:
    """What is stored, by the ids of threads; the clock stands still between most changes."""

    def __init__(self, app: Flask, client: FlaskClient, flask: Any, seed: int) -> None:
        self.app, self.client, self.flask = app, client, flask
        self.random = random.Random(seed)
        self.now = float(START)
        self.steps = count()
        self.threads: dict[str, Thread] = {}
        self.assistant = client.post("/assistants", json={"model": "m"}).json["id"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.open(path, method=method, json=body or {}, buffered=True)
        assert answer.status_code == 200, answer.text
        return answer.json

    def any_thread(self) -> str:
        return self.random.choice(list(self.threads))

    def messages(self, thread_id: str) -> list[dict[str, Any]]:
        """Return the messages, oldest first."""
        page: list[dict[str, Any]] = self.client.get(
            f"/threads/{thread_id}/messages?limit=100&order=asc"
        ).json["data"]
        return page

    def note(self, thread: dict[str, Any]) -> None:
        """Note a new thread."""
        times = [each["created_at"] for each in self.messages(thread["id"])]
        self.threads[thread["id"]] = Thread(thread["created_at"], times, next(self.steps))

    def touch(self, thread_id: str) -> None:
        """Note that the messages of a thread have changed."""
        thread = self.threads[thread_id]
        thread.times = [each["created_at"] for each in self.messages(thread_id)]
        thread.touched = next(self.steps)

    def create(self) -> None:
        self.note(self.call("POST", "/threads", {"messages": [MESSAGE] * self.random.randrange(3)}))

    def append(self) -> None:
        thread_id = self.any_thread()
        self.call("POST", f"/threads/{thread_id}/messages", MESSAGE)
        self.touch(thread_id)

    def delete_newest(self) -> None:
        self.delete_message(-1)

    def delete_any(self) -> None:
        self.delete_message(0)

    def delete_message(self, place: int) -> None:
        thread_id = self.any_thread()
        if messages := self.messages(thread_id):
            self.call("DELETE", f"/threads/{thread_id}/messages/{messages[place]['id']}")
            self.touch(thread_id)

    def modify(self) -> None:
        """It is no activity."""
        self.call("POST", f"/threads/{self.any_thread()}", {"metadata": {"a": str(self.now)}})

    def delete_thread(self) -> None:
        """The thread stays a cursor."""
        thread_id = self.any_thread()
        pages = {sort: self.behind(thread_id, sort) for sort in ("created_at", "last_active_at")}
        self.call("DELETE", f"/threads/{thread_id}")
        del self.threads[thread_id]
        for sort, page in pages.items():
            assert self.behind(thread_id, sort) == page

    def behind(self, thread_id: str, sort: str) -> list[str]:
        query = {"sort": sort, "limit": 100, "after": thread_id}
        page = self.client.get("/threads", query_string=query).json["data"]
        return [thread["id"] for thread in page]

    def copy(self) -> None:
        self.note(self.call("POST", f"/threads/{self.any_thread()}/copy"))

    def import_(self) -> None:
        """Import a thread with messages of other times, as a new one or in its place."""
        old_id = self.any_thread()
        with self.app.app_context():
            text = b"".join(exports.export_thread("default", old_id, exports.as_jsonl)).decode()
        id_ = self.random.choice([old_id, f"thread_{next(self.steps)}"])
        line = json.loads(text.replace(old_id, id_))
        for each in [line["thread"], *line["messages"]]:
            each["created_at"] -= self.random.choice([0, 0, 1, 60])
        with self.app.app_context():
            lines = [json.dumps(line).encode()]
            [outcome] = imports.import_lines("default", lines, "replace")
        assert outcome.result in ("imported", "replaced"), outcome
        self.note_import(line["thread"])

    def note_import(self, thread: dict[str, Any]) -> None:
        """Note a thread that keeps its place in each order where its second is the same."""
        old = self.threads.get(thread["id"])
        self.note(thread)
        new = self.threads[thread["id"]]
        if old and old.place("created_at")[0] == new.place("created_at")[0]:
            new.made = old.made
        if old and old.place("last_active_at")[0] == new.place("last_active_at")[0]:
            new.touched = old.touched

    def run(self) -> None:
        """Its own message is activity, and so are those that it adds."""
        thread_id = self.any_thread()
        roles = [each["role"] for each in self.messages(thread_id)]
        added = self.random.choice([[], [MESSAGE]]) if "user" in roles else [MESSAGE]
        body = {"assistant_id": self.assistant, "additional_messages": added}
        run = self.call("POST", f"/threads/{thread_id}/runs", body)
        address = f"/threads/{thread_id}/runs/{run['id']}"
        assert until(lambda: self.client.get(address).json["status"] in ENDED)
        self.touch(thread_id)

    def prune(self) -> None:
        seconds = self.random.choice([30, 90])
        self.flask("prune", "--older-than", f"{seconds}s")
        before = self.now - seconds
        for thread_id, thread in list(self.threads.items()):
            if thread.place("last_active_at")[0] < before:
                del self.threads[thread_id]

    def pass_time(self) -> None:
        """A clock may be set back."""
        self.now += self.random.choice([1, 1, 2, 30, -1])

    def listed(self, sort: str, order: str) -> list[str]:
        """Return the ids of all threads, page by page."""
        ids: list[str] = []
        query = {"sort": sort, "order": order, "limit": self.random.choice([2, 5, 100])}
        has_more = True
        while has_more:
            page = self.client.get("/threads", query_string={**query, "after": ids[-1:]}).json
            ids += [thread["id"] for thread in page["data"]]
            has_more = page["has_more"]
        return ids

    def expected(self, sort: str, order: str) -> list[str]:
        by_place = sorted(self.threads, key=lambda id_: self.threads[id_].place(sort))
        return by_place if order == "asc" else by_place[::-1]


@pytest.mark.parametrize("seed", range(3))
def test_both_orders_are_those_of_a_model(
    app: Flask,
    client: FlaskClient,
    flask: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    model = Model(app, client, flask, seed)
    monkeypatch.setattr(sources, "now", lambda: model.now)
    often = [model.create, model.append, model.append, model.delete_newest, model.pass_time]
    changes = [*often * 2, model.delete_any, model.modify, model.delete_thread, model.copy]
    changes += [model.import_, model.import_, model.run, model.run, model.prune]
    for step in range(STEPS):
        change = model.random.choice(changes) if len(model.threads) > 3 else model.create
        change()
        sort = ("created_at", "last_active_at")[step % 2]
        order = model.random.choice(["asc", "desc"])
        place = (step, change.__name__, sort, order)
        assert model.listed(sort, order) == model.expected(sort, order), place


def test_a_message_that_a_run_adds_is_activity_before_the_answer(client: FlaskClient) -> None:
    first, second = (client.post("/threads", json={}).json["id"] for _ in range(2))
    assistant = client.post("/assistants", json={"model": "m"}).json["id"]
    rule = {"replies": [{"text": "Later.", "delay_ms": 60_000}]}
    client.put("/_mock/replies", json={"rules": [rule]})
    body = {"assistant_id": assistant, "additional_messages": [MESSAGE]}
    assert client.post(f"/threads/{first}/runs", json=body).status_code == 200
    page = client.get("/threads?sort=last_active_at").json["data"]
    assert [each["id"] for each in page] == [first, second]


def test_prune_keeps_what_an_older_program_has_just_written(
    app: Flask, client: FlaskClient, flask: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on after the upgrade until its restart, and touches no thread."""
    monkeypatch.setattr(sources, "now", lambda: START)
    old, active = (client.post("/threads", json={}).json["id"] for _ in range(2))
    client.post(f"/threads/{active}/messages", json=MESSAGE)
    now = f"created_at = {START + 100}"
    with app.app_context():
        database.write(lambda connection: connection.change(f"UPDATE messages SET {now}"))
    new = client.post("/threads", json={}).json["id"]
    untouched = f"UPDATE threads SET {now}, last_active_at = 0 WHERE id = '{new}'"
    with app.app_context():
        database.write(lambda connection: connection.change(untouched))
    monkeypatch.setattr(sources, "now", lambda: START + 100)
    flask("prune", "--older-than", "50s")
    left = [each["id"] for each in client.get("/threads").json["data"]]
    assert old not in left
    assert sorted(left) == sorted([active, new])
