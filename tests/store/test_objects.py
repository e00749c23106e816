"""What goes out: key order, compact UTF-8, and the schemas that the document shows for it."""

import re
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

import database
import schemas
from models import Message

MESSAGE_KEYS = [
    "id",
    "object",
    "created_at",
    "assistant_id",
    "thread_id",
    "run_id",
    "status",
    "incomplete_details",
    "completed_at",
    "incomplete_at",
    "role",
    "content",
    "attachments",
    "metadata",
]


def test_a_thread_has_the_fields_of_its_schema_in_order(client: FlaskClient) -> None:
    assert list(client.post("/v1/threads").json) == list(schemas.ThreadObject().fields)


def test_a_deleted_thread_has_the_fields_of_its_schema_in_order(client: FlaskClient) -> None:
    thread_id = client.post("/v1/threads").json["id"]
    deleted = client.delete(f"/v1/threads/{thread_id}").json
    assert list(deleted) == list(schemas.ThreadDeleted().fields)


def test_an_error_has_the_fields_of_its_schema_in_order(client: FlaskClient) -> None:
    error = client.get("/v1/threads/thread_unknown").json
    assert list(error) == list(schemas.ErrorResponse().fields)
    assert list(error["error"]) == list(schemas.Error().fields)


def _only_message(client: FlaskClient) -> dict[str, Any]:
    [thread] = client.get("/v1/threads").json["data"]
    [message] = client.get(f"/v1/threads/{thread['id']}/messages").json["data"]
    return message


def test_a_message_has_the_recorded_key_order(client: FlaskClient) -> None:
    client.post("/v1/threads", json={"messages": [{"role": "user", "content": "x"}]})
    assert list(_only_message(client)) == MESSAGE_KEYS


def test_incomplete_details_of_a_message_are_passed_through(
    client: FlaskClient, app: Flask
) -> None:
    client.post("/v1/threads", json={"messages": [{"role": "user", "content": "x"}]})
    details = {"status": "incomplete", "incomplete_details": '{"reason":"max_tokens"}'}
    with app.app_context():
        database.write(lambda connection: connection.change(sa.update(Message).values(details)))
    assert _only_message(client)["incomplete_details"] == {"reason": "max_tokens"}


def test_an_answer_is_compact_utf_8(client: FlaskClient) -> None:
    data = client.post("/v1/threads", json={"metadata": {"ключ": "é💾 /\u2028\x7f"}}).data
    pattern = (
        r'{"id":"thread_\w{24}","object":"thread","created_at":\d{10},'
        r'"metadata":{"ключ":"é💾 /' + "\u2028\x7f" + r'"},"tool_resources":{}}'
    )
    assert re.fullmatch(pattern, data.decode())


def test_an_answer_is_json_without_a_charset(client: FlaskClient) -> None:
    assert client.post("/v1/threads").headers["Content-Type"] == "application/json"


def test_an_answer_tells_its_length(client: FlaskClient) -> None:
    answer = client.post("/v1/threads", json={"metadata": {"k": "💾"}})
    assert answer.headers["Content-Length"] == str(len(answer.data))
