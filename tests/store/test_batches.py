"""Large messages: a page, a copy and an export hold few of them in memory at a time."""

import tracemalloc
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

import database
from exchange import exports
from lists import pages as store_pages
from models import Message
from store import batches, copies
from store.objects import to_json

SIZE = 200_000
COUNT = 40
PAGE = 1_600_000
BATCH = 800_000


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of these tests has eight large messages, a batch four."""
    monkeypatch.setattr(store_pages, "MAX_PAGE_BYTES", PAGE)
    monkeypatch.setattr(batches, "MAX_BYTES", BATCH)


@pytest.fixture
def large(app: Flask, client: FlaskClient) -> str:
    """A thread of large messages, as an import may make, with small ones between them."""
    body = {"messages": [{"role": "user", "content": "small"}] * COUNT}
    thread_id = str(client.post("/threads", json=body).json["id"])
    part = {"type": "text", "text": {"value": "x" * SIZE, "annotations": []}}
    with app.app_context():
        values = {"content": to_json([part])}
        change = sa.update(Message).where(Message.seq % 4 > 0).values(values)
        database.write(lambda connection: connection.change(change))
    return thread_id


def pages(client: FlaskClient, thread_id: str, **query: Any) -> list[list[str]]:
    """Page through a thread by `after`, or by `before` towards its beginning."""
    param = "before" if "before" in query else "after"
    found: list[list[str]] = []
    has_more = True
    while has_more:
        address = f"/threads/{thread_id}/messages"
        answer = client.get(address, query_string=query, buffered=True)
        assert len(answer.data) <= store_pages.MAX_PAGE_BYTES or len(answer.json["data"]) == 1
        has_more = answer.json["has_more"]
        found.append([each["id"] for each in answer.json["data"]])
        query[param] = found[-1][-1 if param == "after" else 0]
    return found


@pytest.mark.parametrize("limit", [3, 40, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_end_early_and_have_each_message_once(
    client: FlaskClient, large: str, order: str, limit: int
) -> None:
    forward = pages(client, large, order=order, limit=limit)
    ids = [id_ for page in forward for id_ in page]
    assert len(ids) == len(set(ids)) == COUNT
    assert len(forward) >= 3
    opposite = {"asc": "desc", "desc": "asc"}[order]
    assert [id_ for page in pages(client, large, order=opposite) for id_ in page] == ids[::-1]
    back = pages(client, large, order=order, limit=limit, before=ids[-1])
    assert [id_ for page in reversed(back) for id_ in page] == ids[:-1]


def test_a_message_that_is_larger_than_a_page_is_a_page(
    client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_pages, "MAX_PAGE_BYTES", SIZE // 2)
    found = pages(client, large, order="asc")
    whole = pages(client, large, order="asc", limit=7)
    assert list(chain.from_iterable(found)) == list(chain.from_iterable(whole))
    assert {len(page) for page in found} == {1}


def test_a_page_of_small_messages_is_full(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    body = {"messages": [{"role": "user", "content": "💾" * 9_000}] * 100}
    thread_id = client.post("/threads", json=body).json["id"]
    assert [len(page) for page in pages(client, thread_id, limit=100)] == [100]


def export(app: Flask, thread_id: str) -> bytes:
    with app.app_context():
        return b"".join(exports.export_thread("default", thread_id, exports.as_jsonl))


def read(app: Flask, thread_id: str) -> None:
    with app.app_context():
        for piece in exports.export_thread("default", thread_id, exports.as_jsonl):
            assert piece


def copy(app: Flask, thread_id: str) -> None:
    assert app.test_client().post(f"/threads/{thread_id}/copy").status_code == 200


@pytest.mark.parametrize("use", [read, copy])
def test_a_batch_is_bounded_by_its_bytes(
    app: Flask, large: str, use: Callable[[Flask, str], None]
) -> None:
    use(app, large)
    tracemalloc.start()
    use(app, large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * BATCH < COUNT * SIZE * 0.75


def test_a_copy_in_batches_of_bytes_is_whole(
    app: Flask, client: FlaskClient, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(copies.time, "sleep", pauses.append)
    thread = client.post(f"/threads/{large}/copy").json
    assert len(pauses) >= 4
    one, two = (
        [len(each) for each in export(app, id_).split(b"msg_")] for id_ in (large, thread["id"])
    )
    assert one == two


def test_a_page_of_the_browser_holds_no_more_than_its_bytes(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_pages, "_AT_ONCE_BYTES", PAGE * 3 // 4)
    body = {"messages": [{"role": "user", "content": "x" * 11_000 + "💾"}] * 1_000}
    path = f"/admin/threads/{client.post('/threads', json=body).json['id']}.json"
    client.get(path, query_string={"limit": 2}, buffered=True)
    tracemalloc.start()
    answer = client.get(path, query_string={"limit": 1_000}, buffered=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.json["messages"]["has_more"]
    assert peak < 7 * PAGE
