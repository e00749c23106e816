"""Each request has its own data, in any context."""

import pytest
from conftest import bearer
from flask import Flask

from web.request import current


@pytest.mark.usefixtures("app")
def test_two_requests_in_one_app_context_share_nothing(app: Flask, new_key) -> None:  # type: ignore[no-untyped-def]
    keys = {project: new_key(project) for project in ("ours", "theirs")}
    with app.app_context():
        client = app.test_client()
        answers = [
            client.post("/threads", json={"metadata": {"of": name}}, headers=bearer(key))
            for name, key in keys.items()
        ]
        assert [answer.json["metadata"]["of"] for answer in answers] == ["ours", "theirs"]
        assert len({answer.headers["x-request-id"] for answer in answers}) == 2
        for key, own in zip(keys.values(), answers, strict=True):
            [thread] = client.get("/threads", headers=bearer(key)).json["data"]
            assert thread == own.json


def test_a_request_is_known_by_its_own_class(app: Flask) -> None:
    with app.test_request_context("/threads"):
        assert current().request_id == ""
        assert current().project == "default"
