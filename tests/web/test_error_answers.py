"""The error envelope, whatever goes wrong, and the headers of every answer."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from conftest import bearer
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
        for table in ("messages", "run_steps", "runs", "threads"):
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


# U+0001 is six bytes in JSON; the others are the longest in HTML, and in UTF-8.
LONG = {"control": "\x01" * 7_000, "quotes": "'" * 7_000, "wide": "\U0001f642" * 2_000}
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "path": lambda text: {"path": f"/v1/{text}"},
    "path of a page": lambda text: {"path": f"/admin/{text}"},
    "path of no page": lambda text: {"path": f"/administer/{text}", "method": "POST"},
    "method of a path": lambda text: {"path": "/v1/threads", "method": f"A{text}"[:20]},
    "thread id": lambda text: {"path": f"/v1/threads/thread_{text}"},
    "wrong id": lambda text: {"path": f"/v1/threads/{text}"},
    "message id": lambda text: {"path": f"/v1/threads/thread_a/messages/msg_{text}"},
    "id of a page": lambda text: {"path": f"/admin/threads/{text}"},
    "method of an id": lambda text: {"path": f"/v1/threads/{text}", "method": "PUT"},
    "parameter": lambda text: {"query_string": {text: "1"}},
    "parameter twice": lambda text: {"query_string": {text: ["1", "2"]}},
    "parameter of a page": lambda text: {"path": "/admin/", "query_string": {"order": text}},
    "parameter of a twin": lambda text: {
        "path": "/admin/threads.json",
        "query_string": {"order": text},
    },
    "transcript": lambda text: {"path": "/admin/threads/thread_a", "query_string": {text: "1"}},
    **{
        f"value of {name}": lambda text, name=name: {"query_string": {name: text}}
        for name in ("order", "limit", "after", "before", "q", "metadata", "metadata[k]")
    },
    **{
        f"filter {name}": lambda text, name=name: {"path": "/admin/", "query_string": {name: text}}
        for name in ("order", "limit", "after", "q", "pair", "since", "metadata[k]")
    },
    "many filters": lambda text: {
        "path": "/admin/",
        "query_string": {f"metadata[{number}{text[:9]}]": "" for number in range(99)},
    },
    "metadata key": lambda text: {"query_string": {f"metadata[{text}]": "1"}},
    "body key": lambda text: {"json": {text: 1}},
    "body key twice": lambda text: {
        "content_type": "application/json",
        "data": json.dumps({text: 1})[:-1] + f", {json.dumps(text)}: 2}}",
    },
    "deep body key": lambda text: {"json": {"tool_resources": {"file_search": {text: {text: 1}}}}},
    "metadata key in a body": lambda text: {"json": {"metadata": {text: "x"}}},
    "metadata type": lambda text: {"json": {"metadata": {text[:64]: 1}}},
    "role": lambda text: {"json": {"messages": [{"role": text, "content": "x"}]}},
    "part": lambda text: {"json": {"messages": [{"role": "user", "content": [{"type": text}]}]}},
    "beta": lambda text: {"headers": {"OpenAI-Beta": quote(text)}, "method": "POST"},
    "unknown beta": lambda text: {"headers": {"OpenAI-Beta": f"{'x' * 7_000}=v1"}},
    "idempotency": lambda text: {"headers": {"Idempotency-Key": quote(text)}, "json": {}},
    "fault": lambda text: {"headers": {"X-Mock-Fault": quote(text)}},
    "delay": lambda text: {"headers": {"X-Mock-Delay": quote(text)}},
    "host": lambda text: {"headers": {"Host": quote(text)}},
    "origin": lambda text: {"headers": {"Origin": quote(text)}, "json": {}},
    "media type": lambda text: {"content_type": quote(text), "data": b"{}"},
    "seed": lambda text: {
        "path": "/_mock/seed",
        "data": "\n".join(json.dumps({text: 1}) for _ in range(9)),
        "content_type": "application/jsonl",
    },
    "request id": lambda text: {"path": "/_mock/requests", "query_string": {"since": text}},
    "form": lambda text: {"path": "/admin/threads", "data": {"content": text}},
    "form keys": lambda text: {"path": "/admin/threads", "data": {text: text}},
    "sign-in": lambda text: {"path": "/admin/sign-in", "data": {"next": text, "key": text}},
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("place", PLACES)
def test_no_refusal_repeats_more_than_a_screen(
    client_with: Callable[..., FlaskClient], place: str, text: str
) -> None:
    options = {"path": "/v1/threads", **PLACES[place](text)}
    if options.keys() & {"json", "data"}:
        options["method"] = "POST"
    answer = client_with(REQUIRE_BETA="beta" in place).open(**options)
    assert answer.status_code >= 400
    assert len(answer.data) <= 4_096


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("header", ["Authorization", "api-key"])
def test_a_wrong_key_of_any_length_is_not_repeated(
    client_with: Callable[..., FlaskClient], new_key: Callable[..., str], header: str, text: str
) -> None:
    new_key()
    answer = client_with().get("/v1/threads", headers={header: f"Bearer {quote(text)}"})
    assert answer.status_code == 401
    assert len(answer.data) <= 4_096


@pytest.mark.parametrize("path", ["/v1/threads", "/v1/threads/thread_a", "/v1/nothing", "/healthz"])
def test_json_of_a_server_with_keys_is_stored_nowhere(
    client_with: Callable[..., FlaskClient], new_key: Callable[..., str], path: str
) -> None:
    key, client = new_key(), client_with()
    for headers in (bearer(key), {}, bearer("wrong")):
        assert client.get(path, headers=headers).headers["Cache-Control"] == "no-store"
    assert "no-store" not in str(client.get("/docs/swagger-ui.css", buffered=True).headers)


@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.parametrize("path", ["/", "/admin", "/admin?q=a%20b", "/admin/?pair=a%3Db"])
def test_a_redirect_never_names_the_host_of_the_request(
    client_with: Callable[..., FlaskClient],
    new_key: Callable[..., str],
    path: str,
    with_keys: bool,
) -> None:
    if with_keys:
        new_key()
    headers = {"Host": "evil.example", "X-Forwarded-Host": "worse.example"} if with_keys else {}
    answer = client_with().get(path, headers=headers)
    assert answer.status_code in (302, 308)
    assert answer.headers["Location"].startswith("/admin/")
    assert "example" not in answer.text


def test_no_address_is_left_to_the_redirects_of_the_router(app: Flask) -> None:
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert {rule for rule in rules if rule != "/" and rule.endswith("/")} == {"/admin/"}
    assert "/admin" in rules
