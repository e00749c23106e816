"""/_mock/requests: what the log holds of each request, and what it leaves out."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import bearer
from flask import Flask
from flask.testing import FlaskClient

from access import api_keys
from mock import request_log
from mock.request_log import LOGGED_BODY_BYTES, LOGGED_REQUESTS

KEY = "sk-secret"


@pytest.fixture
def mocked(client_with: Callable[..., FlaskClient]) -> FlaskClient:
    """The client of an app with THREADS_MOCK=on."""
    return client_with(MOCK="on")


def log(client: FlaskClient, **query: str) -> list[Any]:
    return client.get("/_mock/requests", query_string=query).json["data"]


def set_rules(client: FlaskClient, *rules: dict[str, Any]) -> None:
    assert client.post("/_mock/faults", json={"rules": rules}).status_code == 200


def test_the_log_shows_each_request_newest_last(mocked: FlaskClient) -> None:
    mocked.post("/v1/threads", json={"metadata": {"a": "é"}})
    answer = mocked.get("/nowhere?a=1")
    first, second = log(mocked)
    assert list(first) == [
        "time",
        "method",
        "path",
        "query",
        "status",
        "milliseconds",
        "request_id",
        "headers",
        "body",
        "body_is_cut",
        "answer",
        "answer_is_cut",
        "fault",
    ]
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/threads", 200)
    assert first["body"] == {"metadata": {"a": "é"}}
    assert isinstance(first["milliseconds"], int)
    assert (second["path"], second["query"], second["status"]) == ("/nowhere", "a=1", 404)
    assert second["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "entry"),
    [
        (b'{"metadata":{}}', {"metadata": {}}),
        (b"[1]", [1]),
        (b"{bad", "{bad"),
        (b"\xff", "\ufffd"),
        (b"", None),
        (b"[" * 300 + b"]" * 300, json.loads("[" * 300 + "]" * 300)),
        (b'"' + b"x" * LOGGED_BODY_BYTES, '"' + "x" * (LOGGED_BODY_BYTES - 1)),
    ],
    ids=["object", "array", "no-json", "no-text", "none", "deep", "long"],
)
def test_a_body_is_shown_as_json_as_text_or_as_null(
    mocked: FlaskClient, body: bytes, entry: Any
) -> None:
    mocked.post("/v1/threads", data=body, content_type="application/json")
    assert log(mocked)[0]["body"] == entry


def test_the_body_of_a_request_that_a_fault_refused_is_logged(mocked: FlaskClient) -> None:
    set_rules(mocked, {"status": 503})
    mocked.post("/v1/threads", json={"metadata": {"a": "1"}})
    entry = log(mocked)[0]
    assert (entry["status"], entry["body"]) == (503, {"metadata": {"a": "1"}})


def test_the_log_keeps_the_newest_requests(mocked: FlaskClient) -> None:
    for number in range(LOGGED_REQUESTS + 5):
        mocked.get(f"/nowhere/{number}")
    paths = [entry["path"] for entry in log(mocked)]
    assert paths == [f"/nowhere/{number}" for number in range(5, LOGGED_REQUESTS + 5)]


def test_the_controls_are_not_logged(mocked: FlaskClient) -> None:
    mocked.post("/_mock/snapshot")
    mocked.post("/_mock/faults", json={})
    assert log(mocked) == []


@pytest.mark.parametrize(
    ("path", "count"),
    [("*", 3), ("/v1/*", 2), ("/v1/threads", 1), ("*/messages", 1), ("/nowhere", 0)],
)
def test_the_log_is_filtered_by_path(mocked: FlaskClient, path: str, count: int) -> None:
    for called in ("/v2/threads", "/v1/threads", "/v1/threads/thread_a/messages"):
        mocked.get(called)
    assert len(log(mocked, path=path)) == count


def test_the_log_is_filtered_by_what_came_since(mocked: FlaskClient) -> None:
    mocked.get("/v1/assistants")
    since = mocked.get("/v1/models").headers["x-request-id"]
    assert log(mocked, since=since) == []
    mocked.get("/v1/threads")
    mocked.get("/nowhere")
    paths = [entry["path"] for entry in log(mocked, since=since)]
    assert paths == ["/v1/threads", "/nowhere"]
    assert len(log(mocked, since=since, path="/v1/*")) == 1


def test_a_since_that_is_not_logged_is_400(mocked: FlaskClient) -> None:
    answer = mocked.get("/_mock/requests?since=req_1")
    error = answer.json["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "since")


def test_a_cleared_log_is_empty(mocked: FlaskClient) -> None:
    mocked.get("/nowhere")
    assert mocked.delete("/_mock/requests").json == {"object": "list", "data": []}
    assert log(mocked) == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/nowhere", {}, 404),
        ("PUT", "/v1/threads", {}, 405),
        ("POST", "/v1/threads", {"Origin": "http://other.example"}, 403),
        ("POST", "/v1/threads", {"Host": "other.example"}, 400),
    ],
    ids=["unknown", "method", "page", "host"],
)
def test_the_body_of_a_request_that_is_refused_unread_is_logged(
    mocked: FlaskClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = mocked.open(path, method=method, headers=headers, json={"a": 1})
    assert answer.status_code == status
    assert log(mocked)[0]["body"] == {"a": 1}


@pytest.mark.parametrize(
    ("body", "length"),
    [(b"x" * (LOGGED_BODY_BYTES + 1), LOGGED_BODY_BYTES + 1), (b"{", 9)],
    ids=["too-long", "cut-short"],
)
def test_a_refused_request_is_logged_without_a_body_that_is_too_long_or_cut_short(
    mocked: FlaskClient, body: bytes, length: int
) -> None:
    mocked.post("/nowhere", data=body, environ_overrides={"CONTENT_LENGTH": str(length)})
    assert (log(mocked)[0]["status"], log(mocked)[0]["body"]) == (404, None)


def test_a_project_sees_and_clears_the_log_of_its_own_requests_only(
    make_app: Callable[..., Flask],
) -> None:
    app = make_app(MOCK="on")
    with app.app_context():
        ours, theirs = (bearer(api_keys.create(project, "", None)) for project in "ab")
    client = app.test_client()
    for headers, path in ((ours, "/ours"), (theirs, "/theirs"), ({}, "/v1/threads")):
        client.get(path, headers=headers)

    def paths(headers: dict[str, str]) -> list[str]:
        entries = client.get("/_mock/requests", headers=headers).json["data"]
        return [entry["path"] for entry in entries]

    assert (paths(ours), paths(theirs)) == (["/ours"], ["/theirs"])
    client.delete("/_mock/requests", headers=ours)
    assert (paths(ours), paths(theirs)) == ([], ["/theirs"])


# what it tells beside the body


def test_it_tells_the_time_of_day(mocked: FlaskClient) -> None:
    mocked.put("/_mock/clock", json={"frozen_at": 1})
    mocked.get("/nowhere")
    told = log(mocked)[0]["time"]
    assert told.endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(told)).total_seconds()) < 60


def test_it_shows_the_headers_without_secrets(mocked: FlaskClient) -> None:
    secrets = ("Authorization", "Proxy-Authorization", "api-key", "x-api-key", "Cookie")
    mocked.get("/nowhere", headers=dict.fromkeys(secrets, KEY) | {"X-Stainless-Lang": "python"})
    headers = log(mocked)[0]["headers"]
    assert headers["X-Stainless-Lang"] == "python"
    assert KEY not in str(headers)


def test_it_shows_the_answer(mocked: FlaskClient) -> None:
    thread = mocked.post("/v1/threads", json={}).json
    refused = mocked.get("/v1/threads/x").json
    assert [entry["answer"] for entry in log(mocked)] == [thread, refused]
    assert "answer" in log(mocked)[0]


def test_what_is_cut_is_said(mocked: FlaskClient) -> None:
    content = "x" * LOGGED_BODY_BYTES
    message = {"role": "user", "content": content}
    thread_id = mocked.post("/v1/threads", json={"messages": [message]}).json["id"]
    mocked.get(f"/v1/threads/{thread_id}/messages")
    created, listed = log(mocked)
    assert (created["body_is_cut"], created["answer_is_cut"]) == (True, False)
    assert (listed["body_is_cut"], listed["answer_is_cut"]) == (False, True)
    assert len(created["body"]) == len(listed["answer"]) == LOGGED_BODY_BYTES


@pytest.mark.parametrize(
    ("rule", "headers", "fault"),
    [
        ({"status": 429, "times": 1}, {}, {"status": 429, "times": 1}),
        ({"delay_ms": 1}, {}, {"delay_ms": [1, 1]}),
        ({"drop": "after"}, {}, {"drop": "after"}),
        ({"status": 500, "rate": 0}, {}, None),
        ({"status": 500}, {"X-Mock-Fault": "503"}, {"status": 503}),
    ],
    ids=["status", "delay", "drop", "not-due", "header"],
)
def test_it_tells_the_fault_that_fired(
    mocked: FlaskClient, rule: Any, headers: dict[str, str], fault: Any
) -> None:
    set_rules(mocked, rule)
    mocked.get("/v1/threads", headers=headers)
    assert log(mocked)[0]["fault"] == fault


def test_a_stream_is_logged_at_once_and_its_events_at_its_end(mocked: FlaskClient) -> None:
    assistant_id = mocked.post("/v1/assistants", json={"model": "m", "instructions": "i"}).json[
        "id"
    ]
    body = {"assistant_id": assistant_id, "stream": True}
    stream = mocked.post("/v1/threads/runs", json=body)
    assert log(mocked)[1]["answer"] is None
    said = stream.text
    stream.close()
    assert log(mocked)[1]["answer"] == said
    assert said.endswith("data: [DONE]\n\n")


# what it leaves out


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/admin", "/admin/", "/admin/threads.json", "/admin/nowhere", "/static/admin.css"),
        *("/docs", "/docs/swagger-ui.css", "/openapi.json", "/healthz", "/readyz", "/metrics"),
        "/favicon.ico",
    ],
)
def test_what_is_not_the_api_is_neither_logged_nor_hit_by_a_rule_without_a_path(
    mocked: FlaskClient, path: str
) -> None:
    set_rules(mocked, {"status": 599})
    assert mocked.get(path, buffered=True).status_code != 599
    assert log(mocked) == []
    assert mocked.get("/_mock/faults").json["rules"][0]["matched"] == 0


@pytest.mark.parametrize("path", ["/healthz", "/admin/", "/docs"])
def test_a_rule_with_a_path_hits_it(mocked: FlaskClient, path: str) -> None:
    set_rules(mocked, {"status": 599, "path": path})
    assert mocked.get(path).status_code == 599
    assert log(mocked) == []


def test_the_log_has_a_most_of_bytes_over_all_projects(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "LOGGED_BYTES", 10_000)
    app = make_app(MOCK="on")
    with app.app_context():
        ours, theirs = (bearer(api_keys.create(project, "", None)) for project in "ab")
    client = app.test_client()
    for headers in (ours, theirs):
        for number in range(20):
            client.get(f"/nowhere/{number}", headers=headers)

    def paths(headers: dict[str, str]) -> list[str]:
        entries = client.get("/_mock/requests", headers=headers).json["data"]
        return [entry["path"] for entry in entries]

    assert paths(ours) == []
    assert 2 < len(paths(theirs)) < 10
    assert paths(theirs)[-1] == "/nowhere/19"
    client.delete("/_mock/requests", headers=theirs)
    client.get("/nowhere", headers=ours)
    assert paths(ours) == ["/nowhere"]
