"""The forms of the page: their limits, and what a refusal shows of them."""

import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pages import submit_form, token_in
from werkzeug.test import TestResponse, encode_multipart

from access import api_keys
from admin import forms, imports
from database import waits
from rules import fields, refusals
from rules.errors import ApiError
from schemas import MAX_TEXT_CHARACTERS
from web import request_body
from web.request_checks import MAX_FORM_BYTES

ENCODED = "application/x-www-form-urlencoded"
PATHS = [
    "/admin/threads",
    "/admin/example",
    "/admin/sign-out",
    "/admin/threads/delete",
    "/admin/threads/thread_a/metadata",
    "/admin/threads/thread_a/messages",
    "/admin/threads/thread_a/messages/msg_a/delete",
    "/admin/assistants",
    "/admin/assistants/asst_a",
    "/admin/assistants/asst_a/delete",
    "/admin/assistants/import",
    "/admin/threads/import",
]
HUGE = [
    pytest.param(b"content=" + b"'" * 3_000_000, id="one text"),
    pytest.param(b"key=a&value=b&" * 200_000, id="many pairs"),
    pytest.param(b"&" * 3_000_000, id="many fields"),
    pytest.param(b"key=" * 700_000, id="one key"),
]


class Body:
    """The body of a request, which counts what is read of it."""

    def __init__(self, size: int) -> None:
        self.left, self.size = size, size

    def read(self, size: int = -1) -> bytes:
        taken = self.left if size < 0 else min(size, self.left)
        self.left -= taken
        return b"x" * taken

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(65_536), b"")


def send(client: FlaskClient, path: str, body: Body, **headers: str) -> TestResponse:
    environ = {"wsgi.input": body, "CONTENT_LENGTH": str(body.size), "CONTENT_TYPE": ENCODED}
    return client.post(path, environ_overrides=environ, headers=headers)


@pytest.fixture
def keyed(app: Flask, client: FlaskClient) -> FlaskClient:
    """The client of a server with an API key, which has not signed in."""
    with app.app_context():
        api_keys.create("ours", "", None)
    app.extensions["keys"]._read_at = float("-inf")
    return client


def token(client: FlaskClient) -> str:
    return token_in(client.get("/admin/threads/new").text)


@pytest.mark.parametrize("path", PATHS)
def test_a_signed_out_form_is_refused_before_any_of_it_is_read(
    keyed: FlaskClient, path: str
) -> None:
    body = Body(16_000_000)
    answer = send(keyed, path, body)
    assert answer.status_code in (302, 401)
    assert body.left == body.size
    assert len(answer.data) <= 4_096


def test_a_request_without_a_valid_key_is_refused_before_any_of_it_is_read(
    keyed: FlaskClient,
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"api-key": "wrong"}):
        body = Body(16_000_000)
        answer = send(keyed, "/v1/threads", body, **headers)
        assert (answer.status_code, body.left) == (401, body.size)


@pytest.mark.parametrize("path", [*PATHS, "/admin/sign-in"])
def test_a_form_above_its_limit_is_413_before_any_of_it_is_read(
    client: FlaskClient, path: str
) -> None:
    body = Body(MAX_FORM_BYTES + 1)
    answer = send(client, path, body)
    assert (answer.status_code, body.left) == (413, body.size)
    assert len(answer.data) <= 4_096


@pytest.mark.parametrize("path", ["/admin/sign-in", "/admin/threads/delete", "/admin/example"])
def test_a_form_without_texts_has_a_small_limit(client: FlaskClient, path: str) -> None:
    body = Body(20_000)
    assert send(client, path, body).status_code == 413
    assert body.left == body.size


@pytest.mark.parametrize("data", HUGE)
@pytest.mark.parametrize("has_token", [False, True])
def test_a_form_that_no_page_sends_is_refused_with_a_short_page(
    client: FlaskClient, data: bytes, has_token: bool
) -> None:
    if has_token:
        data = f"csrf_token={token(client)}&".encode() + data
    for path in ("/admin/threads", "/admin/assistants"):
        answer = client.post(path, data=data, content_type=ENCODED)
        assert answer.status_code == 413
        assert len(answer.data) <= 4_096


@pytest.mark.parametrize(("headers", "status"), [(3, 400), (1_000, 413)])
def test_a_part_of_a_file_form_has_few_headers(
    client: FlaskClient, headers: int, status: int
) -> None:
    head = 'Content-Disposition: form-data; name="a"\r\n' + "A: b\r\n" * headers
    data, kind = f"--x\r\n{head}\r\n1\r\n--x--", "multipart/form-data; boundary=x"
    answer = client.post("/admin/threads/import", data=data, content_type=kind)
    assert answer.status_code == status


@pytest.mark.parametrize(("path", "size"), [("sign-in", 16_000), ("threads/import", 400_000)])
def test_the_parts_of_a_file_form_are_counted_before_their_heads_are_read(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, size: int
) -> None:
    looked_at = []

    class Counted:
        def search(self, data: bytes, start: int, end: int) -> re.Match[bytes] | None:
            looked_at.append(end - start)
            return blank_line.search(data, start, end)

    blank_line = forms._BLANK_LINE
    monkeypatch.setattr(forms, "_BLANK_LINE", Counted())
    block, kind = b"--x\n" * 900 + b"\n", "multipart/form-data; boundary=x"
    data = block * (size // len(block))
    assert client.post(f"/admin/{path}", data=data, content_type=kind).status_code == 413
    assert sum(looked_at) <= len(data)


@pytest.mark.parametrize("size", [3_000, 100_000])
def test_what_comes_back_without_a_valid_token_is_a_screen(client: FlaskClient, size: int) -> None:
    form = {"csrf_token": "wrong", "content": "'" * (size // 3), "role": "user"}
    answer = client.post("/admin/threads", data=form)
    assert answer.status_code == 400
    assert ("&#39;" * 100 in answer.text) == (size == 3_000)
    assert len(answer.data) < 30_000


def sign_in(app: Flask, client: FlaskClient) -> None:
    """Sign in with a new key, which is revoked afterwards: the cookie stays."""
    with app.app_context():
        secret = api_keys.create("ours", "", None)
        app.extensions["keys"]._read_at = float("-inf")
        form = {"csrf_token": token_in(client.get("/admin/sign-in").text), "key": secret}
        assert client.post("/admin/sign-in", data=form).status_code == 303
        api_keys.revoke(secret)
    app.extensions["keys"]._read_at = float("-inf")


def send_parts(client: FlaskClient, path: str, texts: dict[str, str | list[str]]) -> TestResponse:
    """Send a form as Chrome frames it."""
    boundary = f"----WebKitFormBoundary{'x' * 16}"
    boundary, data = encode_multipart({"csrf_token": "x" * 91} | texts, boundary=boundary)
    return client.post(path, data=data, content_type=f"multipart/form-data; boundary={boundary}")


ROWS = {"key": [""] * 16, "value": [""] * 16}
ASSISTANT = dict.fromkeys(
    ("id", "description", "tools", "temperature", "top_p", "reasoning_effort"), ""
)
ASSISTANT |= {"name": "Tutor", "model": "gpt-4o", "instructions": "Be brief." * 40}


@pytest.mark.parametrize(
    ("path", "texts", "typed"),
    [
        ("/admin/assistants", ASSISTANT | {"response_format": "auto"}, "Be brief." * 40),
        (
            "/admin/threads/thread_a/messages",
            {"role": "user", "content": "語" * 1_300},
            "語" * 1_300,
        ),
    ],
)
def test_a_short_form_comes_back_to_anybody_however_large_its_frame_is(
    keyed: FlaskClient, path: str, texts: dict[str, Any], typed: str
) -> None:
    answer = send_parts(keyed, path, texts | ROWS)
    assert answer.status_code == 401
    assert f">\n{typed}</textarea>" in answer.text


@pytest.mark.parametrize("length", [5_000, 15_000, 60_000])
def test_a_longer_form_comes_back_to_whoever_had_signed_in(
    app: Flask, keyed: FlaskClient, length: int
) -> None:
    path, texts = "/admin/threads", {"role": "user", "content": "a" * length} | ROWS
    refused = send_parts(keyed, path, texts)
    assert (refused.status_code, len(refused.data) <= 4_096) == (401, True)
    sign_in(app, keyed)
    answer = send_parts(keyed, path, texts)
    assert (answer.status_code, f">\n{'a' * length}</textarea>" in answer.text) == (401, True)


def test_a_huge_form_is_not_read_for_whoever_had_signed_in(app: Flask, keyed: FlaskClient) -> None:
    sign_in(app, keyed)
    body = Body(16_000_000)
    answer = send(keyed, "/admin/threads", body)
    assert (answer.status_code, body.left) == (401, body.size)
    assert len(answer.data) <= 4_096


def test_the_longest_form_of_all_is_stored(client: FlaskClient) -> None:
    wide = "\U0001f642"
    pairs = [f"{number:02}" + wide * 62 for number in range(fields.MAX_METADATA_PAIRS)]
    form = {
        "role": "user",
        "content": wide * MAX_TEXT_CHARACTERS,
        "key": pairs,
        "value": [wide * fields.MAX_METADATA_VALUE_CHARACTERS] * len(pairs),
    }
    page = client.get("/admin/threads/new").text
    assert submit_form(client, page, "/admin/threads", form).status_code == 303


def test_a_form_in_the_longest_coding_takes_bounded_memory(client: FlaskClient) -> None:
    data = f"csrf_token={token(client)}&role=user&content=".encode()
    data += b"%F0%9F%99%82" * ((MAX_FORM_BYTES - len(data)) // 12)
    tracemalloc.start()
    answer = client.post("/admin/threads", data=data, content_type=ENCODED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.status_code, peak < 110_000_000) == (303, True)


def test_a_faulty_key_of_any_length_is_marked(client: FlaskClient) -> None:
    form: dict[str, Any] = {"csrf_token": token(client), "role": "user", "content": "x"}
    answer = client.post("/admin/threads", data=form | {"key": "k" * 900, "value": "v"})
    assert answer.status_code == 400
    assert 'class="fault" id="fault-1-key"' in answer.text


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("", "v")], {"1-key": "Give this value a key."}),
        (
            [("same", "1"), ("other", "2"), ("same", "3")],
            dict.fromkeys(("1-key", "3-key"), "This key is given twice."),
        ),
        ([("fine", "1"), ("long", "v" * 513)], {"2-value": "maximum length 512"}),
        (
            [("k" * 65, "v" * 513)],
            {"1-key": "maximum length 64", "1-value": "maximum length 512"},
        ),
        (
            [("same", "v" * 513), ("same", "1")],
            {"1-key": "twice", "1-value": "maximum length 512", "2-key": "twice"},
        ),
    ],
)
def test_each_fault_of_metadata_is_told_at_its_own_field(
    client: FlaskClient, pairs: list[tuple[str, str]], told: dict[str, str]
) -> None:
    form: dict[str, Any] = {"csrf_token": token(client), "role": "user", "content": "x"}
    form |= {"key": [key for key, _ in pairs], "value": [value for _, value in pairs]}
    answer = client.post("/admin/threads", data=form)
    assert answer.status_code == 400
    faults = dict(re.findall(r'<p class="fault" id="fault-([\w-]+)">([^<]+)<', answer.text))
    assert faults.keys() == told.keys()
    assert all(sentence in faults[place] for place, sentence in told.items())
    assert answer.text.count('aria-invalid="true"') == len(told)
    assert client.get("/v1/threads").json["data"] == []


def test_a_form_tells_the_limits_of_the_api(client: FlaskClient) -> None:
    page = client.get("/admin/threads/new").text
    for limit in (64, 512, 256_000):
        assert f'data-limit="{limit}"' in page
    assert "Up to 16 pairs: a key of at most 64 characters, a value of at most 512." in page
    assert page.count('name="key"') == 16


@pytest.mark.parametrize("failure", [None, refusals.busy(), RuntimeError("broken")], ids=repr)
def test_a_large_form_is_in_memory_only_in_its_place(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    place, was_free = waits.Places(1), []

    def store(*_: Any) -> list[Any]:
        was_free.append(has_free(place))
        if failure:
            raise failure
        return []

    monkeypatch.setattr(request_body, "_PLACES", place)
    monkeypatch.setattr(waits, "PLACE_SECONDS", 0)
    monkeypatch.setattr(imports, "import_bytes", store)
    values = {"csrf_token": token(client), "lines": "x" * 100_000, "on_conflict": "skip"}
    answer = client.post("/admin/threads/import", data=values)
    assert answer.status_code == (getattr(failure, "status", 500) if failure else 200)
    assert was_free == [False]
    assert has_free(place)


def has_free(places: waits.Places) -> bool:
    """Return whether a place is free."""
    try:
        places.take()
    except ApiError:
        return False
    places.give_back()
    return True
