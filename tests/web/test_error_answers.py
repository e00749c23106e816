"""The error envelope, whatever goes wrong, and the headers of every answer."""

import logging
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import ValidationError
from werkzeug.exceptions import default_exceptions
from werkzeug.test import TestResponse

import database
from rules.errors import PARAM, ApiError, Fault

SECRET = "the cause, with /etc/passwd in it"


def envelope(answer: TestResponse) -> dict[str, Any]:
    """Return the error of an answer whose body is nothing but the envelope, keys in order."""
    assert answer.content_type == "application/json"
    assert list(answer.json) == ["error"]
    error: dict[str, Any] = answer.json["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


def raising(app: Flask, error: BaseException) -> FlaskClient:
    """Add GET /raise to an app and return its client."""

    def view() -> str:
        raise error

    app.add_url_rule("/raise", view_func=view)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app.test_client()


@pytest.mark.parametrize("status", default_exceptions)
def test_every_http_exception_is_the_envelope(app: Flask, status: int) -> None:
    answer = raising(app, default_exceptions[status]()).get("/raise")
    assert answer.status_code == status
    error = envelope(answer)
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert error["param"] is None


@pytest.mark.parametrize("status", [status for status in default_exceptions if status >= 500])
def test_a_server_error_is_not_to_be_retried(app: Flask, status: int) -> None:
    answer = raising(app, default_exceptions[status](SECRET)).get("/raise")
    assert answer.headers["x-should-retry"] == "false"
    assert SECRET not in answer.text


@pytest.mark.parametrize("error", [RuntimeError, KeyError, RecursionError, MemoryError, OSError])
def test_an_unforeseen_failure_is_500_and_hides_its_cause(
    app: Flask, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    answer = raising(app, error(SECRET)).get("/raise")
    assert answer.status_code == 500
    assert envelope(answer) == {
        "message": "The server had an error while processing your request. Its log has the cause.",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert answer.headers["x-should-retry"] == "false"
    assert SECRET not in answer.text + str(answer.headers)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert SECRET in caplog.text


def test_a_failing_database_hides_its_cause(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        for table in ("messages", "threads"):
            database.write(lambda connection, table=table: connection.change(f"DROP TABLE {table}"))
    answer = client.post("/v1/threads")
    assert answer.status_code == 500
    assert envelope(answer)["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "false"
    assert "threads" not in envelope(answer)["message"]


def test_an_api_error_carries_its_param_code_and_headers(app: Flask) -> None:
    error = ApiError(409, "No.", "metadata.k", "conflict", {"Retry-After": "1"})
    answer = raising(app, error).get("/raise")
    assert answer.status_code == 409
    assert envelope(answer) == {
        "message": "No.",
        "type": "invalid_request_error",
        "param": "metadata.k",
        "code": "conflict",
    }
    assert answer.headers["Retry-After"] == "1"


def test_a_validation_error_tells_the_path_of_its_fault(app: Flask) -> None:
    faults = {"a": {0: {"b": [Fault("some_code", f"Wrong '{PARAM}'.")]}}}
    answer = raising(app, ValidationError(faults)).get("/raise")
    assert answer.status_code == 400
    assert list(envelope(answer).values())[::2] == ["Wrong 'a[0].b'.", "a[0].b"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/foo", "/foo", "/v1", "/v1/", "/v2/threads"])
def test_an_unknown_url_is_404(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == 404
    assert envelope(answer) == {
        "message": f"Invalid URL ({method} {path})",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "QUERY"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/threads/thread_a", {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}),
        ("/threads/thread_a", {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}),
        ("/v1/threads", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_with_allow(
    client: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == allowed
    error = envelope(answer)
    assert error["code"] == "unsupported_operation"
    methods = ", ".join(sorted(allowed))
    assert error["message"] == f"Method not allowed ({method} {path}). Use one of: {methods}."


@pytest.mark.parametrize("path", ["/v1/threads", "/threads/thread_a", "/healthz"])
def test_options_tells_what_is_allowed(client: FlaskClient, path: str) -> None:
    answer = client.options(path)
    assert answer.status_code == 200
    assert "OPTIONS" in answer.headers["Allow"]


ANSWERS = [
    pytest.param("POST", "/v1/threads", {}, 200, id="create"),
    pytest.param("OPTIONS", "/v1/threads", {}, 200, id="options"),
    pytest.param("GET", "/healthz", {}, 200, id="healthz"),
    pytest.param("GET", "/docs/swagger-ui.css", {}, 200, id="asset"),
    pytest.param("GET", "/v1/threads/new", {}, 400, id="wrong-prefix"),
    pytest.param("POST", "/v1/threads", {"json": {"x": 1}}, 400, id="unknown-key"),
    pytest.param("GET", "/healthz", {"headers": {"Host": "evil.example"}}, 400, id="host"),
    pytest.param("GET", "/healthz", {"headers": {"Forwarded": "x"}}, 403, id="forwarded"),
    pytest.param("POST", "/v1/threads", {"headers": {"Origin": "null"}}, 403, id="origin"),
    pytest.param("HEAD", "/v1/threads/thread_a", {}, 404, id="head"),
    pytest.param("DELETE", "/v1/threads/thread_a", {}, 404, id="no-thread"),
    pytest.param("GET", "/nowhere", {}, 404, id="no-url"),
    pytest.param("PUT", "/v1/threads", {}, 405, id="method"),
    pytest.param("POST", "/v1/threads", {"data": b"{}"}, 415, id="type"),
    pytest.param("GET", "/raise", {}, 500, id="failure"),
]


@pytest.mark.parametrize(("method", "path", "options", "status"), ANSWERS)
def test_every_answer_carries_the_standard_headers(
    app: Flask, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = raising(app, RuntimeError(SECRET)).open(path, method=method, buffered=True, **options)
    assert answer.status_code == status
    assert re.fullmatch("req_[0-9a-f]{32}", answer.headers["x-request-id"])
    assert re.fullmatch("[0-9]+", answer.headers["openai-processing-ms"])
    assert answer.headers["openai-version"] == "2020-10-01"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(answer.headers.getlist("x-request-id")) == 1


def test_each_request_has_an_id_of_its_own(client: FlaskClient) -> None:
    ids = {client.get("/healthz").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_a_request_id_of_the_client_is_not_taken_over(client: FlaskClient) -> None:
    answer = client.get("/healthz", headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] != "mine"
