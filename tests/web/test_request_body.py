"""What a request body may be: bytes, JSON, types and transport, on create and on modify."""

import http.client
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from conftest import Server, serving
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentences import Refusal, refusal_of

import database
from models import Message

pytestmark = pytest.mark.sqlite_only("a body is read before the database is asked")

JSON = "application/json"
LIMIT = 1024
LEGAL = (b"{}", b"[]")
ANY_TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
ROUND_TRIPS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

Exchange = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(params=["create", "modify"])
def path(request: pytest.FixtureRequest, client: FlaskClient) -> str:
    if request.param == "create":
        return "/v1/threads"
    return f"/v1/threads/{client.post('/v1/threads').json['id']}"


def holding(value: bytes) -> bytes:
    return b'{"metadata":{"k":' + value + b"}}"


INVALID_JSON = {
    "spaces": b"  \r\n",
    "cut": b'{"metadata":{"k":"v"',
    "cut-string": b'{"metadata',
    "trailing-comma": b'{"metadata":{},}',
    "single-quotes": b"{'metadata':{}}",
    "bare-key": b"{metadata:{}}",
    "comment": b"{} // x",
    "two-values": b"{}{}",
    "html": b"<html>",
    "raw-control-character": holding(b'"a\nb"'),
    "raw-nul": holding(b'"a\0b"'),
    "nul-after": b"{}\0",
    "bad-escape": holding(b'"\\x41"'),
    "short-escape": holding(b'"\\u12"'),
    "surrogate-in-a-value": holding(b'"\\ud800"'),
    "surrogate-in-a-key": b'{"metadata":{"\\ud800":"v"}}',
    "surrogate-in-an-unknown-key": b'{"\\udfff":1}',
    "low-surrogate": holding(b'"\\udc00"'),
    "surrogates-reversed": holding(b'"\\udc00\\ud800"'),
    "surrogate-in-an-id": b'{"tool_resources":{"code_interpreter":{"file_ids":["\\ud83d"]}}}',
    "NaN": holding(b"NaN"),
    "Infinity": holding(b"Infinity"),
    "-Infinity": holding(b"-Infinity"),
    "1e999": holding(b"1e999"),
    "-1e999": holding(b"-1e999"),
    "2**63": holding(b"9223372036854775808"),
    "-2**63-1": holding(b"-9223372036854775809"),
    "10**400": holding(b"1" + b"0" * 400),
    "5000-digits": holding(b"9" * 5000),
    "leading-zero": holding(b"01"),
    "plus-sign": holding(b"+1"),
    "nested-too-deeply": holding(b"[" * 100_000 + b"]" * 100_000),
    "nested-too-deeply-in-objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "open-brackets": b"[" * 100_000,
}
UNREADABLE = {
    "byte-ff": holding(b'"\xff"'),
    "latin-1": holding('"é"'.encode("latin-1")),
    "overlong": holding(b'"\xc0\xaf"'),
    "raw-surrogate": holding(b'"\xed\xa0\x80"'),
    "beyond-unicode": holding(b'"\xf4\x90\x80\x80"'),
    "cut-character": holding(b'"\xe2\x82"'),
    "utf-16": '{"metadata":{}}'.encode("utf-16"),
    "utf-32": '{"metadata":{}}'.encode("utf-32"),
    "gzip-unannounced": b"\x1f\x8b\x08\x00",
}
NUL = {
    "value": holding(b'"a\\u0000b"'),
    "key": b'{"metadata":{"\\u0000":"v"}}',
    "unknown-key": b'{"\\u0000":1}',
    "id": b'{"tool_resources":{"code_interpreter":{"file_ids":["a\\u0000"]}}}',
}
TWICE = {
    "root": (b'{"metadata":{},"metadata":{}}', "metadata"),
    "nested": (b'{"metadata":{"k":"a","k":"a"}}', "k"),
    "escaped": (b'{"metadata":{"k":"a","\\u006b":"b"}}', "k"),
    "unknown": (b'{"x":1,"x":1}', "x"),
}
NOT_AN_OBJECT = {
    "null": "null",
    "true": "a boolean",
    "1": "an integer",
    "1.5": "a decimal number",
    '"s"': "a string",
    "[{}]": "an array",
}


def named(cases: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), id=name)
        for name, case in cases.items()
    ]


def refused(client: FlaskClient, path: str, data: bytes) -> Refusal:
    return refusal_of(client.post(path, data=data, content_type=JSON))


@pytest.mark.parametrize("data", named(INVALID_JSON))
def test_what_is_not_json_is_invalid_json(client: FlaskClient, path: str, data: bytes) -> None:
    message = (
        "Invalid body: failed to parse JSON value. Please check the value to ensure it is valid "
        "JSON. (Common errors include trailing commas, missing closing brackets, missing "
        "quotation marks, etc.)"
    )
    assert refused(client, path, data) == (message, None, "invalid_json")


@pytest.mark.parametrize("data", named(UNREADABLE))
def test_what_is_not_utf_8_is_a_decode_error(client: FlaskClient, path: str, data: bytes) -> None:
    message, param, code = refused(client, path, data)
    assert message.startswith("Invalid body: encountered a unicode decode error when parsing")
    assert (param, code) == (None, "invalid_request_error")


@pytest.mark.parametrize("data", named(NUL))
def test_an_escaped_nul_is_refused(client: FlaskClient, path: str, data: bytes) -> None:
    message = "Invalid body: strings cannot hold the NUL character (U+0000)."
    assert refused(client, path, data) == (message, None, "invalid_request_error")


@pytest.mark.parametrize(("data", "key"), named(TWICE))
def test_a_duplicate_key_is_refused(client: FlaskClient, path: str, data: bytes, key: str) -> None:
    message = f"Invalid body: duplicate JSON key '{key}'. Duplicate JSON keys are not supported."
    assert refused(client, path, data) == (message, None, "invalid_request_error")


@pytest.mark.parametrize(("data", "kind"), NOT_AN_OBJECT.items())
def test_a_root_that_is_not_an_object_is_refused(
    client: FlaskClient, path: str, data: str, kind: str
) -> None:
    message = f"Invalid type: expected an object, but got {kind} instead."
    assert refused(client, path, data.encode()) == (message, None, "invalid_request_error")


@pytest.mark.parametrize(
    ("data", "value"),
    named(
        {
            "bom": (b"\xef\xbb\xbf" + holding(b'"v"'), "v"),
            "spaces-around": (b" \r\n\t" + holding(b'"v"') + b" \n", "v"),
            "surrogate-pair": (holding(b'"\\ud83d\\ude00"'), "😀"),
            "escaped-backslash": (holding(b'"\\\\u0000\\\\ud800"'), "\\u0000\\ud800"),
            "escaped-backslash-and-escape": (holding(b'"\\\\u0000\\u0041"'), "\\u0000A"),
            "other-control-characters": (holding(b'"\\u0001\\u001f\\u007f"'), "\x01\x1f\x7f"),
            "noncharacters": (holding(b'"\\uffff\\ufdd0"'), "\uffff\ufdd0"),
            "inner-bom": (holding(b'"\\ufeff"'), "\ufeff"),
        }
    ),
)
def test_unusual_json_is_read_as_what_it_says(
    client: FlaskClient, path: str, data: bytes, value: str
) -> None:
    answer = client.post(path, data=data, content_type=JSON)
    assert answer.status_code == 200, answer.text
    assert answer.json["metadata"] == {"k": value}


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
    ],
)
def test_a_body_of_another_type_is_415(
    client: FlaskClient, path: str, content_type: str | None
) -> None:
    answer = client.post(path, data=b"{}", content_type=content_type)
    assert refusal_of(answer, 415)[2] == "unsupported_media_type"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_an_encoded_body_is_415(client: FlaskClient, path: str, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    answer = client.post(path, data=b"\x1f\x8b\x08\x00", content_type=JSON, headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json; charset="',
        "application/json;",
        "application/vnd.api+json",
    ],
)
def test_a_json_type_is_accepted(client: FlaskClient, path: str, content_type: str) -> None:
    assert client.post(path, data=b"{}", content_type=content_type).status_code == 200


def test_the_identity_encoding_is_accepted(client: FlaskClient, path: str) -> None:
    headers = {"Content-Encoding": "identity"}
    assert client.post(path, data=b"{}", content_type=JSON, headers=headers).status_code == 200


@pytest.mark.parametrize("content_type", [None, JSON, "text/plain", "text/html"])
def test_an_empty_body_of_any_type_is_an_empty_object(
    client: FlaskClient, path: str, content_type: str | None
) -> None:
    assert client.post(path, content_type=content_type).status_code == 200


def test_a_body_above_the_limit_is_413(client: FlaskClient, app: Flask, path: str) -> None:
    app.config["MAX_BODY_BYTES"] = LIMIT
    body = b" " * (LIMIT - 2) + b"{}"
    assert client.post(path, data=body, content_type=JSON).status_code == 200
    answer = client.post(path, data=b" " + body, content_type=JSON)
    assert refusal_of(answer, 413)[2] == "request_too_large"


# round trips


@given(
    metadata=st.dictionaries(st.text(ANY_TEXT, max_size=64), st.text(ANY_TEXT), max_size=16),
    escaped=st.booleans(),
)
@ROUND_TRIPS
def test_metadata_of_any_text_comes_back_identical(
    client: FlaskClient, metadata: dict[str, str], escaped: bool
) -> None:
    body = {"metadata": metadata}
    data = json.dumps(body).encode() if escaped else orjson.dumps(body)
    created = client.post("/v1/threads", data=data, content_type=JSON)
    assert list(created.json["metadata"].items()) == list(metadata.items())
    assert client.get(f"/v1/threads/{created.json['id']}").json == created.json


@given(text=st.text(ANY_TEXT, min_size=1), escaped=st.booleans())
@ROUND_TRIPS
def test_content_of_any_text_is_stored_identical(
    client: FlaskClient, app: Flask, text: str, escaped: bool
) -> None:
    body = {"messages": [{"role": "user", "content": text}]}
    data = json.dumps(body).encode() if escaped else orjson.dumps(body)
    assert client.post("/v1/threads", data=data, content_type=JSON).status_code == 200
    newest = sa.select(Message.content).order_by(Message.seq.desc()).limit(1)
    with app.app_context(), database.read() as connection:
        (part,) = json.loads(connection.value(newest))
    assert part["text"]["value"] == text


@given(
    before=st.text(ANY_TEXT, max_size=20),
    bad=st.characters(categories=["Cs"]) | st.just("\0"),
    after=st.text(ANY_TEXT, max_size=20),
    as_key=st.booleans(),
)
@ROUND_TRIPS
def test_a_nul_or_lone_surrogate_anywhere_is_400(
    client: FlaskClient, before: str, bad: str, after: str, as_key: bool
) -> None:
    text = before + bad + after
    data = json.dumps({"metadata": {text: "v"} if as_key else {"k": text}}).encode()
    refused(client, "/v1/threads", data)


@given(data=st.binary(min_size=1, max_size=60).filter(lambda data: data.strip() not in LEGAL))
@ROUND_TRIPS
def test_random_bytes_are_400(client: FlaskClient, data: bytes) -> None:
    refused(client, "/v1/threads", data)


# transport


@pytest.fixture
def exchange(server: Server) -> Iterator[Exchange]:
    """Send raw bytes on a connection of their own; afterwards the server must still be well."""
    yield lambda *parts: send(server, *parts)
    with urllib.request.urlopen(f"{server.root_url}/healthz") as answer:
        assert answer.status == 200


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes bodies of at most LIMIT bytes."""
    with serving(tmp_path_factory.mktemp("small") / "log", MAX_BODY_BYTES=LIMIT) as server:
        yield server


def send(server: Server, headers: str, body: bytes) -> tuple[int, dict[str, Any]]:
    head = f"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\n{headers}\r\n"
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, json.loads(response.read())


CHUNKED = "Transfer-Encoding: chunked\r\n"
BODY = b'{"metadata":{"k":"v"}}'


def test_a_chunked_body_is_read(exchange: Exchange) -> None:
    status, thread = exchange(CHUNKED, b'5\r\n{"met\r\n11\r\nadata":{"k":"v"}}\r\n0\r\n\r\n')
    assert (status, thread["metadata"]) == (200, {"k": "v"})


def test_an_empty_chunked_body_is_an_empty_object(exchange: Exchange) -> None:
    status, thread = exchange(CHUNKED, b"0\r\n\r\n")
    assert (status, thread["metadata"]) == (200, {})


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n", id="bad-chunk-size"),
        pytest.param(CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n", id="negative-chunk-size"),
        pytest.param(CHUNKED, b"2\r\n{}XX0\r\n\r\n", id="chunk-without-its-end"),
        pytest.param(CHUNKED, b"5\r\n{}", id="cut-inside-a-chunk"),
        pytest.param(CHUNKED, b"2\r\n{}\r\n", id="cut-before-the-last-chunk"),
        pytest.param(CHUNKED, b"2\r\n{}", id="cut-after-whole-json"),
        pytest.param(CHUNKED, b"", id="no-chunks"),
        pytest.param(f"Content-Length: {len(BODY) + 1}\r\n", BODY, id="one-byte-missing"),
        pytest.param("Content-Length: 4096\r\n", BODY, id="whole-json-of-a-longer-body"),
        pytest.param("Content-Length: 4096\r\n", b"", id="nothing-of-a-body"),
    ],
)
def test_a_body_cut_short_or_badly_chunked_is_400(
    exchange: Exchange, headers: str, body: bytes
) -> None:
    status, answer = exchange(headers, body)
    assert (status, answer["error"]["code"]) == (400, "invalid_request_error")


def test_what_follows_the_announced_length_is_no_part_of_the_body(exchange: Exchange) -> None:
    status, thread = exchange(f"Content-Length: {len(BODY)}\r\n", BODY + b"{")
    assert (status, thread["metadata"]) == (200, {"k": "v"})


def test_a_length_above_the_limit_is_413_before_the_body_is_sent(exchange: Exchange) -> None:
    status, answer = exchange("Content-Length: 10000000000\r\n", b"{")
    assert (status, answer["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("spaces", "end", "status"),
    [
        pytest.param(LIMIT - 2, b"\r\n0\r\n\r\n", 200, id="at-the-limit"),
        pytest.param(LIMIT - 2, b"", 400, id="cut-at-the-limit"),
        pytest.param(LIMIT - 1, b"\r\n0\r\n\r\n", 413, id="one-byte-above"),
        pytest.param(LIMIT * 2, b"\r\n0\r\n\r\n", 413, id="far-above"),
    ],
)
def test_a_chunked_body_above_the_limit_is_413(
    small: Server, spaces: int, end: bytes, status: int
) -> None:
    size = f"{spaces + 2:x}\r\n".encode()
    assert send(small, CHUNKED, size + b"{}" + b" " * spaces + end)[0] == status


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413), (LIMIT + 2, 413)])
def test_a_body_of_a_length_above_the_limit_is_413(small: Server, size: int, status: int) -> None:
    headers = f"Content-Length: {size}\r\n"
    assert send(small, headers, b"{}" + b" " * (size - 2))[0] == status


FRAMINGS = [
    f"{CHUNKED}Content-Length: 2\r\n",
    "Content-Length: 2\r\nContent-Length: 3\r\n",
    "Content-Length: +2\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 1e3\r\n",
    "Host: evil.example\r\n",
    "Bad Name: x\r\n",
    "X-Nul: a\0b\r\n",
]


@pytest.mark.parametrize("headers", FRAMINGS, ids=repr)
def test_ambiguous_framing_is_400(server: Server, headers: str) -> None:
    head = f"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{{}}"
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(head.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 400


def test_a_request_after_a_body_cut_short_gets_a_fresh_connection(server: Server) -> None:
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    connection.request("POST", "/v1/threads", body=b"x" * 10, headers={"Content-Type": JSON})
    response = connection.getresponse()
    response.read()
    assert response.status == 400
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/v1/threads/thread_unknown", 404),
        ("POST", "/v1/threads/new", 400),
        ("PUT", "/v1/threads", 405),
        ("POST", "/nowhere", 404),
        ("GET", "/healthz", 200),
    ],
)
def test_a_body_that_nobody_reads_does_not_disturb_the_next_request(
    server: Server, method: str, path: str, status: int
) -> None:
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    connection.request(method, path, body=b"GET /evil HTTP/1.1\r\n\r\n" * 10)
    response = connection.getresponse()
    response.read()
    assert response.status == status
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    connection.close()


@pytest.mark.parametrize("depth", [900, 990, 5_000, 1_000_000])
def test_deep_nesting_is_400_in_a_worker_thread(exchange: Exchange, depth: int) -> None:
    body = b'{"metadata":{"\\u0041":' + b"[" * depth + b"]" * depth + b"}}"
    status, answer = exchange(f"Content-Length: {len(body)}\r\n", body)
    assert status == 400
    assert answer["error"]["code"] in ("invalid_json", "invalid_type", "invalid_request_error")
