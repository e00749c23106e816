"""The five operations on messages, and their exact refusals."""

import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai import APIStatusError
from sentences import Refusal, no_object, refusal_of, unknown, wrong_prefix

import database

KEYS = ["id", "object", "created_at", "assistant_id", "thread_id", "run_id", "status"]
KEYS += ["incomplete_details", "incomplete_at", "completed_at", "role", "content", "attachments"]
KEYS += ["metadata"]
HELLO = {"role": "user", "content": "Hello"}
UNKNOWN_THREAD = "thread_" + "0" * 24
UNKNOWN_MESSAGE = "msg_" + "0" * 24


@pytest.fixture
def thread_id(client: FlaskClient) -> str:
    return client.post("/v1/threads").json["id"]


@pytest.fixture
def messages(thread_id: str) -> str:
    """The address of a thread's messages."""
    return f"/v1/threads/{thread_id}/messages"


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": []}}


@pytest.fixture(params=["alone", "with-its-thread"])
def create(
    request: pytest.FixtureRequest, client: FlaskClient, thread_id: str
) -> Callable[..., Any]:
    """Create a message in one of two ways; return it as the list shows it."""

    def post(path: str, body: Any) -> Any:
        """Send a body with its keys in their order (the client's own `json` sorts them)."""
        return client.post(path, data=json.dumps(body), content_type="application/json")

    def create(**body: Any) -> Any:
        if request.param == "alone":
            created, thread = post(f"/v1/threads/{thread_id}/messages", body), thread_id
        else:
            created = post("/v1/threads", {"messages": [body]})
            thread = created.json["id"]
        assert created.status_code == 200, created.text
        [message] = client.get(f"/v1/threads/{thread}/messages").json["data"]
        assert message["thread_id"] == thread
        assert message["created_at"] == created.json["created_at"]
        assert request.param != "alone" or list(message.items()) == list(created.json.items())
        one = client.get(f"/v1/threads/{thread}/messages/{message['id']}")
        assert one.text == json_of(message)
        return message

    return create


def json_of(value: Any) -> str:
    """JSON as the API writes it, with the keys in their order."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def test_created_message_has_every_field_in_wire_order(create: Callable[..., Any]) -> None:
    message = create(**HELLO)
    assert list(message) == KEYS
    assert re.fullmatch("msg_[A-Za-z0-9]{24}", message["id"])
    assert message == {
        "id": message["id"],
        "object": "thread.message",
        "created_at": message["created_at"],
        "assistant_id": None,
        "thread_id": message["thread_id"],
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": message["created_at"],
        "incomplete_at": None,
        "role": "user",
        "content": [text("Hello")],
        "attachments": [],
        "metadata": {},
    }


def image(kind: str, **fields: str | None) -> dict[str, Any]:
    return {"type": kind, kind: fields}


def text_part(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


URL = "https://e.x/i.png"
ATTACHMENT = {"file_id": "file-1", "tools": [{"type": "file_search"}]}
CODE_ATTACHMENT = ATTACHMENT | {"tools": [{"type": "code_interpreter"}]}


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"role": "user"}, {"role": "user"}),
        ({"role": "assistant"}, {"role": "assistant", "assistant_id": None, "run_id": None}),
        ({"metadata": None}, {"metadata": {}}),
        ({"metadata": {}}, {"metadata": {}}),
        ({"metadata": {"b": "2", "a": "1"}}, {"metadata": {"b": "2", "a": "1"}}),
        *(
            ({"content": value}, {"content": [text(value)]})
            for value in ("  \n", "héllo 😀\u2028", "x" * 256_000)
        ),
        *(
            ({"content": parts}, {"content": stored})
            for parts, stored in [
                ([text_part("a")], [text("a")]),
                ([text_part("a"), text_part("b")], [text("a"), text("b")]),
                (
                    [image("image_url", detail="low", url=URL), text_part("a")],
                    [image("image_url", url=URL, detail="low"), text("a")],
                ),
                ([image("image_url", url=URL)], [image("image_url", url=URL, detail="auto")]),
                (
                    [image("image_url", url="http://a.example", detail="high")],
                    [image("image_url", url="http://a.example", detail="high")],
                ),
                (
                    [image("image_file", file_id="file-1")],
                    [image("image_file", file_id="file-1", detail="auto")],
                ),
                (
                    [image("image_file", file_id="file-1", detail="low")],
                    [image("image_file", file_id="file-1", detail="low")],
                ),
                (
                    [image("image_url", url=URL, detail=None)],
                    [image("image_url", url=URL, detail="auto")],
                ),
                (
                    [image("image_file", file_id="assistant-1", detail=None)],
                    [image("image_file", file_id="assistant-1", detail="auto")],
                ),
            ]
        ),
        ({"attachments": None}, {"attachments": []}),
        (
            {"attachments": [{"file_id": "assistant-1", "tools": None}]},
            {"attachments": [{"file_id": "assistant-1", "tools": []}]},
        ),
        *(
            ({"attachments": attachments}, {"attachments": attachments})
            for attachments in (
                [],
                [ATTACHMENT],
                [ATTACHMENT | {"tools": []}],
                [ATTACHMENT, CODE_ATTACHMENT],
            )
        ),
    ],
)
def test_field_is_stored_and_read_back(
    create: Callable[..., Any], body: dict[str, Any], stored: dict[str, Any]
) -> None:
    message = create(**HELLO | body)
    assert json_of({key: message[key] for key in stored}) == json_of(stored)


def test_attachment_leaves_the_tool_resources_of_the_thread_alone(
    client: FlaskClient, create: Callable[..., Any]
) -> None:
    message = create(**HELLO, attachments=[ATTACHMENT])
    assert client.get(f"/v1/threads/{message['thread_id']}").json["tool_resources"] == {}


@pytest.mark.parametrize(
    ("change", "metadata"),
    [
        ({"metadata": {"b": "2"}}, {"b": "2"}),
        ({"metadata": {}}, {}),
        ({"metadata": None}, {}),
        ({}, {"a": "1"}),
    ],
)
def test_modify_replaces_the_metadata_and_nothing_else(
    client: FlaskClient, messages: str, change: dict[str, Any], metadata: dict[str, str]
) -> None:
    created = client.post(messages, json=HELLO | {"metadata": {"a": "1"}}).json
    modified = client.post(f"{messages}/{created['id']}", json=change)
    assert modified.status_code == 200
    assert modified.json == created | {"metadata": metadata}
    assert client.get(f"{messages}/{created['id']}").json == modified.json


@pytest.mark.parametrize("key", ["content", "role", "attachments"])
def test_modify_takes_metadata_only(client: FlaskClient, messages: str, key: str) -> None:
    created = client.post(messages, json=HELLO).json
    answer = client.post(f"{messages}/{created['id']}", json={key: HELLO.get(key, [])})
    assert refusal_of(answer) == unknown(key)


def test_deleted_message_is_gone_and_the_others_stay(client: FlaskClient, messages: str) -> None:
    first, second = (client.post(messages, json=HELLO).json for _ in range(2))
    answer = client.delete(f"{messages}/{first['id']}")
    assert answer.status_code == 200
    assert (
        answer.text == f'{{"id":"{first["id"]}","object":"thread.message.deleted","deleted":true}}'
    )
    assert client.get(messages).json["data"] == [second]
    for request in (client.get, client.post, client.delete):
        answer = request(f"{messages}/{first['id']}")
        assert refusal_of(answer, 404) == no_object("message", first["id"])


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_message_of_another_thread_is_not_found(
    client: FlaskClient, messages: str, method: str
) -> None:
    other = client.post("/v1/threads", json={"messages": [HELLO]}).json["id"]
    (message,) = client.get(f"/v1/threads/{other}/messages").json["data"]
    answer = getattr(client, method)(f"{messages}/{message['id']}")
    assert refusal_of(answer, 404) == no_object("message", message["id"])
    assert client.get(f"/v1/threads/{other}/messages/{message['id']}").json == message


METHODS = ("get", "post", "delete")


@pytest.mark.parametrize(
    ("methods", "address", "status", "refusal"),
    [
        (("get", "post"), f"/{UNKNOWN_THREAD}/messages", 404, no_object("thread", UNKNOWN_THREAD)),
        (
            METHODS,
            f"/{UNKNOWN_THREAD}/messages/{UNKNOWN_MESSAGE}",
            404,
            no_object("thread", UNKNOWN_THREAD),
        ),
        *(
            (
                ("get",),
                f"/conv_1/messages{rest}",
                400,
                wrong_prefix("thread_id", "conv_1", "thread"),
            )
            for rest in ("", f"/{UNKNOWN_MESSAGE}")
        ),
        (METHODS, "/{thread}/messages/new", 400, wrong_prefix("message_id", "new", "msg")),
        *(
            (("get",), f"/{{thread}}/messages/{id_}", 404, no_object("message", id_))
            for id_ in (UNKNOWN_MESSAGE, "msg_" + "x" * 61, "msg_'; --", "msg_é")
        ),
    ],
)
def test_unknown_or_malformed_id_is_refused(
    client: FlaskClient,
    thread_id: str,
    methods: tuple[str, ...],
    address: str,
    status: int,
    refusal: Refusal,
) -> None:
    address = "/v1/threads" + address.replace("{thread}", thread_id)
    for method in methods:
        body = {"json": HELLO} if address.endswith("/messages") and method == "post" else {}
        assert refusal_of(getattr(client, method)(address, **body), status) == refusal


def test_addresses_without_v1_are_the_same_messages(client: FlaskClient) -> None:
    thread = client.post("/threads").json["id"]
    message = client.post(f"/threads/{thread}/messages", json=HELLO).json
    assert client.get(f"/v1/threads/{thread}/messages/{message['id']}").json == message
    assert client.get(f"/threads/{thread}/messages").json["data"] == [message]
    assert client.post(f"/threads/{thread}/messages/{message['id']}").json == message
    assert client.delete(f"/threads/{thread}/messages/{message['id']}").status_code == 200


def test_messages_created_with_the_thread_keep_their_order(client: FlaskClient) -> None:
    messages = [{"role": "user", "content": str(number)} for number in range(50)]
    thread = client.post("/v1/threads", json={"messages": messages}).json["id"]
    data = client.get(f"/v1/threads/{thread}/messages?order=asc&limit=100").json["data"]
    texts = [message["content"][0]["text"]["value"] for message in data]
    assert texts == [message["content"] for message in messages]


def test_messages_of_a_deleted_thread_are_gone(
    client: FlaskClient, messages: str, thread_id: str
) -> None:
    client.post(messages, json=HELLO)
    client.delete(f"/v1/threads/{thread_id}")
    assert client.get(messages).status_code == 404
    assert client.get("/v1/threads?q=hello").json["data"] == []


def test_append_and_thread_delete_at_one_moment_leave_no_orphan(
    serve: Callable[..., Any], database_url: str, app: Flask
) -> None:
    """Two clients append while a third deletes: each gets 200 or 404, and no message remains."""
    with serve(WORKERS=2, DATABASE_URL=database_url, DURABILITY="normal") as server:
        statuses: list[int] = []

        def until_refused(work: Callable[[], Any]) -> None:
            try:
                for _ in range(200):
                    work()
            except APIStatusError as error:
                statuses.append(error.status_code)

        with server.sdk() as sdk:
            for _ in range(10):
                thread = sdk.beta.threads.create().id
                start = threading.Barrier(3)

                def append(thread: str = thread, start: threading.Barrier = start) -> None:
                    start.wait()
                    until_refused(
                        lambda: sdk.beta.threads.messages.create(thread, role="user", content="x")
                    )

                appenders = [threading.Thread(target=append) for _ in range(2)]
                for appender in appenders:
                    appender.start()
                start.wait()
                sdk.beta.threads.messages.create(thread, role="user", content="x")
                sdk.beta.threads.delete(thread)
                for appender in appenders:
                    appender.join()
            page = sdk.get("/threads?q=x", cast_to=dict[str, Any])
    assert statuses == [404] * 20
    assert page["data"] == []
    with app.app_context(), database.read() as connection:
        assert connection.value("SELECT count(*) FROM messages") == 0
