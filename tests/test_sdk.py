"""The official SDK, unmodified, against a live server; every answer is checked by its models."""

import asyncio
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Server, serving
from flask import Flask
from openai import APIStatusError, AsyncOpenAI, AzureOpenAI, BadRequestError, NotFoundError, OpenAI

import database
from app import create_app
from models import DEFAULT_PROJECT, Message, Thread, db

PREFIXES = pytest.mark.parametrize("prefix", ["", "/v1"], ids=["root", "v1"])
EXAMPLES = Path(__file__).parent / "documentation_examples"
MISSING = "thread_missing"
Stored = tuple[Server, Flask]
TEXT = {"type": "text", "text": "hello"}
IMAGE_FILE = {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}}
IMAGE_URL = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
ATTACHMENT = {"file_id": "file-1", "tools": [{"type": "file_search"}]}


@pytest.fixture(scope="module")
def stored(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """A server, and an app on the same file for what the API cannot do."""
    folder = tmp_path_factory.mktemp("stored")
    url = f"sqlite:///{shutil.copy(migrated, folder)}"
    app = create_app({"DATABASE_URL": url})
    with serving(folder / "log", DATABASE_URL=url) as server:
        yield server, app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def documented(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], dict[str, Any]]:
    """Run a documented example against a server that stores `thread_abc123`."""
    server, app = stored
    row = {"project": DEFAULT_PROJECT, "id": "thread_abc123", "created_at": 1}
    values = row | {"metadata": "{}", "tool_resources": "{}"}
    with app.app_context():
        database.write(lambda connection: connection.change(sa.delete(Thread)))
        database.write(lambda connection: connection.change(sa.insert(Thread), values))

    def run(name: str, prefix: str) -> dict[str, Any]:
        monkeypatch.setenv("OPENAI_BASE_URL", server.root_url + prefix)
        names = {"file": SimpleNamespace(id="file-abc123")}
        variables = runpy.run_path(str(EXAMPLES / f"{name}.py"), init_globals=names)
        variables["client"].close()
        return variables

    monkeypatch.setenv("OPENAI_API_KEY", "any")
    return run


@PREFIXES
def test_the_documented_create_runs_verbatim(documented: Any, stored: Stored, prefix: str) -> None:
    thread = documented("create", prefix)["thread"]
    statement = sa.select(Message.attachments).join(Thread).where(Thread.id == thread.id)
    with stored[1].app_context(), database.read() as connection:
        attachments = connection.value(statement)
    assert attachments == '[{"file_id":"file-abc123","tools":[{"type":"code_interpreter"}]}]'


@PREFIXES
def test_the_documented_retrieve_runs_verbatim(documented: Any, prefix: str) -> None:
    assert documented("retrieve", prefix)["my_thread"].id == "thread_abc123"


@PREFIXES
def test_the_documented_update_runs_verbatim(documented: Any, prefix: str) -> None:
    thread = documented("update", prefix)["my_updated_thread"]
    assert thread.metadata == {"modified": "true", "user": "abc123"}


@PREFIXES
def test_the_documented_delete_runs_verbatim(documented: Any, prefix: str) -> None:
    response = documented("delete", prefix)["response"]
    assert (response.id, response.deleted) == ("thread_abc123", True)


@PREFIXES
def test_the_four_operations_work_at_either_base_url(server: Server, prefix: str) -> None:
    with server.sdk() as sdk:
        threads = sdk.with_options(base_url=server.root_url + prefix).beta.threads
        thread = threads.create(metadata={"a": "1"})
        assert threads.retrieve(thread.id) == thread
        assert threads.update(thread.id, metadata={"a": "2"}).metadata == {"a": "2"}
        assert threads.delete(thread.id).deleted
        with pytest.raises(NotFoundError):
            threads.retrieve(thread.id)


@PREFIXES
def test_the_four_operations_work_with_the_async_client(server: Server, prefix: str) -> None:
    async def round_trip() -> None:
        async with AsyncOpenAI(
            base_url=server.root_url + prefix,
            api_key="any",
            max_retries=0,
            _strict_response_validation=True,
        ) as sdk:
            thread = await sdk.beta.threads.create(metadata={"a": "1"})
            assert await sdk.beta.threads.retrieve(thread.id) == thread
            changed = await sdk.beta.threads.update(thread.id, metadata={"a": "2"})
            assert changed.metadata == {"a": "2"}
            assert (await sdk.beta.threads.delete(thread.id)).deleted
            with pytest.raises(NotFoundError):
                await sdk.beta.threads.retrieve(thread.id)

    asyncio.run(round_trip())


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": [TEXT, IMAGE_FILE, IMAGE_URL]},
        {"role": "user", "content": "hello", "attachments": [ATTACHMENT]},
        {"role": "user", "content": "hello", "attachments": None, "metadata": None},
        {"role": "user", "content": "hello", "metadata": {"a": "1"}},
    ],
    ids=["user", "assistant", "parts", "attachments", "nulls", "metadata"],
)
def test_create_takes_every_message_shape_of_the_sdk(sdk: OpenAI, message: Any) -> None:
    assert sdk.beta.threads.create(messages=[message]).object == "thread"


def test_create_mints_an_id_for_a_vector_store(sdk: OpenAI) -> None:
    stores = {"file_search": {"vector_stores": [{"file_ids": ["file-1"]}]}}
    resources = sdk.beta.threads.create(tool_resources=stores).tool_resources
    assert resources.file_search.vector_store_ids[0].startswith("vs_")


def test_update_without_arguments_changes_nothing(sdk: OpenAI) -> None:
    thread = sdk.beta.threads.create(metadata={"a": "1"})
    assert sdk.beta.threads.update(thread.id) == thread


def test_update_with_null_metadata_empties_it(sdk: OpenAI) -> None:
    thread = sdk.beta.threads.create(metadata={"a": "1"})
    assert sdk.beta.threads.update(thread.id, metadata=None).metadata == {}


def test_update_with_null_tool_resources_empties_them(sdk: OpenAI) -> None:
    files = {"code_interpreter": {"file_ids": ["file-1"]}}
    thread = sdk.beta.threads.create(tool_resources=files)
    resources = sdk.beta.threads.update(thread.id, tool_resources=None).tool_resources
    assert resources.to_dict() == {}


def test_a_refused_value_is_a_bad_request_error_with_param_and_code(sdk: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        sdk.beta.threads.create(metadata={"a": 1})
    error = caught.value
    assert (error.param, error.code) == ("metadata.a", "invalid_type")
    assert error.type == "invalid_request_error"


def test_an_unknown_thread_is_a_not_found_error_in_the_hosted_words(sdk: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        sdk.beta.threads.retrieve(MISSING)
    error = caught.value
    assert str(error) == f"Error code: 404 - No thread found with id '{MISSING}'."
    assert (error.param, error.code, error.type) == (None, None, "invalid_request_error")


def test_an_error_carries_the_request_id(sdk: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        sdk.beta.threads.delete(MISSING)
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("status", "code", "method", "options"),
    [
        (405, "unsupported_operation", "PUT", {}),
        (413, "request_too_large", "POST", {"body": {"metadata": {"a": "x" * 16_777_216}}}),
        (
            415,
            "unsupported_media_type",
            "POST",
            {"body": {}, "options": {"headers": {"Content-Type": "text/plain"}}},
        ),
    ],
)
def test_any_other_refusal_is_an_api_status_error(
    sdk: OpenAI, status: int, code: str, method: str, options: Any
) -> None:
    send = {"POST": sdk.post, "PUT": sdk.put}[method]
    with pytest.raises(APIStatusError) as caught:
        send("/threads", cast_to=object, **options)
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.type == "invalid_request_error"
    assert error.request_id.startswith("req_")


def test_every_object_carries_its_request_id(sdk: OpenAI) -> None:
    thread = sdk.beta.threads.create()
    deleted = sdk.beta.threads.delete(thread.id)
    assert thread._request_id.startswith("req_")
    assert deleted._request_id.startswith("req_")
    assert thread._request_id != deleted._request_id


def test_extra_headers_are_accepted(sdk: OpenAI) -> None:
    headers = {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj_1", "X-Own": "1"}
    assert sdk.beta.threads.create(extra_headers=headers).object == "thread"


def test_a_raw_response_shows_the_standard_headers(sdk: OpenAI) -> None:
    raw = sdk.beta.threads.with_raw_response.create()
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-processing-ms"].isdigit()
    assert raw.headers["x-request-id"] == raw.parse()._request_id


def test_the_client_for_azure_works_with_its_api_version(server: Server) -> None:
    options = {"api_key": "any", "api_version": "2024-05-01-preview", "max_retries": 0}
    with AzureOpenAI(base_url=server.base_url, **options) as azure:
        thread = azure.beta.threads.create(messages=[{"role": "user", "content": "hello"}])
        [message] = azure.beta.threads.messages.list(thread.id)
    assert message.thread_id == thread.id
