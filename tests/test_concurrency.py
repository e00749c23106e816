"""Many clients at once over two workers: nothing fails, is stored in part or is lost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from openai import NotFoundError, OpenAI

import database
from models import Message, Thread

CLIENTS = 8
CREATES = 100
MODIFIES_EACH = 25
DYING_THREADS = 20
TEXTS = ("first", "second", "third")


@pytest.fixture
def sdk(serve: Callable[..., Any], database_url: str) -> Iterator[OpenAI]:
    """A client of a server with two workers, on the file that `app` reads."""
    with serve(WORKERS=2, DATABASE_URL=database_url) as server, server.sdk() as sdk:
        yield sdk


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CLIENTS) as clients:
        yield clients


def test_parallel_creates_store_every_thread_with_all_its_messages_in_order(
    sdk: OpenAI, clients: ThreadPoolExecutor, app: Flask
) -> None:
    def create(number: int) -> str:
        messages = [{"role": "user", "content": f"{text} of {number}"} for text in TEXTS]
        return sdk.beta.threads.create(messages=messages).id

    acknowledged = dict(zip(clients.map(create, range(CREATES)), range(CREATES), strict=True))
    rows = sa.select(Thread.id, Message.content).outerjoin(Message).order_by(Message.seq)
    with app.app_context(), database.read() as connection:
        contents_of: dict[str, list[str]] = {}
        for thread_id, content in connection.rows(rows):
            contents_of.setdefault(thread_id, []).append(content)
    assert contents_of.keys() == acknowledged.keys()
    for thread_id, contents in contents_of.items():
        expected = [f'"value":"{text} of {acknowledged[thread_id]}"' for text in TEXTS]
        assert len(contents) == len(expected)
        assert all(want in content for want, content in zip(expected, contents, strict=True))


def test_concurrent_modifies_of_different_fields_never_undo_each_other(
    sdk: OpenAI, clients: ThreadPoolExecutor
) -> None:
    thread = sdk.beta.threads.create(
        metadata={"by": "start"}, tool_resources={"code_interpreter": {"file_ids": ["start"]}}
    )

    def modify(client: int) -> str:
        for turn in range(MODIFIES_EACH):
            mark = f"{client}-{turn}"
            if client % 2:
                answer = sdk.beta.threads.update(thread.id, metadata={"by": mark})
                assert answer.metadata == {"by": mark}
            else:
                files = {"code_interpreter": {"file_ids": [mark]}}
                answer = sdk.beta.threads.update(thread.id, tool_resources=files)
                assert answer.tool_resources.code_interpreter.file_ids == [mark]
            assert answer.metadata
            assert answer.tool_resources.code_interpreter
        return mark

    last = list(clients.map(modify, range(CLIENTS)))
    result = sdk.beta.threads.retrieve(thread.id)
    assert result.metadata["by"] in last[1::2]
    assert result.tool_resources.code_interpreter.file_ids[0] in last[0::2]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_concurrent_modifies_of_an_assistant_never_undo_each_other(
    sdk: OpenAI, clients: ThreadPoolExecutor
) -> None:
    assistant = sdk.beta.assistants.create(model="m", name="start", description="start")

    def modify(client: int) -> str:
        field = ("name", "description")[client % 2]
        for turn in range(MODIFIES_EACH):
            mark = f"{client}-{turn}"
            changed: Any = {field: mark}
            answer = sdk.beta.assistants.update(assistant.id, **changed)
            assert getattr(answer, field) == mark
        return mark

    last = list(clients.map(modify, range(CLIENTS)))
    result = sdk.beta.assistants.retrieve(assistant.id)
    assert (result.name in last[0::2], result.description in last[1::2]) == (True, True)


def test_a_modify_that_races_a_delete_succeeds_or_finds_nothing(
    sdk: OpenAI, clients: ThreadPoolExecutor
) -> None:
    threads = [sdk.beta.threads.create().id for _ in range(DYING_THREADS)]

    def act(turn: int) -> None:
        thread_id = threads[turn // 4]
        try:
            if turn % 4 == 1:
                assert sdk.beta.threads.delete(thread_id).deleted
            else:
                sdk.beta.threads.update(thread_id, metadata={"turn": str(turn)})
        except NotFoundError:
            assert turn % 4 != 1

    list(clients.map(act, range(4 * DYING_THREADS)))
    for thread_id in threads:
        with pytest.raises(NotFoundError):
            sdk.beta.threads.retrieve(thread_id)
