"""Idempotency-Key: a POST that is sent again is done once and answered the same."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from conftest import Server
from flask import Flask
from flask.testing import FlaskClient
from sentences import refusal_of
from werkzeug.test import TestResponse

import database
from database import sqlite
from exchange import exports, imports
from rules.ids_and_clock import sources
from store import deletions, stored_answers

DAY = 86_400
ROUTES = {
    "create-thread": ("/threads", {"metadata": {"a": "1"}}),
    "modify-thread": ("/threads/{thread}", {"metadata": {"a": "1"}}),
    "copy-thread": ("/threads/{thread}/copy", {"metadata": {"a": "1"}}),
    "create-message": ("/threads/{thread}/messages", {"role": "user", "content": "once"}),
    "modify-message": ("/threads/{thread}/messages/{message}", {"metadata": {"a": "1"}}),
}
EVERY_ROUTE = pytest.mark.parametrize(("path", "body"), ROUTES.values(), ids=ROUTES.keys())


def post(client: FlaskClient, path: str, body: Any, key: str = "key") -> TestResponse:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def is_replayed(answer: TestResponse) -> bool:
    return answer.headers.get("Idempotent-Replayed") == "true"


def stored(client: FlaskClient) -> list[Any]:
    threads = client.get("/threads?limit=100").json["data"]
    return [[each, client.get(f"/threads/{each['id']}/messages").json] for each in threads]


@pytest.fixture
def address(client: FlaskClient) -> Callable[[str], str]:
    """Put a stored thread and message into a path."""
    messages = [{"role": "user", "content": "hello"}]
    thread = client.post("/threads", json={"messages": messages}).json["id"]
    message = client.get(f"/threads/{thread}/messages").json["data"][0]["id"]
    return lambda path: path.format(thread=thread, message=message)


@EVERY_ROUTE
def test_a_post_sent_again_is_answered_the_same_and_changes_nothing(
    client: FlaskClient, address: Callable[[str], str], path: str, body: Any
) -> None:
    first = post(client, address(path), body)
    before = stored(client)
    again = post(client, address(path), body)
    assert (again.status_code, again.data) == (first.status_code, first.data) == (200, first.data)
    assert again.content_type == first.content_type
    assert (is_replayed(first), is_replayed(again)) == (False, True)
    assert stored(client) == before


@EVERY_ROUTE
def test_a_key_with_another_body_is_422_and_changes_nothing(
    client: FlaskClient, address: Callable[[str], str], path: str, body: Any
) -> None:
    post(client, address(path), body)
    before = stored(client)
    answer = post(client, address(path), body | {"metadata": {"a": "2"}})
    assert answer.status_code == 422
    assert answer.json["error"]["code"] == "idempotency_key_reused"
    assert stored(client) == before


@EVERY_ROUTE
def test_without_a_key_each_post_is_its_own(
    client: FlaskClient, address: Callable[[str], str], path: str, body: Any
) -> None:
    answers = [client.post(address(path), json=body) for _ in range(2)]
    assert not any(map(is_replayed, answers))
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_key_is_bound_to_its_address(client: FlaskClient, address: Callable[[str], str]) -> None:
    body = {"metadata": {"a": "1"}}
    assert post(client, address("/threads/{thread}"), body).status_code == 200
    assert post(client, address("/threads/{thread}/copy"), body).status_code == 422


@pytest.mark.parametrize("paths", [("", "/v1"), ("/v1", "")], ids=["root-first", "v1-first"])
def test_an_address_with_and_without_v1_is_one(client: FlaskClient, paths: tuple[str, str]) -> None:
    first, again = (post(client, f"{path}/threads", {}) for path in paths)
    assert again.data == first.data
    assert is_replayed(again)


def test_other_keys_make_other_objects(client: FlaskClient) -> None:
    ids = {post(client, "/threads", {}, key).json["id"] for key in ("a", "b", "A", "aa")}
    assert len(ids) == 4


@pytest.mark.parametrize(
    "key", ["x", "x" * 255, "a key, with: ~!", "0"], ids=["1", "255", "any", "0"]
)
def test_a_key_of_1_to_255_printable_characters_is_good(client: FlaskClient, key: str) -> None:
    post(client, "/threads", {}, key)
    assert is_replayed(post(client, "/threads", {}, key))


@pytest.mark.parametrize("key", ["", "x" * 256, "\xe9", "a\tb"], ids=["0", "256", "latin", "tab"])
def test_a_malformed_key_is_400_and_stores_nothing(client: FlaskClient, key: str) -> None:
    answer = post(client, "/threads", {}, key)
    assert answer.status_code == 400
    assert answer.json["error"]["code"] == "invalid_idempotency_key"
    assert stored(client) == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_other_methods_take_no_notice_of_a_key(
    client: FlaskClient, address: Callable[[str], str], method: str
) -> None:
    key = {"Idempotency-Key": "é" * 300}
    assert client.open(address("/threads/{thread}"), method=method, headers=key).status_code == 200


# what is not stored


@pytest.mark.parametrize("body", [{"metadata": 1}, {"role": "user"}], ids=["type", "unknown"])
def test_a_refusal_is_not_stored(client: FlaskClient, body: Any) -> None:
    assert post(client, "/threads", body).status_code == 400
    assert not is_replayed(answer := post(client, "/threads", {}))
    assert answer.status_code == 200


def test_a_404_of_the_transaction_is_not_stored(
    client: FlaskClient, address: Callable[[str], str]
) -> None:
    assert post(client, "/threads/thread_missing/copy", {}).status_code == 404
    assert post(client, address("/threads/{thread}/copy"), {}).status_code == 200


@pytest.mark.sqlite_only("another writer keeps none waiting on PostgreSQL")
def test_a_503_is_not_stored(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "QUEUE_SECONDS", 0.05)
    with ThreadPoolExecutor() as pool, app.app_context():
        busy = database.write(lambda _: pool.submit(post, client, "/threads", {}).result())
    assert busy.status_code == 503
    assert not is_replayed(answer := post(client, "/threads", {}))
    assert answer.status_code == 200


def bodies_of(app: Flask) -> str:
    with app.app_context(), database.read() as connection:
        return "".join(row.body for row in connection.rows("SELECT body FROM idempotency"))


@pytest.mark.parametrize("deleted", ["message", "thread", "replaced thread"])
def test_the_answer_about_what_is_deleted_is_gone_with_it(
    app: Flask, client: FlaskClient, deleted: str
) -> None:
    thread = f"/threads/{client.post('/threads').json['id']}"
    secret = {"role": "user", "content": "secret"}
    message = post(client, f"{thread}/messages", secret).json["id"]
    other = client.post(f"{thread}/messages", json=secret, headers={"Idempotency-Key": "other"})
    if deleted == "message":
        client.delete(f"{thread}/messages/{message}")
        assert bodies_of(app) == other.text
    elif deleted == "thread":
        client.delete(thread)
    else:
        with app.app_context():
            id_ = thread.removeprefix("/threads/")
            line = b"".join(exports.export_thread("default", id_, exports.as_jsonl))
            list(imports.import_lines("default", [line], "replace"))
    assert ("secret" in bodies_of(app)) == (deleted == "message")
    answer = post(client, f"{thread}/messages", secret)
    sentence = "The object that this Idempotency-Key made or changed was deleted since."
    assert refusal_of(answer, 404) == (sentence, None, "object_deleted")


def test_an_answer_that_is_too_old_goes_with_the_next_deletion_and_the_next_worker(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_any() -> None:
        client.delete(f"/threads/{client.post('/threads').json['id']}")

    def delete_left() -> None:
        with app.app_context():
            deletions.delete_left()

    for clean_up in (delete_any, delete_left):
        with monkeypatch.context() as patch:
            patch.setattr(sources, "now", lambda: time.time() - stored_answers.KEPT_SECONDS - 1)
            post(client, "/threads", {})
        assert bodies_of(app)
        clean_up()
        assert not bodies_of(app)


def test_a_copy_sent_again_is_answered_after_its_original_is_deleted(
    client: FlaskClient, address: Callable[[str], str]
) -> None:
    path = address("/threads/{thread}/copy")
    first = post(client, path, {})
    client.delete(address("/threads/{thread}"))
    again = post(client, path, {})
    assert (again.status_code, again.data, is_replayed(again)) == (200, first.data, True)
    assert refusal_of(post(client, path, {"metadata": {}}), 422)[2] == "idempotency_key_reused"
    client.delete(f"/threads/{first.json['id']}")
    assert refusal_of(post(client, path, {}), 404)[2] == "object_deleted"


@pytest.fixture
def clock(client_with: Callable[..., FlaskClient]) -> tuple[FlaskClient, Callable[..., None]]:
    """A client of an app with the mock controls, and a function that moves its clock."""
    client = client_with(MOCK="on")

    def move(**to: int) -> None:
        assert client.put("/_mock/clock", json=to).status_code == 200

    return client, move


@pytest.mark.parametrize(("seconds", "replayed"), [(DAY - 1, True), (DAY, False)])
def test_a_key_is_kept_for_24_hours(
    clock: tuple[FlaskClient, Callable[..., None]], seconds: int, replayed: bool
) -> None:
    client, move = clock
    move(frozen_at=1_000_000_000)
    post(client, "/threads", {})
    move(frozen_at=1_000_000_000 + seconds)
    assert is_replayed(post(client, "/threads", {})) is replayed
    assert is_replayed(post(client, "/threads", {}))


@pytest.mark.parametrize(("seconds", "status"), [(DAY - 1, 200), (DAY, 404)])
def test_a_copy_of_a_deleted_thread_is_answered_for_24_hours(
    clock: tuple[FlaskClient, Callable[..., None]], seconds: int, status: int
) -> None:
    client, move = clock
    move(frozen_at=1_000_000_000)
    thread = f"/threads/{client.post('/threads').json['id']}"
    post(client, f"{thread}/copy", {})
    client.delete(thread)
    move(frozen_at=1_000_000_000 + seconds)
    assert post(client, f"{thread}/copy", {}).status_code == status


# at once, and over a bad line


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def test_equal_posts_at_once_and_later_make_one_object(
    server: Server, pool: ThreadPoolExecutor
) -> None:
    together = threading.Barrier(16)
    count = len(threads_of(server, "at-once"))

    def create(wait: bool) -> tuple[int, bytes, str | None]:
        if wait:
            together.wait(10)
        body = {"metadata": {"of": "at-once"}}
        answer = server.call("POST", "/v1/threads", body, Idempotency_Key="at-once")
        return answer.status, answer.body, answer.headers["Idempotent-Replayed"]

    answers = [*pool.map(create, [True] * 16), *pool.map(create, [False] * 16)]
    assert {answer[:2] for answer in answers} == {(200, answers[0][1])}
    assert sorted(str(answer[2]) for answer in answers) == ["None", *["true"] * 31]
    assert len(threads_of(server, "at-once")) == count + 1
    other = server.call("POST", "/v1/threads", {}, Idempotency_Key="at-once")
    assert other.status == 422


def threads_of(server: Server, name: str) -> list[str]:
    with server.sdk() as sdk:
        page: Any = sdk.get("/threads", cast_to=object, options={"params": {"metadata[of]": name}})
    return [thread["id"] for thread in page["data"]]


class _Cutting(socketserver.BaseRequestHandler):
    """Passes bytes on both ways, but cuts the line instead of the first answer."""

    def handle(self) -> None:
        line: Any = self.server
        with socket.create_connection(line.target) as upstream:
            threading.Thread(target=self._pass_on, args=(upstream,), daemon=True).start()
            while data := upstream.recv(65536):
                if not line.has_cut:
                    line.has_cut = True
                    return
                self.request.sendall(data)

    def _pass_on(self, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := self.request.recv(65536):
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)


class _Line(socketserver.ThreadingTCPServer):
    daemon_threads = True
    has_cut = False
    target: tuple[str, int]


@contextmanager
def bad_line(server: Server) -> Iterator[tuple[str, _Line]]:
    """A proxy that loses the first answer; yield the base URL of the server behind it."""
    with _Line(("127.0.0.1", 0), _Cutting) as line:
        line.target = server.address
        threading.Thread(target=line.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{line.server_address[1]}/v1", line
        finally:
            line.shutdown()


@pytest.mark.parametrize(
    ("name", "headers", "objects"),
    [("no-key", {}, 2), ("one-key", {"Idempotency-Key": "bad-line"}, 1)],
    ids=["without", "with"],
)
def test_an_answer_lost_after_the_commit_doubles_the_object_only_without_a_key(
    server: Server, name: str, headers: dict[str, str], objects: int
) -> None:
    with bad_line(server) as (url, line), server.sdk(max_retries=2) as sdk:
        cut = sdk.with_options(base_url=url)
        thread = cut.beta.threads.create(metadata={"of": name}, extra_headers=headers)
        assert line.has_cut
    ids = threads_of(server, name)
    assert len(ids) == objects
    assert thread.id in ids
