"""Exports: threads with their runs as lines of the exchange format, or as Markdown."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any

import orjson

import database
from lists.assistants import assistants_page
from lists.pages import Page
from lists.threads import threads_page
from rules.errors import ApiError
from runs.history import read_runs
from store import batches, threads
from store.objects import Object, decoded, message_object, thread_object

_SPOOL_BYTES = 256 << 10
_PIECE_BYTES = 64 << 10
_MESSAGES_AT_ONCE = 500
_OF_A_PAGE = ("after", "before", "sort")  # a thread that is active meanwhile stays in its place

Runs = Iterable[tuple[Object, Iterable[Object]]]
"""Run objects, each with its step objects."""
Render = Callable[[Object, Iterable[Object], Runs], Iterator[bytes]]
ListPage = Callable[[database.Connection, str, dict[str, Any]], Page]


def export(project: str, query: dict[str, Any], render: Render) -> Iterator[Iterator[bytes]]:
    """Return each thread of a list query as pieces of bytes, oldest first. Raises ApiError 503."""
    filters = {name: value for name, value in query.items() if name not in _OF_A_PAGE}
    ids = (thread["id"] for thread in _each(threads_page, project, filters))
    return export_named(project, ids, render)


def export_named(project: str, ids: Iterable[str], render: Render) -> Iterator[Iterator[bytes]]:
    """Yield each of the threads that still exist as pieces of bytes."""
    for thread_id in ids:
        pieces = export_thread(project, thread_id, render)
        try:
            first = next(pieces)
        except ApiError as refusal:
            if refusal.status != 404:  # deleted since its id was read
                raise
        else:
            yield chain([first], pieces)


def export_thread(project: str, thread_id: str, render: Render) -> Iterator[bytes]:
    """Yield one thread as pieces of bytes. Raises ApiError 404 before the first."""
    # The file keeps the transaction short: a slow client does not hold a snapshot open.
    with SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        with database.snapshot(is_long=True) as connection:
            # writelines() would hold all of it in memory.
            for piece in thread_pieces(connection, project, thread_id, render):
                spool.write(piece)
        spool.seek(0)
        while piece := spool.read(_PIECE_BYTES):
            yield piece


def thread_pieces(
    connection: database.Connection, project: str, thread_id: str, render: Render
) -> Iterator[bytes]:
    """Yield one thread as pieces of bytes, while a transaction reads it. Raises ApiError 404."""
    thread = threads.find_row(connection, project, thread_id)
    rows = batches.all_rows(connection, thread.seq, _MESSAGES_AT_ONCE)
    objects = (message_object(row, thread_id) for row in rows)
    runs = read_runs(connection, thread.seq, thread_id)
    yield from render(thread_object(thread), objects, runs)


def export_assistants(project: str) -> Iterator[bytes]:
    """Yield a line of the exchange format for each assistant, oldest first."""
    for assistant in _each(assistants_page, project, {}):
        yield b'{"assistant":' + orjson.dumps(assistant) + b"}\n"


def as_jsonl(thread: Object, messages: Iterable[Object], runs: Runs) -> Iterator[bytes]:
    """Yield one line of the exchange format, piece by piece; `runs` only where there are some."""
    yield b'{"thread":' + orjson.dumps(thread) + b',"messages":'
    yield from _array([orjson.dumps(message)] for message in messages)
    each = map(_run_as_json, runs)
    if first := next(each, None):
        yield b',"runs":'
        yield from _array(chain([first], each))
    yield b"}\n"


def as_markdown(thread: Object, messages: Iterable[Object], _: Runs) -> Iterator[bytes]:
    """Yield a thread as a Markdown document, with a heading for each message, without its runs."""
    thread = decoded(thread)
    pairs = "".join(f"- {key}: {value}\n" for key, value in thread["metadata"].items())
    yield f"# {thread['id']}\n\n- created: {_time(thread['created_at'])}\n{pairs}\n".encode()
    for message in map(decoded, messages):
        parts = [_part_as_markdown(part) for part in message["content"]]
        parts += [f"*Attached: {each['file_id']}*" for each in message["attachments"]]
        heading = f"## {message['role']}, {_time(message['created_at'])}"
        yield "\n\n".join([heading, *parts, ""]).encode()


RENDERS: dict[str, Render] = {"json": as_jsonl, "jsonl": as_jsonl, "markdown": as_markdown}
"""What renders a thread in each form; as_array() makes lines one JSON array."""
FILES = {
    "json": ("application/json", "json"),
    "jsonl": ("application/jsonl", "jsonl"),
    "markdown": ("text/markdown; charset=utf-8", "md"),
}
"""The content type and the suffix of each form."""


def as_array(threads: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    """Yield threads as one JSON array; each thread is the pieces of a line."""
    opening = b"["
    for pieces in threads:
        yield opening
        last = next(pieces)
        for piece in pieces:
            yield last
            last = piece
        yield last.rstrip(b"\n")
        opening = b",\n"
    yield b"[]\n" if opening == b"[" else b"]\n"


def _each(list_page: ListPage, project: str, filters: dict[str, Any]) -> Iterator[Object]:
    """Yield the objects of a list, oldest first, page by page."""
    page = Page([], True)
    query = filters | {"limit": 100, "order": "asc"}
    while page.has_more:
        with database.snapshot(is_long="q" in query) as connection:
            page = list_page(connection, project, query)
        for each in page.objects:
            yield each
            query["after"] = each["id"]


def _run_as_json(run: tuple[Object, Iterable[Object]]) -> Iterator[bytes]:
    """Yield a run object whose last key is `steps`, piece by piece."""
    yield orjson.dumps(run[0]).removesuffix(b"}") + b',"steps":'
    yield from _array([orjson.dumps(step)] for step in run[1])
    yield b"}"


def _array(items: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """Yield a JSON array of items, each of which comes in pieces."""
    opening = b"["
    for pieces in items:
        yield opening
        yield from pieces
        opening = b","
    yield b"]" if opening == b"," else b"[]"


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
