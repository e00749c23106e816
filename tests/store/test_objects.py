"""Answers: key order, compact UTF-8, and the documented schemas."""

import re

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

import database
import schemas
from models import Message


def test_an_answer_has_the_fields_of_its_schema_in_order(client: FlaskClient) -> None:
    thread = client.post("/v1/threads").json
    assert list(thread) == list(schemas.ThreadObject().fields)
    deleted = client.delete(f"/v1/threads/{thread['id']}").json
    assert list(deleted) == list(schemas.ThreadDeleted().fields)
    error = client.get("/v1/threads/thread_unknown").json
    assert list(error) == list(schemas.ErrorResponse().fields)
    assert list(error["error"]) == list(schemas.Error().fields)


def test_incomplete_details_of_a_message_are_passed_through(
    client: FlaskClient, app: Flask
) -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    thread_id = client.post("/v1/threads", json=body).json["id"]
    details = {"status": "incomplete", "incomplete_details": '{"reason":"max_tokens"}'}
    with app.app_context():
        database.write(lambda connection: connection.change(sa.update(Message).values(details)))
    [message] = client.get(f"/v1/threads/{thread_id}/messages").json["data"]
    assert message["incomplete_details"] == {"reason": "max_tokens"}


def test_an_answer_is_compact_utf_8(client: FlaskClient) -> None:
    answer = client.post("/v1/threads", json={"metadata": {"ключ": "é💾 /\u2028\x7f"}})
    pattern = (
        r'{"id":"thread_\w{24}","object":"thread","created_at":\d{10},'
        r'"metadata":{"ключ":"é💾 /' + "\u2028\x7f" + r'"},"tool_resources":{}}'
    )
    assert re.fullmatch(pattern, answer.data.decode())
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Length"] == str(len(answer.data))
