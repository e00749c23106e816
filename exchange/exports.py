"""Exports: threads as lines of the exchange format, or as Markdown."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any

import orjson
import sqlalchemy as sa

import database
from models import Message
from rules.errors import ApiError
from store import lists, messages, threads
from store.objects import Object, decoded, message_object

_THREADS_A_PAGE = 100
_MESSAGES_AT_ONCE = 500
_SPOOL_BYTES = 8 << 20
_PIECE_BYTES = 64 << 10
_NOT_FOUND = 404
_IN_THREAD = Message.thread_seq == sa.bindparam("seq")
_OF_THREAD = sa.select(*messages.COLUMNS).where(_IN_THREAD).order_by(Message.seq)

Render = Callable[[Object, Iterable[Object]], Iterator[bytes]]


def export(project: str, query: dict[str, Any], render: Render) -> Iterator[Iterator[bytes]]:
    """Yield each thread that meets a list query, oldest first, as pieces of bytes.

    A thread and its messages are of one moment; one deleted since its page was read is left out.
    Raises ApiError 503 when the database is busy or away.
    """
    for thread_id in _ids(project, query):
        pieces = export_thread(project, thread_id, render)
        try:
            first = next(pieces)
        except ApiError as refusal:
            if refusal.status != _NOT_FOUND:
                raise
        else:
            yield chain([first], pieces)


def export_thread(project: str, thread_id: str, render: Render) -> Iterator[bytes]:
    """Yield one thread as pieces of bytes. Raises ApiError 404 before the first.

    It is read whole in a short transaction, so that no slow reader holds a snapshot open; what is
    large waits in a temporary file.
    """
    with SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        with database.snapshot() as connection:
            thread = threads.find_thread(connection, project, thread_id)
            seq = messages.find_thread_seq(connection, project, thread_id)
            batches = connection.batches(_OF_THREAD, {"seq": seq}, _MESSAGES_AT_ONCE)
            objects = (message_object(row, thread_id) for rows in batches for row in rows)
            spool.writelines(render(thread, objects))
        spool.seek(0)
        while piece := spool.read(_PIECE_BYTES):
            yield piece


def as_jsonl(thread: Object, messages: Iterable[Object]) -> Iterator[bytes]:
    """Yield one line of the exchange format, piece by piece."""
    yield b'{"thread":' + orjson.dumps(thread) + b',"messages":['
    comma = b""
    for message in messages:
        yield comma + orjson.dumps(message)
        comma = b","
    yield b"]}\n"


def as_markdown(thread: Object, messages: Iterable[Object]) -> Iterator[bytes]:
    """Yield a thread as a Markdown document with one heading a message."""
    thread = decoded(thread)
    pairs = "".join(f"- {key}: {value}\n" for key, value in thread["metadata"].items())
    yield f"# {thread['id']}\n\n- created: {_time(thread['created_at'])}\n{pairs}\n".encode()
    for message in map(decoded, messages):
        parts = [_part_as_markdown(part) for part in message["content"]]
        parts += [f"*Attached: {each['file_id']}*" for each in message["attachments"]]
        heading = f"## {message['role']}, {_time(message['created_at'])}"
        yield "\n\n".join([heading, *parts, ""]).encode()


RENDERS: dict[str, Render] = {"jsonl": as_jsonl, "markdown": as_markdown}


def _ids(project: str, query: dict[str, Any]) -> Iterator[str]:
    page = lists.Page([], True)
    filters = {name: value for name, value in query.items() if name not in ("after", "before")}
    query = filters | {"limit": _THREADS_A_PAGE, "order": "asc"}
    while page.has_more:
        with database.snapshot() as connection:
            page = lists.list_threads(connection, project, query)
        for thread in page.objects:
            yield thread["id"]
            query["after"] = thread["id"]


def _part_as_markdown(part: dict[str, Any]) -> str:
    match part["type"]:
        case "text":
            return str(part["text"]["value"])
        case "refusal":
            return f"*Refused: {part['refusal']}*"
        case "image_url":
            return f"*Image: {part['image_url']['url']}*"
    return f"*Image: {part['image_file']['file_id']}*"


def _time(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"
