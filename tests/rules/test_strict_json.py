"""Strict JSON: the work is in proportion to the body."""

import pytest
from flask.testing import FlaskClient
from sentences import refusal_of


@pytest.mark.timeout(60)
def test_a_duplicate_key_among_very_many_is_named(client: FlaskClient) -> None:
    """Work that grows with the square of the keys does not end within the minute."""
    keys = [b'"key%d":1' % number for number in range(300_000)]
    body = b"{" + b",".join([*keys, b'"key299999":2', b'"key299998":2']) + b"}"
    answer = client.post("/threads", data=body, content_type="application/json")
    sentence = (
        "Invalid body: duplicate JSON key 'key299998'. Duplicate JSON keys are not supported."
    )
    assert refusal_of(answer) == (sentence, None, "invalid_request_error")


@pytest.mark.parametrize("value", [b"0", b"[]", b"{}", b'"a"', b'"\\""'])
def test_a_body_of_very_many_values_is_refused(client: FlaskClient, value: bytes) -> None:
    body = b'{"metadata":[' + b",".join([value] * 500_001) + b"]}"
    answer = client.post("/threads", data=body, content_type="application/json")
    sentence = "Invalid body: it holds more than 500,000 values."
    assert refusal_of(answer) == (sentence, None, "invalid_request_error")


def test_signs_in_a_text_are_no_values(client: FlaskClient) -> None:
    messages = [{"role": "user", "content": 'a,"[{\\' * 40_000} for _ in range(6)]
    assert client.post("/threads", json={"messages": messages}).status_code == 200
