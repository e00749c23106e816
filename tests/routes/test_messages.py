"""The five operations on messages, and their exact refusals."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai import APIStatusError

import database

KEYS = ["id", "object", "created_at", "assistant_id", "thread_id", "run_id", "status"]
KEYS += ["incomplete_details", "completed_at", "incomplete_at", "role", "content", "attachments"]
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


def refusal(answer: Any) -> tuple[int, str | None, str | None, str]:
    error = answer.json["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "invalid_request_error"
    return answer.status_code, error["param"], error["code"], error["message"]


def test_created_message_has_every_field_in_wire_order(
    client: FlaskClient, messages: str, thread_id: str
) -> None:
    message = client.post(messages, json=HELLO).json
    assert list(message) == KEYS
    assert re.fullmatch("msg_[A-Za-z0-9]{24}", message["id"])
    assert message == {
        "id": message["id"],
        "object": "thread.message",
        "created_at": message["created_at"],
        "assistant_id": None,
        "thread_id": thread_id,
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


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"role": "assistant"}, {"role": "assistant", "assistant_id": None, "run_id": None}),
        ({"content": "  \n"}, {"content": [text("  \n")]}),
        ({"content": "héllo 😀\u2028"}, {"content": [text("héllo 😀\u2028")]}),
        ({"content": "x" * 256_000}, {"content": [text("x" * 256_000)]}),
        ({"content": [{"type": "text", "text": "a"}]}, {"content": [text("a")]}),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"content": [text("a"), text("b")]},
        ),
        (
            {"content": [{"type": "image_url", "image_url": {"url": "https://e.x/i.png"}}]},
            {
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://e.x/i.png", "detail": "auto"},
                    }
                ]
            },
        ),
        (
            {"content": [{"type": "image_file", "image_file": {"file_id": "file-1"}}]},
            {
                "content": [
                    {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}}
                ]
            },
        ),
        (
            {
                "content": [
                    {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}}
                ]
            },
            {
                "content": [
                    {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}}
                ]
            },
        ),
        ({"attachments": None}, {"attachments": []}),
        ({"attachments": []}, {"attachments": []}),
        (
            {
                "attachments": [
                    {"file_id": "file-1", "tools": [{"type": "file_search"}]},
                    {"file_id": "file-1", "tools": [{"type": "code_interpreter"}]},
                ]
            },
            {
                "attachments": [
                    {"file_id": "file-1", "tools": [{"type": "file_search"}]},
                    {"file_id": "file-1", "tools": [{"type": "code_interpreter"}]},
                ]
            },
        ),
        ({"metadata": None}, {"metadata": {}}),
        ({"metadata": {"b": "2", "a": "1"}}, {"metadata": {"b": "2", "a": "1"}}),
    ],
)
def test_field_is_kept_and_read_back(
    client: FlaskClient, messages: str, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    created = client.post(messages, json=HELLO | given)
    assert created.status_code == 200
    assert created.json.items() >= kept.items()
    assert client.get(f"{messages}/{created.json['id']}").json == created.json
    assert client.get(messages).json["data"] == [created.json]


def test_attachment_leaves_the_tool_resources_of_the_thread_alone(
    client: FlaskClient, messages: str, thread_id: str
) -> None:
    attached = [{"file_id": "file-1", "tools": [{"type": "file_search"}]}]
    client.post(messages, json=HELLO | {"attachments": attached})
    assert client.get(f"/v1/threads/{thread_id}").json["tool_resources"] == {}


def _attached(**changed: Any) -> dict[str, Any]:
    return {"attachments": [{"file_id": "file-1", "tools": []} | changed]}


@pytest.mark.parametrize(
    ("given", "param", "code", "message"),
    [
        ({}, "role", "missing_required_parameter", "Missing required parameter: 'role'."),
        (
            {"role": "user"},
            "content",
            "missing_required_parameter",
            "Missing required parameter: 'content'.",
        ),
        (
            HELLO | {"role": "system"},
            "role",
            "invalid_value",
            "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
        ),
        (
            HELLO | {"role": 1},
            "role",
            "invalid_type",
            "Invalid type for 'role': expected a string, but got an integer instead.",
        ),
        (HELLO | {"content": ""}, "content", None, "Message content must be non-empty."),
        (
            HELLO | {"content": []},
            "content",
            "empty_array",
            "Invalid 'content': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
        ),
        *(
            (
                HELLO | {"content": value},
                "content",
                "invalid_type",
                "Invalid type for 'content': expected one of a string or array of objects, "
                f"but got {kind} instead.",
            )
            for value, kind in [
                (1, "an integer"),
                (1.5, "a decimal number"),
                (True, "a boolean"),
                (None, "null"),
                ({}, "an object"),
            ]
        ),
        (
            HELLO | {"content": "x" * 256_001},
            "content",
            "string_above_max_length",
            "Invalid 'content': string too long. Expected a string with maximum length 256000, "
            "but got a string with length 256001 instead.",
        ),
        (
            HELLO | {"content": [{"type": "text", "text": "x" * 256_001}]},
            "content[0].text",
            "string_above_max_length",
            "Invalid 'content[0].text': string too long. Expected a string with maximum length "
            "256000, but got a string with length 256001 instead.",
        ),
        (
            HELLO | {"content": ["Hello"]},
            "content[0]",
            "invalid_type",
            "Invalid type for 'content[0]': expected an object, but got a string instead.",
        ),
        (
            HELLO | {"content": [{"type": "audio"}]},
            "content[0].type",
            "invalid_value",
            "Invalid value: 'audio'. Supported values are: 'text', 'image_file', and 'image_url'.",
        ),
        (
            HELLO | {"content": [{"text": "a"}]},
            "content[0].type",
            "missing_required_parameter",
            "Missing required parameter: 'content[0].type'.",
        ),
        (
            HELLO | {"content": [{"type": "text", "text": ""}]},
            "content[0].text",
            "empty_string",
            "Invalid 'content[0].text': empty string. Expected a string with minimum length 1, "
            "but got an empty string instead.",
        ),
        (
            HELLO | {"content": [{"type": "text", "text": {"value": "a"}}]},
            "content[0].text",
            "invalid_type",
            "Invalid type for 'content[0].text': expected a string, but got an object instead.",
        ),
        (
            HELLO | {"content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]},
            "content[0].image_url.url",
            "invalid_value",
            "Invalid 'content[0].image_url.url'. Expected a valid URL, "
            "but got a value with an invalid format.",
        ),
        (
            HELLO | {"attachments": [{"file_id": "file-1", "tools": []}] * 11},
            "attachments",
            "array_above_max_length",
            "Invalid 'attachments': array too long. Expected an array with maximum length 10, "
            "but got an array with length 11 instead.",
        ),
        (
            HELLO | {"attachments": [{"file_id": "file-1"}]},
            "attachments[0].tools",
            "missing_required_parameter",
            "Missing required parameter: 'attachments[0].tools'.",
        ),
        (
            HELLO | _attached(file_id="31abac64"),
            "attachments[0].file_id",
            "invalid_value",
            "Invalid 'attachments[0].file_id': '31abac64'. Expected an ID that begins with 'file'.",
        ),
        (
            HELLO | _attached(tools=[{"type": "function"}]),
            "attachments[0].tools[0].type",
            "invalid_value",
            "Invalid value: 'function'. Supported values are: 'code_interpreter' and "
            "'file_search'.",
        ),
        (
            HELLO | _attached(tools=[{"type": "file_search", "file_search": {}}]),
            "attachments[0].tools[0].file_search",
            "unknown_parameter",
            "Unknown parameter: 'attachments[0].tools[0].file_search'.",
        ),
        (
            HELLO | {"file_ids": []},
            "file_ids",
            "unknown_parameter",
            "Unknown parameter: 'file_ids'.",
        ),
        (
            HELLO | {"metadata": {"k": 1}},
            "metadata.k",
            "invalid_type",
            "Invalid type for 'metadata.k': expected a string, but got an integer instead.",
        ),
    ],
)
def test_refused_message_is_not_stored(
    client: FlaskClient,
    messages: str,
    given: dict[str, Any],
    param: str,
    code: str | None,
    message: str,
) -> None:
    assert refusal(client.post(messages, json=given)) == (400, param, code, message)
    assert client.get(messages).json["data"] == []


@pytest.mark.parametrize(
    ("given", "metadata"),
    [
        ({"metadata": {"b": "2"}}, {"b": "2"}),
        ({"metadata": {}}, {}),
        ({"metadata": None}, {}),
        ({}, {"a": "1"}),
    ],
)
def test_modify_replaces_the_metadata_and_nothing_else(
    client: FlaskClient, messages: str, given: dict[str, Any], metadata: dict[str, str]
) -> None:
    created = client.post(messages, json=HELLO | {"metadata": {"a": "1"}}).json
    modified = client.post(f"{messages}/{created['id']}", json=given)
    assert modified.status_code == 200
    assert list(modified.json) == KEYS
    assert modified.json == created | {"metadata": metadata}
    assert client.get(f"{messages}/{created['id']}").json == modified.json


@pytest.mark.parametrize("key", ["content", "role", "attachments"])
def test_modify_takes_metadata_only(client: FlaskClient, messages: str, key: str) -> None:
    created = client.post(messages, json=HELLO).json
    answer = client.post(f"{messages}/{created['id']}", json={key: HELLO.get(key, [])})
    assert refusal(answer) == (400, key, "unknown_parameter", f"Unknown parameter: '{key}'.")


def test_deleted_message_is_gone_and_the_others_stay(client: FlaskClient, messages: str) -> None:
    first, second = (client.post(messages, json=HELLO).json for _ in range(2))
    answer = client.delete(f"{messages}/{first['id']}")
    assert answer.status_code == 200
    assert (
        answer.text == f'{{"id":"{first["id"]}","object":"thread.message.deleted","deleted":true}}'
    )
    assert client.get(messages).json["data"] == [second]
    for gone in (client.get, client.post, client.delete):
        assert refusal(gone(f"{messages}/{first['id']}")) == (
            404,
            None,
            None,
            f"No message found with id '{first['id']}'.",
        )


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_message_of_another_thread_is_not_found(
    client: FlaskClient, messages: str, method: str
) -> None:
    other = client.post("/v1/threads", json={"messages": [HELLO]}).json["id"]
    (message,) = client.get(f"/v1/threads/{other}/messages").json["data"]
    answer = getattr(client, method)(f"{messages}/{message['id']}")
    assert refusal(answer) == (404, None, None, f"No message found with id '{message['id']}'.")
    assert client.get(f"/v1/threads/{other}/messages/{message['id']}").json == message


@pytest.mark.parametrize(
    ("method", "address", "expected"),
    [
        *(
            (
                method,
                f"/{UNKNOWN_THREAD}/messages{rest}",
                (404, None, None, f"No thread found with id '{UNKNOWN_THREAD}'."),
            )
            for method, rest in [
                ("get", ""),
                ("post", ""),
                *((method, f"/{UNKNOWN_MESSAGE}") for method in ("get", "post", "delete")),
            ]
        ),
        *(
            (
                "get",
                f"/conv_1/messages{rest}",
                (
                    400,
                    "thread_id",
                    "invalid_value",
                    "Invalid 'thread_id': 'conv_1'. Expected an ID that begins with 'thread'.",
                ),
            )
            for rest in ("", f"/{UNKNOWN_MESSAGE}")
        ),
        *(
            (
                method,
                "/{thread}/messages/new",
                (
                    400,
                    "message_id",
                    "invalid_value",
                    "Invalid 'message_id': 'new'. Expected an ID that begins with 'msg'.",
                ),
            )
            for method in ("get", "post", "delete")
        ),
        *(
            (
                "get",
                f"/{{thread}}/messages/{id_}",
                (404, None, None, f"No message found with id '{id_}'."),
            )
            for id_ in (UNKNOWN_MESSAGE, "msg_" + "x" * 61, "msg_'; --", "msg_é")
        ),
    ],
)
def test_unknown_or_malformed_id_is_refused(
    client: FlaskClient, thread_id: str, method: str, address: str, expected: tuple[Any, ...]
) -> None:
    address = "/v1/threads" + address.replace("{thread}", thread_id)
    body = {"json": HELLO} if address.endswith("/messages") and method == "post" else {}
    assert refusal(getattr(client, method)(address, **body)) == expected


def test_addresses_without_v1_are_the_same_messages(client: FlaskClient) -> None:
    thread = client.post("/threads").json["id"]
    message = client.post(f"/threads/{thread}/messages", json=HELLO).json
    assert client.get(f"/v1/threads/{thread}/messages/{message['id']}").json == message
    assert client.get(f"/threads/{thread}/messages").json["data"] == [message]
    assert client.post(f"/threads/{thread}/messages/{message['id']}").json == message
    assert client.delete(f"/threads/{thread}/messages/{message['id']}").status_code == 200


def test_messages_given_with_the_thread_keep_their_order(client: FlaskClient) -> None:
    given = [{"role": "user", "content": str(number)} for number in range(50)]
    thread = client.post("/v1/threads", json={"messages": given}).json["id"]
    data = client.get(f"/v1/threads/{thread}/messages?order=asc&limit=100").json["data"]
    assert [message["content"][0]["text"]["value"] for message in data] == [
        message["content"] for message in given
    ]


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
                started = threading.Barrier(3)

                def append(thread: str = thread, started: threading.Barrier = started) -> None:
                    started.wait()
                    until_refused(
                        lambda: sdk.beta.threads.messages.create(thread, role="user", content="x")
                    )

                appenders = [threading.Thread(target=append) for _ in range(2)]
                for appender in appenders:
                    appender.start()
                started.wait()
                sdk.beta.threads.messages.create(thread, role="user", content="x")
                sdk.beta.threads.delete(thread)
                for appender in appenders:
                    appender.join()
            found = sdk.get("/threads?q=x", cast_to=dict[str, Any])
    assert statuses == [404] * 20
    assert found["data"] == []
    assert _count_of_messages(app) == 0


def _count_of_messages(app: Flask) -> int:
    with app.app_context(), database.read() as connection:
        return int(connection.value("SELECT count(*) FROM messages"))
