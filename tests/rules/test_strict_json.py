"""Strict JSON: the work is in proportion to the body."""

import json
import tracemalloc

import pytest
from flask.testing import FlaskClient
from sentences import refusal_of

from rules import strict_json
from rules.errors import ApiError


@pytest.mark.timeout(60)
def test_a_duplicate_key_among_very_many_is_named(client: FlaskClient) -> None:
    """Work that grows with the square of the keys does not end within the minute."""
    keys = [b'"key%d":1' % number for number in range(140_000)]
    body = b"{" + b",".join([*keys, b'"key139999":2', b'"key139998":2']) + b"}"
    answer = client.post("/threads", data=body, content_type="application/json")
    sentence = (
        "Invalid body: duplicate JSON key 'key139998'. Duplicate JSON keys are not supported."
    )
    assert refusal_of(answer) == (sentence, None, "invalid_request_error")


@pytest.mark.parametrize("value", [b"0", b"[]", b"{}", b'"a"', b'"\\""'])
def test_a_body_of_very_many_values_is_refused(client: FlaskClient, value: bytes) -> None:
    body = b'{"metadata":[' + b",".join([value] * 150_001) + b"]}"
    answer = client.post("/threads", data=body, content_type="application/json")
    sentence = "Invalid body: it holds more than 150,000 values."
    assert refusal_of(answer) == (sentence, None, "invalid_request_error")


def test_signs_in_a_text_are_no_values(client: FlaskClient) -> None:
    messages = [{"role": "user", "content": 'a,"[{\\' * 40_000} for _ in range(6)]
    assert client.post("/threads", json={"messages": messages}).status_code == 200


@pytest.mark.parametrize("text", ["," * 600_000, ",\\n" * 600_000])
def test_a_long_text_of_signs_takes_memory_in_proportion(text: str) -> None:
    data = f'{{"a":"{text}"}}'.encode()
    tracemalloc.start()
    strict_json.parse(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * len(data)


def test_one_rare_character_makes_no_large_body_larger() -> None:
    def peak(character: str) -> int:
        texts = ["x" * 2_000] * 1_000
        data = json.dumps([character, *texts], ensure_ascii=False).encode()
        tracemalloc.start()
        strict_json.parse(data)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak("💾") < 1.7 * peak("x")


def test_a_large_body_is_read_as_a_small_one() -> None:
    text, more = '"💾":["\\\\💾","é€💾\\ud83d\\ude00","\U0010ffff"]', "x" * 2_000_000
    small = strict_json.parse(f"{{{text}}}".encode())
    assert strict_json.parse(f'{{{text},"more":"{more}"}}'.encode()) == small | {"more": more}
    for bad in ("💾", '"\\💾"', '"\\ud83d💾"', '"💾\\ude00"'):
        with pytest.raises(ApiError, match="failed to parse"):
            strict_json.parse(f'[{bad},"{more}"]'.encode())
    for bytes_ in (b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80", b"\xe2\xf0\x9f\x92\xbe", b"\xf0\x9f"):
        with pytest.raises(ApiError, match="UTF-8"):
            strict_json.parse(b'["' + bytes_ + b'","' + more.encode() + b'"]')
