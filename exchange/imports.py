"""Imports: lines of the exchange format into the database, keeping ids and times.

Each batch is written in a short transaction of its own, so that a long import holds up nobody.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from marshmallow import ValidationError

import database
from database import Connection
from models import DEFAULT_PROJECT, Thread
from rules import refusals
from rules.errors import ApiError, first_fault
from rules.strict_json import parse_object
from schemas import ImportedLine
from store import messages, threads
from store.copies import COPIED
from store.objects import to_json

COMMAND_SECONDS = 60
"""How long an import or a command waits for its turn to write."""
_MESSAGES_AT_ONCE = 500
_LINE = ImportedLine()
_DELETE = sa.delete(Thread).where(Thread.seq == sa.bindparam("of_seq"))


class Outcome(NamedTuple):
    """What became of one line: `imported`, `skipped`, `replaced`, or `refused` and why."""

    line: int
    result: str
    reason: str = ""


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
            yield Outcome(number, "refused", refusal.message)
            continue
        waiting += 1 + len(batch[-1][1]["messages"])
        if waiting >= _MESSAGES_AT_ONCE:
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
                        insert_line(connection, DEFAULT_PROJECT, read_line(line), "skip")
                except ApiError as refusal:
                    raise refusals.bad_seed(f"{path}:{number}", refusal.message) from refusal
    except OSError as error:
        raise refusals.bad_seed(path, f"{error.strerror}.") from error


def faults_in(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the number of each bad line, and why it is refused."""
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                read_line(line)
        except ApiError as refusal:
            yield number, refusal.message


def read_line(line: bytes) -> dict[str, Any]:
    """Return one line as schemas.ImportedLine loads it. Raises ApiError 400."""
    try:
        loaded: dict[str, Any] = _LINE.load(parse_object(line))
    except ValidationError as error:
        raise first_fault(error) from error
    ids = [message["id"] for message in loaded["messages"]]
    if len(set(ids)) < len(ids):
        raise refusals.message_id_twice()
    for number, message in enumerate(loaded["messages"]):
        if message["thread_id"] != loaded["thread"]["id"]:
            raise refusals.message_of_another_thread(f"messages[{number}].thread_id")
    return loaded


def insert_line(
    connection: Connection, project: str, line: dict[str, Any], on_conflict: str
) -> str:
    """Store a loaded ImportedLine with its ids and times.

    Return `imported`, `replaced`, `skipped`, or `refused` where the thread exists already.
    """
    thread = line["thread"]
    key = {"of_project": project, "thread_id": thread["id"]}
    seq = connection.value(messages.FIND_THREAD_SEQ, key)
    if seq is not None and on_conflict != "replace":
        return "skipped" if on_conflict == "skip" else "refused"
    if seq is not None:
        connection.change(_DELETE, {"of_seq": seq})
    values = _values(thread, threads.COLUMNS, ("metadata", "tool_resources"), {})
    new_seq = connection.row(threads.INSERT, values | {"project": project}).seq
    if rows := [_message_values(message) | {"thread_seq": new_seq} for message in line["messages"]]:
        connection.change_many(messages.INSERT, rows)
    return "imported" if seq is None else "replaced"


def _message_values(message: dict[str, Any]) -> dict[str, Any]:
    """Return the column values of a message; the hosted API sent no time of completion."""
    if message["status"] == "completed" and message["completed_at"] is None:
        message["completed_at"] = message["created_at"]
    message["attachments"] = message["attachments"] or []
    return _values(message, (messages.COLUMNS.id, *COPIED), ("metadata",), {})


def _values(
    loaded: dict[str, Any], columns: Iterable[Any], never_null: tuple[str, ...], empty: Any
) -> dict[str, Any]:
    """Return the values of those columns that an object has, JSON as text."""
    present = {column.name: loaded[column.name] for column in columns if column.name in loaded}
    present |= {name: empty for name in never_null if present[name] is None}
    return {
        name: to_json(value) if type(value) in (dict, list) else value
        for name, value in present.items()
    }


def _store_batch(
    project: str, batch: list[tuple[int, dict[str, Any]]], on_conflict: str
) -> list[Outcome]:
    def change(connection: Connection) -> list[Outcome]:
        outcomes = []
        for number, line in batch:
            result = insert_line(connection, project, line, on_conflict)
            exists = f"Thread {line['thread']['id']} exists already."
            outcomes.append(Outcome(number, result, exists if result == "refused" else ""))
        return outcomes

    return database.write(change, COMMAND_SECONDS)
