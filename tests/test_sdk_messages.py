"""The official Python SDK on messages and lists: types, auto-pagination, sync and async."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import pytest
from conftest import Server
from openai import NotFoundError, OpenAI
from openai.pagination import SyncCursorPage
from openai.types.beta import Thread
from openai.types.beta.threads import Message

COUNTS = (0, 1, 20, 21, 100, 1000)
LIMITS = (1, 7, 20, 100)
REQUESTS = 1000 if os.environ.get("TEST_MATRIX") == "whole" else 21
"""The suite leaves out what takes more requests than this; TEST_MATRIX=whole leaves out nothing."""
CASES = [(number, limit) for number in COUNTS for limit in LIMITS if number <= limit * REQUESTS]


def texts(number: int) -> list[str]:
    return [str(turn) for turn in range(number)]


def bodies(number: int) -> Any:
    return [{"role": "user", "content": text} for text in texts(number)]


def text_of(message: Message) -> str:
    (part,) = message.content
    assert part.type == "text"
    return part.text.value


@pytest.fixture(scope="module")
def threads(sdk: OpenAI) -> dict[int, str]:
    """Threads by their number of messages."""
    return {number: sdk.beta.threads.create(messages=bodies(number)).id for number in COUNTS}


@pytest.fixture(scope="class")
def busy(server: Server, threads: dict[int, str]) -> Iterator[None]:
    """Two other clients insert and delete: in other threads, and at the tail of the same ones."""
    with others(server, list(threads.values())):
        yield


@contextmanager
def others(server: Server, watched: list[str]) -> Iterator[None]:
    """Keep two clients writing until the end of the block, then see that none had failed."""
    done, failures = threading.Event(), []
    tails: list[tuple[str, str]] = []

    def in_another_thread(sdk: OpenAI) -> None:
        thread = sdk.beta.threads.create(messages=bodies(3)).id
        message = sdk.beta.threads.messages.create(thread, role="user", content="other")
        sdk.beta.threads.messages.delete(message.id, thread_id=thread)
        sdk.beta.threads.delete(thread)

    turns = count()

    def at_the_tail(sdk: OpenAI) -> None:
        thread = watched[next(turns) % len(watched)]
        message = sdk.beta.threads.messages.create(thread, role="assistant", content="tail")
        tails.append((thread, message.id))
        sdk.beta.threads.messages.delete(message.id, thread_id=thread)

    def until_done(work: Callable[[OpenAI], None]) -> None:
        try:
            with server.sdk() as sdk:
                while not done.is_set():
                    # Between two tests pytest sets its filters anew, the strictest one first.
                    with suppress(DeprecationWarning):
                        work(sdk)
        except Exception as error:
            failures.append(error)

    works = (in_another_thread, at_the_tail)
    writers = [threading.Thread(target=until_done, args=(work,)) for work in works]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert failures == []
    assert tails


def check(messages: list[Message], number: int, order: str) -> None:
    """What was written is all there, once, in order; only the tail may have more."""
    assert len({message.id for message in messages}) == len(messages)
    lasting = [text_of(message) for message in messages if text_of(message) != "tail"]
    assert lasting == (texts(number) if order == "asc" else texts(number)[::-1])


@pytest.mark.usefixtures("busy")
class TestWhileOthersWrite:
    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize(("number", "limit"), CASES)
    def test_auto_pagination_returns_exactly_what_was_written(
        self, sdk: OpenAI, threads: dict[int, str], number: int, limit: int, order: Any
    ) -> None:
        pages = sdk.beta.threads.messages.list(threads[number], limit=limit, order=order)
        check(list(pages), number, order)

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize(("number", "limit"), CASES)
    def test_async_auto_pagination_returns_exactly_what_was_written(
        self, server: Server, threads: dict[int, str], number: int, limit: int, order: Any
    ) -> None:
        async def read() -> list[Message]:
            async with server.async_sdk() as sdk:
                pages = sdk.beta.threads.messages.list(threads[number], limit=limit, order=order)
                return [message async for message in pages]

        check(asyncio.run(read()), number, order)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_loop_over_messages_that_deletes_each_deletes_all(
    sdk: OpenAI, limit: int, order: Any
) -> None:
    thread = sdk.beta.threads.create(messages=bodies(23)).id
    for message in sdk.beta.threads.messages.list(thread, limit=limit, order=order):
        sdk.beta.threads.messages.delete(message.id, thread_id=thread)
    assert sdk.beta.threads.messages.list(thread).data == []


def list_threads(sdk: OpenAI, **query: Any) -> SyncCursorPage[Thread]:
    page = SyncCursorPage[Thread]
    return sdk.get_api_list("/threads", model=Thread, page=page, options={"params": query})


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_loop_over_threads_that_deletes_each_deletes_all(
    sdk: OpenAI, limit: int, order: str
) -> None:
    mine = {"loop": f"{limit} {order}"}
    for _ in range(15):
        sdk.beta.threads.create(metadata=mine)
    for thread in list_threads(sdk, limit=limit, order=order, metadata=mine):
        sdk.beta.threads.delete(thread.id)
    assert list_threads(sdk, metadata=mine).data == []


@pytest.mark.parametrize("limit", LIMITS)
def test_list_of_threads_pages_through_its_filter(sdk: OpenAI, limit: int) -> None:
    mine = {"user": f"u{limit}", "né'": 'a "b"&c'}
    threads = []
    for turn in range(21):
        message: Any = {"role": "user", "content": f"needle {turn % 2}"}
        threads.append(sdk.beta.threads.create(metadata=mine, messages=[message]))
        sdk.beta.threads.create(metadata={"user": f"u{limit}"})
    assert list(list_threads(sdk, limit=limit, metadata=mine)) == threads[::-1]
    assert list(list_threads(sdk, limit=limit, metadata=mine, q="needle 1")) == threads[-2::-2]


def test_message_is_what_the_sdk_says_it_is(sdk: OpenAI) -> None:
    thread = sdk.beta.threads.create().id
    attached: Any = [{"file_id": "file-1", "tools": [{"type": "file_search"}]}]
    content: Any = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://e.x/i.png"}},
    ]
    message = sdk.beta.threads.messages.create(
        thread, role="user", content=content, attachments=attached, metadata={"k": "v"}
    )
    assert isinstance(message, Message)
    assert message.model_extra == {}
    assert message.status == "completed"
    assert sdk.beta.threads.messages.retrieve(message.id, thread_id=thread) == message
    changed = sdk.beta.threads.messages.update(message.id, thread_id=thread, metadata={"k": "w"})
    assert changed == message.model_copy(update={"metadata": {"k": "w"}})
    cleared = sdk.beta.threads.messages.update(message.id, thread_id=thread, metadata=None)
    assert cleared.metadata == {}
    deleted = sdk.beta.threads.messages.delete(message.id, thread_id=thread)
    assert deleted.to_dict() == {
        "id": message.id,
        "object": "thread.message.deleted",
        "deleted": True,
    }
    with pytest.raises(NotFoundError, match="No message found with id"):
        sdk.beta.threads.messages.retrieve(message.id, thread_id=thread)
