"""Open mode: only this machine may call, and no foreign web page may change anything."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

OWN = "http://localhost"
TOOL = "https://tool.example"
FOREIGN = [
    pytest.param({"Origin": "https://evil.example"}, id="foreign-origin"),
    pytest.param({"Origin": "null"}, id="null-origin"),
    pytest.param({"Origin": ""}, id="empty-origin"),
    pytest.param({"Origin": "http://localhost:3000"}, id="another-port"),
    pytest.param({"Origin": "https://localhost"}, id="another-scheme"),
    pytest.param({"Origin": "http://localhost.evil.example"}, id="own-name-as-prefix"),
    pytest.param({"Sec-Fetch-Site": "cross-site"}, id="cross-site"),
    pytest.param({"Sec-Fetch-Site": "same-site"}, id="same-site"),
    pytest.param({"Sec-Fetch-Site": ""}, id="empty-site"),
    pytest.param({"Origin": OWN, "Sec-Fetch-Site": "cross-site"}, id="own-origin-cross-site"),
    pytest.param({"Origin": TOOL, "Sec-Fetch-Site": "none"}, id="foreign-origin-no-site"),
]


def refusal(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, answer.json["error"]["code"]


# Host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.8.9.10",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_a_host_that_names_this_machine_is_served(client: FlaskClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/threads/thread_a", "/healthz", "/docs", "/nowhere"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.5",
        "0.0.0.0",
        "[::]",
        "[::1",
        "2130706433",
        "",
        " ",
        'evil"><script>',
    ],
)
def test_any_other_host_is_400(client: FlaskClient, host: str, path: str) -> None:
    assert refusal(client.get(path, headers={"Host": host})) == (400, "invalid_host")


@pytest.mark.parametrize("host", ["box.lan", "box.lan:8000", "BOX.lan", "[fd00::1]:8000"])
def test_a_trusted_host_is_served(client_with: Callable[..., FlaskClient], host: str) -> None:
    client = client_with(TRUSTED_HOSTS=["Box.lan", "fd00::1"])
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["sub.box.lan", "evilbox.lan", "box.lan.evil.example"])
def test_a_trusted_host_names_no_other(client_with: Callable[..., FlaskClient], host: str) -> None:
    client = client_with(TRUSTED_HOSTS=["box.lan"])
    assert refusal(client.get("/healthz", headers={"Host": host})) == (400, "invalid_host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_trusted_hosts_leave_this_machine_trusted(
    client_with: Callable[..., FlaskClient], host: str
) -> None:
    client = client_with(TRUSTED_HOSTS=["box.lan"])
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


# foreign pages


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/threads"),
        ("POST", "/threads/thread_a"),
        ("DELETE", "/v1/threads/thread_a"),
        ("PUT", "/v1/threads/thread_a"),
        ("POST", "/nowhere"),
    ],
)
def test_a_foreign_page_may_not_change_anything(
    client: FlaskClient, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = client.open(path, method=method, headers=headers)
    assert refusal(answer) == (403, "foreign_origin")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("headers", FOREIGN)
def test_a_foreign_origin_does_not_stop_reading(
    client: FlaskClient, method: str, headers: dict[str, str]
) -> None:
    path = f"/v1/threads/{client.post('/v1/threads').json['id']}"
    assert client.open(path, method=method, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": OWN},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": OWN, "Sec-Fetch-Site": "same-origin"},
        {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"},
        {"Host": "[::1]:8000", "Origin": "http://[::1]:8000"},
        {"sec-fetch-mode": "cors", "accept-language": "*"},
    ],
    ids=str,
)
def test_an_own_page_and_an_sdk_may_change(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/threads", headers=headers).status_code == 200


def test_an_origin_of_cors_origins_may_change(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(CORS_ORIGINS=[TOOL])
    headers = {"Origin": TOOL, "Sec-Fetch-Site": "cross-site"}
    assert client.post("/v1/threads", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": f"{TOOL}.evil.example"},
        {"Origin": f"{TOOL}:444"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_cors_origins_admit_no_other(
    client_with: Callable[..., FlaskClient], headers: dict[str, str]
) -> None:
    client = client_with(CORS_ORIGINS=[TOOL])
    assert refusal(client.post("/v1/threads", headers=headers)) == (403, "foreign_origin")


# proxies


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Forwarded": "for=192.0.2.1"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Host": "localhost"},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Port": "443"},
        {"X-Forwarded-Prefix": "/x"},
        {"X-Forwarded-For": ""},
    ],
    ids=str,
)
def test_a_forwarded_request_is_403(
    client: FlaskClient, method: str, headers: dict[str, str]
) -> None:
    answer = client.open("/v1/threads/thread_a", method=method, headers=headers)
    assert refusal(answer) == (403, "forwarded_request")


# keys


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer any"},
        {"Authorization": "Bearer"},
        {"Authorization": ""},
        {"Authorization": "Basic Og=="},
        {"Authorization": "\xff\xfe"},
        {"OpenAI-Beta": "assistants=v2"},
        {"OpenAI-Organization": "org", "OpenAI-Project": "proj"},
    ],
    ids=str,
)
def test_any_authorization_or_none_is_accepted(
    client: FlaskClient, headers: dict[str, Any]
) -> None:
    assert client.post("/v1/threads", headers=headers).status_code == 200


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
def test_an_encoded_slash_never_reaches_another_address(client: FlaskClient, slash: str) -> None:
    thread = client.post("/v1/threads").json["id"]
    answer = client.post(f"/v1/threads/{thread}{slash}copy")
    assert (answer.status_code, answer.json["error"]["code"]) == (404, None)
    assert len(client.get("/v1/threads").json["data"]) == 1
    assert client.get("/v1/threads?metadata[a]=b%2Fc").status_code == 200
