"""The exchange format (JSON Lines, one thread a line) in and out, and Markdown for people.

Each page is read, and each batch written, in a short transaction of its own, so that neither a
long export nor a long import holds up others.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from marshmallow import ValidationError

import database
import listing
import store
from body import parse_object
from database import Connection
from errors import ApiError, first_fault
from models import DEFAULT_PROJECT, Message, Thread
from schemas import ExportedThread
from wire import MESSAGE

_THREADS_A_PAGE = 100
_AT_ONCE = 500
_MESSAGES_A_BATCH = 500
_GONE = 404
_LINE = ExportedThread()
_OF_THREAD = (
    sa.select(MESSAGE.label("wired"))
    .join(Thread, Thread.seq == Message.thread_seq)
    .where(Thread.project == sa.bindparam("of_project"), Thread.id == sa.bindparam("thread_id"))
    .order_by(Message.seq)
)
_ABSENT_ON_HOSTED = {
    "status": "completed",
    "incomplete_details": None,
    "incomplete_at": None,
    "attachments": None,
}

Render = Callable[[str, Iterable[str]], Iterator[bytes]]


class Outcome(NamedTuple):
    """What became of one line: `imported`, `skipped`, `replaced`, or `refused` and why."""

    line: int
    result: str
    reason: str = ""


def export(project: str, query: dict[str, Any], render: Render) -> Iterator[list[bytes]]:
    """Yield each thread that meets a list query, oldest first, as rendered pieces of bytes.

    A thread and its messages are of one moment; one deleted since its page was read is left out.
    Raises ApiError 503 when the database is busy or away.
    """
    for thread_id in _ids(project, query):
        try:
            yield list(export_thread(project, thread_id, render))
        except ApiError as refusal:
            if refusal.code != _GONE:
                raise


def export_thread(project: str, thread_id: str, render: Render) -> Iterator[bytes]:
    """Return one thread as rendered pieces of bytes. Raises ApiError 404.

    It is read whole, in a short transaction, so that no slow reader holds a snapshot open.
    """
    with database.snapshot() as connection:
        thread = store.find_thread(connection, project, thread_id)
        key = {"of_project": project, "thread_id": thread_id}
        batches = connection.batches(_OF_THREAD, key, _AT_ONCE)
        return iter(list(render(thread, (row[0] for rows in batches for row in rows))))


def as_jsonl(thread: str, messages: Iterable[str]) -> Iterator[bytes]:
    """Yield one line of the exchange format, piece by piece."""
    yield f'{{"thread":{thread},"messages":['.encode()
    comma = ""
    for message in messages:
        yield f"{comma}{message}".encode()
        comma = ","
    yield b"]}\n"


def as_markdown(thread: str, messages: Iterable[str]) -> Iterator[bytes]:
    """Yield a thread as a Markdown document with one heading a message."""
    shown = orjson.loads(thread)
    pairs = "".join(f"- {key}: {value}\n" for key, value in shown["metadata"].items())
    yield f"# {shown['id']}\n\n- created: {_when(shown['created_at'])}\n{pairs}\n".encode()
    for message in messages:
        shown = orjson.loads(message)
        parts = [_part_as_markdown(part) for part in shown["content"]]
        parts += [f"*Attached: {attached['file_id']}*" for attached in shown["attachments"]]
        heading = f"## {shown['role']}, {_when(shown['created_at'])}"
        yield "\n\n".join([heading, *parts, ""]).encode()


RENDERS: dict[str, Render] = {"jsonl": as_jsonl, "markdown": as_markdown}


def import_lines(project: str, lines: Iterable[bytes], on_conflict: str) -> Iterator[Outcome]:
    """Store each line's thread, keeping ids and times; yield its outcome once it is committed.

    `on_conflict` says what becomes of a thread that exists: `fail`, `skip` or `replace`.
    A bad line is refused alone.
    """
    batch: list[tuple[int, dict[str, Any]]] = []
    waiting = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            batch.append((number, read_line(line)))
        except ApiError as refusal:
            yield Outcome(number, "refused", str(refusal.description))
            continue
        waiting += 1 + len(batch[-1][1]["messages"])
        if waiting >= _MESSAGES_A_BATCH:
            yield from _store_batch(project, batch, on_conflict)
            batch, waiting = [], 0
    yield from _store_batch(project, batch, on_conflict)


def load_seed(connection: Connection, path: str) -> None:
    """Load THREADS_SEED, if it is set. Raises ApiError 400 for the first bad line or no file."""
    if not path:
        return
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if line.strip():
                        store.insert_exported(connection, DEFAULT_PROJECT, read_line(line), "skip")
                except ApiError as refusal:
                    reason = f"THREADS_SEED: {path}:{number}: {refusal.description}"
                    raise ApiError(400, reason) from refusal
    except OSError as error:
        raise ApiError(400, f"THREADS_SEED: {path}: {error.strerror}.") from error


def faults_in(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the number of each bad line, and why it is refused."""
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                read_line(line)
        except ApiError as refusal:
            yield number, str(refusal.description)


def read_line(line: bytes) -> dict[str, Any]:
    """Return one line as schemas.ExportedThread loads it. Raises ApiError 400.

    Fields of a message that the hosted API never sent may be absent.
    """
    value = parse_object(line)
    try:
        for message in value["messages"]:
            message |= {**_ABSENT_ON_HOSTED, **message}
            done = message["created_at"] if message["status"] == "completed" else None
            message.setdefault("completed_at", done)
    except (KeyError, TypeError):
        pass
    try:
        loaded: dict[str, Any] = _LINE.load(value)
    except ValidationError as error:
        raise first_fault(error) from error
    ids = [message["id"] for message in loaded["messages"]]
    if len(set(ids)) < len(ids):
        raise ApiError(400, "Two messages of this thread have the same id.", "messages")
    for number, message in enumerate(loaded["messages"]):
        if message["thread_id"] != loaded["thread"]["id"]:
            sentence = f"Invalid 'messages[{number}].thread_id': the message is of another thread."
            raise ApiError(400, sentence, f"messages[{number}].thread_id", "invalid_value")
    return loaded


def _store_batch(
    project: str, batch: list[tuple[int, dict[str, Any]]], on_conflict: str
) -> list[Outcome]:
    outcomes = []
    with database.write(wait=database.COMMAND_SECONDS) as connection:
        for number, line in batch:
            thread_id = line["thread"]["id"]
            result = store.insert_exported(connection, project, line, on_conflict)
            reason = f"Thread {thread_id} exists already." if result == "refused" else ""
            outcomes.append(Outcome(number, result, reason))
    return outcomes


def _ids(project: str, query: dict[str, Any]) -> Iterator[str]:
    page = listing.Page([], True)
    filters = {name: value for name, value in query.items() if name not in ("after", "before")}
    query = filters | {"limit": _THREADS_A_PAGE, "order": "asc"}
    while page.has_more:
        with database.snapshot() as connection:
            page = listing.list_threads(connection, project, query)
        for thread_id in page.ids:
            yield thread_id
            query["after"] = thread_id


def _part_as_markdown(part: dict[str, Any]) -> str:
    match part["type"]:
        case "text":
            return str(part["text"]["value"])
        case "refusal":
            return f"*Refused: {part['refusal']}*"
        case "image_url":
            return f"*Image: {part['image_url']['url']}*"
    return f"*Image: {part['image_file']['file_id']}*"


def _when(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"
