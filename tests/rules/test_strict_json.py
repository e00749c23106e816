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
