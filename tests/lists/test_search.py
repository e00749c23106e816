"""The text search, compared with a plain Python model over random changes."""

import random
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

import database
from exchange import exports, imports
from models import Message
from rules.ids_and_clock import sources
from store.objects import to_json

WORDS = ["tram", "castle", "Straße", "Été", "東京", "v2", "naïve", "ΣΟΦΟΣ", "ガイド", "한국어"]
FULL_WIDTH = {sign - 0xFEE0: sign for sign in range(0xFF01, 0xFF5F)}
WRITINGS: list[Callable[[str], str]] = [
    str,
    str.lower,
    partial(unicodedata.normalize, "NFC"),
    partial(unicodedata.normalize, "NFD"),
    lambda word: word.translate(FULL_WIDTH),
]
"""The ways to write a word that find each other."""
STEPS = 120


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower().replace("ς", "σ")


class Model:
    """What is stored: the texts of each thread's messages, by id."""

    def __init__(self, app: Flask, client: FlaskClient, seed: int) -> None:
        self.app, self.client, self.random = app, client, random.Random(seed)
        self.threads: dict[str, dict[str, str]] = {}

    def text(self) -> str:
        words = self.random.choices(WORDS, k=self.random.randint(0, 3))
        return " ".join(map(self.written, words)) or "-"

    def written(self, word: str) -> str:
        return self.random.choice(WRITINGS)(word)

    def any_thread(self) -> str:
        return self.random.choice(list(self.threads))

    def read(self, thread_id: str) -> None:
        page = self.client.get(f"/threads/{thread_id}/messages?limit=100").json["data"]
        self.threads[thread_id] = {each["id"]: each["content"][0]["text"]["value"] for each in page}

    def create(self) -> None:
        texts = [self.text() for _ in range(self.random.randint(0, 3))]
        body = {"messages": [{"role": "user", "content": text} for text in texts]}
        thread_id = self.client.post("/threads", json=body).json["id"]
        self.read(thread_id)
        assert sorted(self.threads[thread_id].values()) == sorted(texts)

    def append(self) -> None:
        thread_id, text = self.any_thread(), self.text()
        body = {"role": "assistant", "content": text}
        message = self.client.post(f"/threads/{thread_id}/messages", json=body).json
        self.threads[thread_id][message["id"]] = text

    def change_text(self) -> None:
        """As a streamed answer will."""
        thread_id, text = self.any_thread(), self.text()
        if not self.threads[thread_id]:
            return
        message_id = self.random.choice(list(self.threads[thread_id]))
        content = to_json([{"type": "text", "text": {"value": text, "annotations": []}}])
        change = sa.update(Message).where(Message.id == message_id).values(content=content)
        with self.app.app_context():
            database.write(lambda connection: connection.change(change))
        self.threads[thread_id][message_id] = text

    def delete_message(self) -> None:
        thread_id = self.any_thread()
        if self.threads[thread_id]:
            message_id, _ = self.threads[thread_id].popitem()
            self.client.delete(f"/threads/{thread_id}/messages/{message_id}")

    def delete_thread(self) -> None:
        thread_id = self.any_thread()
        assert self.client.delete(f"/threads/{thread_id}").status_code == 200
        del self.threads[thread_id]

    def copy(self) -> None:
        self.read(self.client.post(f"/threads/{self.any_thread()}/copy").json["id"])

    def import_again(self) -> None:
        """Export a thread, delete it or not, and import it in its place."""
        thread_id = self.any_thread()
        with self.app.app_context():
            line = b"".join(exports.export_thread("default", thread_id, exports.as_jsonl))
            if self.random.random() < 0.5:
                self.client.delete(f"/threads/{thread_id}")
            [outcome] = imports.import_lines("default", [line], "replace")
        assert outcome.result in ("imported", "replaced")

    def search(self, word: str) -> set[str]:
        page = self.client.get("/threads", query_string={"q": word, "limit": 100}).json["data"]
        return {thread["id"] for thread in page}

    def expected(self, word: str) -> set[str]:
        """The threads with the word in a message."""
        return {
            thread_id
            for thread_id, texts in self.threads.items()
            if any(folded(word) in folded(text).split() for text in texts.values())
        }


@pytest.mark.parametrize("seed", range(3))
def test_search_finds_what_is_stored_and_nothing_else(
    app: Flask,
    client: FlaskClient,
    flask: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    model = Model(app, client, seed)
    changes: list[Any] = [model.create] * 4 + [model.append] * 4 + [model.change_text] * 4
    changes += [model.copy, model.delete_thread, model.import_again] + [model.delete_message] * 2
    for step in range(STEPS):
        change = model.random.choice(changes) if len(model.threads) > 2 else model.create
        change()
        word = WORDS[step % len(WORDS)]
        found = model.search(model.written(word))
        assert found == model.expected(word), (step, change.__name__, word)
    monkeypatch.setattr(sources, "now", lambda: time.time() + 10)
    flask("prune", "--older-than", "5s")
    assert all(model.search(word) == set() for word in WORDS)


@pytest.mark.parametrize(
    ("text", "q"),
    [
        ("cafe\u0301", "café"),
        ("café", "cafe\u0301"),
        ("σοφός", "ΣΟΦΌΣ"),
        ("σοφο\u0301ς", "σοφός"),
        ("ｔｒａｍ ２８", "tram 28"),
        ("tram 28", "ＴＲＡＭ ２８"),
        ("tram 28", '"ｔｒａｍ ２８"'),
        ("ガイド", "ｶﾞｲﾄﾞ"),
        ("ｶﾞｲﾄﾞ", "ガイド"),
        ("trams", "trams － 👍"),
    ],
)
def test_what_unicode_writes_in_two_ways_is_found_by_both(
    client: FlaskClient, text: str, q: str
) -> None:
    client.post("/threads", json={"messages": [{"role": "user", "content": "another"}]})
    body = {"messages": [{"role": "user", "content": text}]}
    thread = client.post("/threads", json=body).json["id"]
    page = client.get("/threads", query_string={"q": q}).json["data"]
    assert [each["id"] for each in page] == [thread]


def test_a_full_width_quotation_mark_is_no_syntax(client: FlaskClient) -> None:
    assert client.get("/threads", query_string={"q": "a＂b"}).json["data"] == []
