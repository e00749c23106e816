"""The four operations on threads."""

from flask.testing import FlaskClient


def test_create_without_a_body_is_an_empty_thread(client: FlaskClient) -> None:
    answer = client.post("/v1/threads")
    assert answer.status_code == 200
    assert list(answer.json) == ["id", "object", "created_at", "metadata", "tool_resources"]
    assert answer.json["metadata"] == {}
    assert answer.json["tool_resources"] == {}
