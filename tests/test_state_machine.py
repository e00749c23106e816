"""The server against a plain model: any order of writes, then pages in both directions."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app import create_app
from models import db

CI = os.environ.get("CI") == "true"
USERS = ("u1", "u2")
METADATA = st.dictionaries(st.sampled_from(["user", "plan"]), st.sampled_from(USERS), max_size=2)
WORDS = ("castle", "tram", "old")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map(" ".join)
ORDERS = st.sampled_from(["asc", "desc"])
LIMITS = st.sampled_from([1, 2, 3, 7, 100])
PICK = st.integers(0, 1_000)


class Item:
    """A thread or message of the model; a deleted one keeps its place in its list."""

    def __init__(self, wire: dict[str, Any], text: str = "") -> None:
        self.wire = wire
        self.text = text
        self.deleted = False
        self.messages: list[Item] = []

    @property
    def id(self) -> str:
        return str(self.wire["id"])


def page(
    items: list[Item], order: str, limit: int, after: Item | None, before: Item | None
) -> tuple[list[dict[str, Any]], bool]:
    """Return what a list must answer: by position among all that ever were in it."""
    row = items if order == "asc" else items[::-1]
    start = row.index(after) + 1 if after else 0
    end = row.index(before) if before else len(row)
    living = [item.wire for item in row[start:end] if not item.deleted]
    if before and not after:
        return living[-limit:], len(living) > limit
    return living[:limit], len(living) > limit


class Threads(RuleBasedStateMachine):
    """Rules act on server and model alike, and compare the two answers."""

    migrated: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        copy(self.migrated, f"{self.folder.name}/threads.db")
        url = f"sqlite:///{self.folder.name}/threads.db"
        self.app = create_app({"DATABASE_URL": url, "DURABILITY": "normal"})
        self.client: FlaskClient = self.app.test_client()
        self.threads: list[Item] = []

    def teardown(self) -> None:
        with self.app.app_context():
            db.engine.dispose()
        self.folder.cleanup()

    def post(self, address: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(f"/v1/threads{address}", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json)

    def living(self) -> list[Item]:
        return [thread for thread in self.threads if not thread.deleted]

    def pick(self, items: list[Item], number: int) -> Item:
        return items[number % len(items)]

    @rule(metadata=METADATA, texts=st.lists(TEXTS, max_size=3))
    def create_thread(self, metadata: dict[str, str], texts: list[str]) -> None:
        messages = [{"role": "user", "content": text} for text in texts]
        thread = Item(self.post("", {"metadata": metadata, "messages": messages}))
        assert thread.wire["metadata"] == metadata
        self.threads.append(thread)
        self.read_new_messages(thread, texts)

    def read_new_messages(self, thread: Item, texts: list[str]) -> None:
        answer = self.client.get(f"/v1/threads/{thread.id}/messages?order=asc&limit=100").json
        values = [message["content"][0]["text"]["value"] for message in answer["data"]]
        assert values == texts
        thread.messages = [Item(*pair) for pair in zip(answer["data"], texts, strict=True)]

    @precondition(living)
    @rule(number=PICK, text=TEXTS)
    def create_message(self, number: int, text: str) -> None:
        thread = self.pick(self.living(), number)
        message = self.post(f"/{thread.id}/messages", {"role": "assistant", "content": text})
        thread.messages.append(Item(message, text))

    @precondition(living)
    @rule(number=PICK, metadata=METADATA)
    def modify_thread(self, number: int, metadata: dict[str, str]) -> None:
        thread = self.pick(self.living(), number)
        thread.wire["metadata"] = metadata
        assert self.post(f"/{thread.id}", {"metadata": metadata}) == thread.wire

    @precondition(living)
    @rule(number=PICK, turn=PICK, metadata=METADATA)
    def modify_message(self, number: int, turn: int, metadata: dict[str, str]) -> None:
        thread = self.pick(self.living(), number)
        if thread.messages:
            message = self.pick(thread.messages, turn)
            address = f"/{thread.id}/messages/{message.id}"
            if message.deleted:
                assert self.client.post(f"/v1/threads{address}").status_code == 404
            else:
                message.wire["metadata"] = metadata
                assert self.post(address, {"metadata": metadata}) == message.wire

    @precondition(living)
    @rule(number=PICK, metadata=st.none() | METADATA)
    def copy_thread(self, number: int, metadata: dict[str, str] | None) -> None:
        original = self.pick(self.living(), number)
        thread = Item(self.post(f"/{original.id}/copy", {"metadata": metadata} if metadata else {}))
        assert thread.wire["metadata"] == (metadata or original.wire["metadata"])
        self.threads.append(thread)
        texts = [message.text for message in original.messages if not message.deleted]
        self.read_new_messages(thread, texts)

    @precondition(lambda self: self.threads)
    @rule(number=PICK)
    def delete_thread(self, number: int) -> None:
        thread = self.pick(self.threads, number)
        status = self.client.delete(f"/v1/threads/{thread.id}").status_code
        assert status == (404 if thread.deleted else 200)
        thread.deleted = True

    @precondition(living)
    @rule(number=PICK, turn=PICK)
    def delete_message(self, number: int, turn: int) -> None:
        thread = self.pick(self.living(), number)
        if thread.messages:
            message = self.pick(thread.messages, turn)
            answer = self.client.delete(f"/v1/threads/{thread.id}/messages/{message.id}")
            assert answer.status_code == (404 if message.deleted else 200)
            message.deleted = True

    @rule(order=ORDERS, limit=LIMITS, after=st.none() | PICK, before=st.none() | PICK)
    def page_of_threads(
        self, order: str, limit: int, after: int | None, before: int | None
    ) -> None:
        self.compare("/v1/threads", self.threads, order, limit, after, before)

    @precondition(living)
    @rule(number=PICK, order=ORDERS, limit=LIMITS, after=st.none() | PICK, before=st.none() | PICK)
    def page_of_messages(
        self, number: int, order: str, limit: int, after: int | None, before: int | None
    ) -> None:
        thread = self.pick(self.living(), number)
        address = f"/v1/threads/{thread.id}/messages"
        self.compare(address, thread.messages, order, limit, after, before)

    def compare(
        self,
        address: str,
        items: list[Item],
        order: str,
        limit: int,
        after: int | None,
        before: int | None,
    ) -> None:
        first, last = (
            self.pick(items, number) if items and number is not None else None
            for number in (after, before)
        )
        query: dict[str, Any] = {"order": order, "limit": limit}
        query |= {"after": first.id} if first else {}
        query |= {"before": last.id} if last else {}
        answer = self.client.get(address, query_string=query).json
        assert (answer["data"], answer["has_more"]) == page(items, order, limit, first, last)

    @rule(order=ORDERS, limit=LIMITS, backwards=st.booleans())
    def walk_all_threads(self, order: str, limit: int, backwards: bool) -> None:
        cursor, threads = "before" if backwards else "after", []
        for answer in self.pages(order, limit, cursor):
            threads = answer["data"] + threads if backwards else threads + answer["data"]
        assert (threads, False) == page(self.threads, order, 10_000, None, None)

    def pages(self, order: str, limit: int, cursor: str) -> Iterator[dict[str, Any]]:
        """Walk from one end of the list to the other; the far end is the newest cursor known."""
        query: dict[str, Any] = {"order": order, "limit": limit}
        living = self.living()[:: 1 if order == "asc" else -1]
        if cursor == "before" and living:
            yield {"data": [living[-1].wire]}
            query["before"] = living[-1].id
        more = True
        while more:
            answer = self.client.get("/v1/threads", query_string=query).json
            yield answer
            more = answer["has_more"]
            if answer["data"]:
                query[cursor] = answer["data"][0 if cursor == "before" else -1]["id"]

    @rule(user=st.sampled_from(USERS), word=st.none() | st.sampled_from(WORDS), order=ORDERS)
    def find_threads(self, user: str, word: str | None, order: str) -> None:
        query = {"metadata[user]": user, "order": order, "limit": 100}
        query |= {"q": word} if word else {}
        threads = self.client.get("/v1/threads", query_string=query).json["data"]
        expected = [
            thread.wire
            for thread in self.living()
            if thread.wire["metadata"].get("user") == user
            and (word is None or any(word in m.text for m in thread.messages if not m.deleted))
        ]
        assert threads == (expected if order == "asc" else expected[::-1])

    @invariant()
    def no_thread_is_older_than_the_one_before(self) -> None:
        times = [thread.wire["created_at"] for thread in self.threads]
        assert all(one <= two for one, two in pairwise(times))


def test_server_and_model_never_differ(migrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Threads, "migrated", migrated, raising=False)
    Threads.TestCase.settings = settings(
        max_examples=60 if CI else 25,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # to shrink a failure can take minutes
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    Threads.TestCase("runTest").runTest()
