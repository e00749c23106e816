"""The four operations on threads, and what they leave in the database."""

import re
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sentences import no_object, refusal_of, wrong_prefix

import database
from models import Message, Thread

HELLO = {"role": "user", "content": "hello"}
RESOURCES = {
    "code_interpreter": {"file_ids": ["file-a", "file-b"]},
    "file_search": {"vector_store_ids": ["vs_1"]},
}


def create(client: FlaskClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/threads", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json


def stored_count(app: Flask, table: type[Thread] | type[Message]) -> int:
    with app.app_context(), database.read() as connection:
        return connection.value(sa.select(sa.func.count()).select_from(table))


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_every_operation_answers_with_and_without_v1(client: FlaskClient, prefix: str) -> None:
    thread = client.post(f"{prefix}/threads").json
    path = f"{prefix}/threads/{thread['id']}"
    assert client.get(path).json == client.get(f"/v1/threads/{thread['id']}").json == thread
    assert client.post(path, json={"metadata": {"a": "b"}}).json["metadata"] == {"a": "b"}
    assert client.delete(path).json["deleted"] is True


# create


@pytest.mark.parametrize(
    "request_options",
    [
        pytest.param({}, id="no-body"),
        pytest.param({"data": b"", "content_type": "application/json"}, id="empty-json"),
        pytest.param({"data": b"", "content_type": "text/plain"}, id="empty-of-any-type"),
        pytest.param({"json": {}}, id="empty-object"),
        pytest.param({"json": {"messages": []}}, id="no-messages"),
        pytest.param({"json": {"metadata": None, "tool_resources": None}}, id="nulls"),
        pytest.param({"json": {"metadata": {}, "tool_resources": {}}}, id="empty-maps"),
    ],
)
def test_create_with_nothing_given_is_an_empty_thread(
    client: FlaskClient, request_options: dict[str, Any]
) -> None:
    answer = client.post("/v1/threads", **request_options)
    assert answer.status_code == 200
    assert list(answer.json) == ["id", "object", "created_at", "metadata", "tool_resources"]
    assert answer.json["object"] == "thread"
    assert answer.json["metadata"] == answer.json["tool_resources"] == {}
    assert re.fullmatch("thread_[A-Za-z0-9]{24}", answer.json["id"])
    assert type(answer.json["created_at"]) is int
    assert create(client)["id"] != answer.json["id"]


def test_metadata_comes_back_in_the_order_given(client: FlaskClient) -> None:
    data = b'{"metadata":{"z":"1","a":"","":"empty key","m":"2"}}'
    answer = client.post("/v1/threads", data=data, content_type="application/json")
    assert list(answer.json["metadata"]) == ["z", "a", "", "m"]


@pytest.mark.parametrize(
    "resources",
    [
        {"code_interpreter": {"file_ids": ["file-a"]}},
        {"file_search": {"vector_store_ids": ["vs_1"]}},
        {"code_interpreter": {"file_ids": ["string"]}},
        {"code_interpreter": {"file_ids": []}},
        {"code_interpreter": {}},
        {"file_search": {}},
        RESOURCES,
    ],
    ids=str,
)
def test_tool_resources_are_echoed_as_given(client: FlaskClient, resources: dict[str, Any]) -> None:
    assert create(client, tool_resources=resources)["tool_resources"] == resources


@pytest.mark.parametrize(
    "vector_store",
    [
        {},
        {"file_ids": ["file-a"], "metadata": {"k": "v"}},
        {"chunking_strategy": {"type": "auto"}},
        {
            "chunking_strategy": {
                "type": "static",
                "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
            }
        },
    ],
    ids=str,
)
def test_a_vector_store_becomes_one_minted_id(
    client: FlaskClient, vector_store: dict[str, Any]
) -> None:
    thread = create(client, tool_resources={"file_search": {"vector_stores": [vector_store]}})
    assert list(thread["tool_resources"]["file_search"]) == ["vector_store_ids"]
    (minted,) = thread["tool_resources"]["file_search"]["vector_store_ids"]
    assert re.fullmatch("vs_[0-9a-f]{32}", minted)


def test_no_vector_stores_mint_no_ids(client: FlaskClient) -> None:
    thread = create(client, tool_resources={"file_search": {"vector_stores": []}})
    assert thread["tool_resources"] == {"file_search": {"vector_store_ids": []}}


def test_given_vector_store_ids_win_over_vector_stores(client: FlaskClient) -> None:
    search = {"vector_store_ids": ["string"], "vector_stores": [{"file_ids": ["string"]}]}
    thread = create(client, tool_resources={"file_search": search})
    assert thread["tool_resources"] == {"file_search": {"vector_store_ids": ["string"]}}


# messages of a create


REFUSE_MESSAGES = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, ''); END",
    "postgres": "ALTER TABLE messages ADD CONSTRAINT refuse CHECK (false)",
}


def test_a_thread_and_its_messages_are_stored_together_or_not_at_all(
    client: FlaskClient, app: Flask, engine: str
) -> None:
    with app.app_context():
        database.write(lambda connection: connection.change(REFUSE_MESSAGES[engine]))
    assert client.post("/v1/threads", json={"messages": [HELLO]}).status_code == 500
    assert stored_count(app, Thread) == 0


def test_a_refused_create_stores_nothing(client: FlaskClient, app: Flask) -> None:
    body = {"messages": [HELLO, {"role": "human", "content": "x"}]}
    assert client.post("/v1/threads", json=body).status_code == 400
    assert stored_count(app, Thread) == stored_count(app, Message) == 0


# retrieve


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {"k": "v", "ключ": "💾"}, "tool_resources": RESOURCES},
        {"tool_resources": {"file_search": {"vector_stores": [{}]}}, "messages": [HELLO]},
    ],
    ids=["empty", "full", "minted"],
)
def test_retrieve_equals_create_byte_for_byte(client: FlaskClient, body: dict[str, Any]) -> None:
    created = client.post("/v1/threads", json=body)
    assert client.get(f"/v1/threads/{created.json['id']}").data == created.data


def test_head_is_retrieve_without_the_body(client: FlaskClient) -> None:
    path = f"/v1/threads/{create(client)['id']}"
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_head_of_an_unknown_thread_is_404(client: FlaskClient) -> None:
    answer = client.head("/v1/threads/thread_unknown")
    assert (answer.status_code, answer.data) == (404, b"")


# modify


BEFORE = {"metadata": {"old": "1", "kept": "2"}, "tool_resources": RESOURCES}
SEARCH_ONLY = {"file_search": {"vector_store_ids": ["vs_2"]}}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({}, {}),
        ({"metadata": {"new": "3"}}, {"metadata": {"new": "3"}}),
        ({"metadata": {}}, {"metadata": {}}),
        ({"metadata": None}, {"metadata": {}}),
        ({"tool_resources": SEARCH_ONLY}, {"tool_resources": SEARCH_ONLY}),
        ({"tool_resources": {}}, {"tool_resources": {}}),
        ({"tool_resources": None}, {"tool_resources": {}}),
        (
            {"metadata": {"new": "3"}, "tool_resources": SEARCH_ONLY},
            {"metadata": {"new": "3"}, "tool_resources": SEARCH_ONLY},
        ),
    ],
    ids=str,
)
def test_modify_replaces_what_is_given_and_leaves_the_rest(
    client: FlaskClient, change: dict[str, Any], changed: dict[str, Any]
) -> None:
    thread = create(client, **BEFORE)
    assert client.post(f"/v1/threads/{thread['id']}", json=change).json == thread | changed


def test_modify_with_no_body_answers_the_thread_as_it_is(client: FlaskClient) -> None:
    thread = create(client, **BEFORE)
    assert client.post(f"/v1/threads/{thread['id']}").json == thread


def test_retrieve_equals_modify_byte_for_byte(client: FlaskClient) -> None:
    path = f"/v1/threads/{create(client)['id']}"
    modified = client.post(path, json={"metadata": {"k": "ü"}, "tool_resources": RESOURCES})
    assert client.get(path).data == modified.data


def test_modify_leaves_other_threads_alone(client: FlaskClient) -> None:
    other = create(client, **BEFORE)
    client.post(f"/v1/threads/{create(client)['id']}", json={"metadata": {"new": "3"}})
    assert client.get(f"/v1/threads/{other['id']}").json == other


def test_a_refused_modify_changes_nothing(client: FlaskClient) -> None:
    thread = create(client, **BEFORE)
    path = f"/v1/threads/{thread['id']}"
    change = {"metadata": {"new": "3"}, "tool_resources": 1}
    assert client.post(path, json=change).status_code == 400
    assert client.get(path).json == thread


# delete


def test_delete_answers_the_deletion_object(client: FlaskClient) -> None:
    thread_id = create(client)["id"]
    answer = client.delete(f"/v1/threads/{thread_id}")
    assert answer.status_code == 200
    deleted = {"id": thread_id, "object": "thread.deleted", "deleted": True}
    assert list(answer.json.items()) == list(deleted.items())


def test_delete_never_reads_a_body(client: FlaskClient) -> None:
    path = f"/v1/threads/{create(client)['id']}"
    answer = client.delete(path, data=b"{not json", content_type="application/json")
    assert answer.status_code == 200


def test_delete_removes_the_messages_of_its_thread_only(client: FlaskClient, app: Flask) -> None:
    doomed, other = create(client, messages=[HELLO] * 3), create(client, messages=[HELLO])
    client.delete(f"/v1/threads/{doomed['id']}")
    assert stored_count(app, Message) == 1
    assert len(client.get(f"/v1/threads/{other['id']}/messages").json["data"]) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_deleted_thread_is_404(client: FlaskClient, method: str) -> None:
    thread_id = create(client)["id"]
    client.delete(f"/v1/threads/{thread_id}")
    answer = client.open(f"/v1/threads/{thread_id}", method=method)
    assert refusal_of(answer, 404) == no_object("thread", thread_id)


# addresses


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("new", "new"),
        ("undefined", "undefined"),
        ("1234", "1234"),
        ("run_abc", "run_abc"),
        ("Thread_abc", "Thread_abc"),
        ("%20thread_abc", " thread_abc"),
        ("%00", "\ufffd"),
        ("%FF", "\ufffd"),
        ("%ED%A0%80", "\ufffd\ufffd\ufffd"),
        ("%D0%B6", "ж"),
        ("..", ".."),
        pytest.param("x" * 4000, "x" * 200 + "...", id="4000-characters"),
    ],
)
def test_an_id_with_another_prefix_is_400(
    client: FlaskClient, method: str, path: str, id_: str
) -> None:
    answer = client.open(f"/v1/threads/{path}", method=method)
    assert refusal_of(answer) == wrong_prefix("thread_id", id_, "thread")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("thread", "thread"),
        ("thread_unknown", "thread_unknown"),
        ("thread_%00", "thread_\0"),
        ("thread_%FF", "thread_\ufffd"),
        ("thread_%0A", "thread_\n"),
        ("thread_%D0%B6%F0%9F%92%BE", "thread_ж💾"),
        ("thread_%D9%A3", "thread_٣"),
        ("thread_'%22", "thread_'\""),
        ("thread_a%3Fb", "thread_a?b"),
        ("thread_%25", "thread_%"),
        pytest.param("thread" + "x" * 58, "thread" + "x" * 58, id="64-characters"),
        pytest.param("thread" + "x" * 59, "thread" + "x" * 59, id="65-characters"),
        pytest.param("thread" + "x" * 3994, "thread" + "x" * 194 + "...", id="4000-characters"),
    ],
)
def test_an_unknown_or_malformed_id_is_404(
    client: FlaskClient, method: str, path: str, id_: str
) -> None:
    answer = client.open(f"/v1/threads/{path}", method=method)
    assert refusal_of(answer, 404) == no_object("thread", id_)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/thread",
        "/threads/a%2Fb",
        "/threads/a%2Fb%2F",
        "/threads/a/b",
    ],
)
def test_an_address_that_is_not_served_is_an_invalid_url(
    client: FlaskClient, method: str, path: str
) -> None:
    answer = client.open(f"/v1{path}", method=method)
    decoded = path.replace("%2F", "/").rstrip("/")
    assert refusal_of(answer, 404) == (f"Invalid URL ({method} /v1{decoded})", None, None)


def test_modify_refuses_the_body_before_it_looks_for_the_thread(client: FlaskClient) -> None:
    answer = client.post("/v1/threads/thread_unknown", json={"metadata": 1})
    assert answer.status_code == 400


def test_modify_refuses_the_id_before_it_reads_the_body(client: FlaskClient) -> None:
    answer = client.post("/v1/threads/new", data=b"{", content_type="application/json")
    assert answer.json["error"]["param"] == "thread_id"
