"""The addresses of the API: prefixes, slashes, and what is not served here."""

from collections.abc import Callable

import pytest
from conftest import Server, bearer
from flask.testing import FlaskClient
from openai import AzureOpenAI
from sentences import refusal_of

PREFIXES = ("", "/v1", "/openai", "/openai/v1")
NOT_SERVED = ("/vector_stores", "/files/file-1", "/chat/completions", "/responses", "/embeddings")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_api_answers_below_each_prefix(client: FlaskClient, prefix: str) -> None:
    thread = client.post(f"{prefix}/threads?api-version=2024-05-01-preview").json["id"]
    messages = f"{prefix}/threads/{thread}/messages"
    assert client.post(messages, json={"role": "user", "content": "Hi"}).status_code == 200
    assert [each["thread_id"] for each in client.get(messages).json["data"]] == [thread]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_each_prefix_needs_a_key(
    client: FlaskClient, new_key: Callable[..., str], prefix: str
) -> None:
    key = new_key()
    assert client.get(f"{prefix}/threads").status_code == 401
    assert client.get(f"{prefix}/threads", headers=bearer(key)).status_code == 200


def test_an_azure_client_needs_its_endpoint_only(server: Server) -> None:
    options = {"api_key": "any", "api_version": "2024-05-01-preview", "max_retries": 0}
    with AzureOpenAI(azure_endpoint=server.root_url, **options) as sdk:
        thread = sdk.beta.threads.create(metadata={"a": "1"})
        assert sdk.beta.threads.retrieve(thread.id) == thread


def test_one_idempotency_key_holds_for_every_prefix(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "a"}
    ids = {client.post(f"{each}/threads", headers=headers).json["id"] for each in PREFIXES}
    assert len(ids) == 1


@pytest.mark.parametrize("path", ["/v1/threads/", "/v1//threads", "/v1//threads//", "/threads//"])
def test_slashes_too_many_change_nothing(client: FlaskClient, path: str) -> None:
    assert client.get(path).json["object"] == "list"


@pytest.mark.parametrize("path", ["/_mock//faults", "/_mock/faults/", "/admin//", "/healthz/"])
def test_other_addresses_have_one_form(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", NOT_SERVED)
def test_an_address_of_the_hosted_api_says_that_it_is_not_served(
    client: FlaskClient, prefix: str, path: str
) -> None:
    sentence = f"POST {prefix}{path} is not served here: see README, Differences."
    assert refusal_of(client.post(f"{prefix}{path}"), 404) == (sentence, None, "not_served")


@pytest.mark.parametrize("path", ["/v1/thread", "/file", "/threads/a/b", "/v2/files"])
def test_a_mistyped_address_does_not(client: FlaskClient, path: str) -> None:
    assert refusal_of(client.get(path), 404) == (f"Invalid URL (GET {path})", None, None)


# an empty array as the body


def test_an_empty_array_as_a_body_is_an_empty_object(client: FlaskClient) -> None:
    empty = {"data": " [] ", "content_type": "application/json"}
    thread = client.post("/threads", **empty).json["id"]
    message = {"role": "user", "content": "Hi"}
    message_id = client.post(f"/threads/{thread}/messages", json=message).json["id"]
    for path in ("", f"/messages/{message_id}", "/copy"):
        assert client.post(f"/threads/{thread}{path}", **empty).status_code == 200


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("[1]", "Invalid type: expected an object, but got an array instead."),
        ("[[]]", "Invalid type: expected an object, but got an array instead."),
        (
            '{"metadata": []}',
            "Invalid type for 'metadata': expected a metadata object, but got an array instead.",
        ),
    ],
)
def test_other_arrays_stay_refused(client: FlaskClient, body: str, sentence: str) -> None:
    answer = client.post("/threads", data=body, content_type="application/json")
    assert refusal_of(answer)[0] == sentence
