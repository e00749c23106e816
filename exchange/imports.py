"""Imports of the exchange format, with its ids and times, in batches: others can write."""

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
from store import messages, stored_answers, threads
from store.copies import COPIED
from store.objects import Object, to_json

COMMAND_SECONDS = 60
"""The longest wait of an import or a command for its turn to write."""
_MESSAGES_AT_ONCE = 500
_Batch = list[tuple[int, Object]]
_LINE = ImportedLine()
_DELETE = sa.delete(Thread).where(Thread.seq == sa.bindparam("of_seq"))


class Outcome(NamedTuple):
    """The result of a line: `imported`, `skipped`, `replaced`, or `refused` with its reason."""

    line: int
    result: str
    reason: str = ""


def import_lines(project: str, lines: Iterable[bytes], on_conflict: str) -> Iterator[Outcome]:
    """Store the thread of each line; yield its outcome after the commit.

    `on_conflict` says what happens to a thread that exists: `fail`, `skip` or `replace`.
    """
    batch: _Batch = []
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
    """Load THREADS_SEED, if set. Raises ApiError 400 for the first bad line or a missing file."""
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
    """Yield the number of each bad line, and the reason."""
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


def insert_line(connection: Connection, project: str, line: Object, on_conflict: str) -> str:
    """Store a loaded ImportedLine; return the `result` of its Outcome."""
    thread = line["thread"]
    key = {"of_project": project, "thread_id": thread["id"]}
    seq = connection.value(messages.FIND_THREAD_SEQ, key)
    if seq is not None and on_conflict != "replace":
        return "skipped" if on_conflict == "skip" else "refused"
    if seq is not None:
        connection.change(_DELETE, {"of_seq": seq})
        stored_answers.forget(connection, stored_answers.FORGET_THREAD, key)
    thread["tool_resources"] = thread["tool_resources"] or {}
    values = _values(thread, threads.COLUMNS)
    new_seq = connection.row(threads.INSERT, values | {"project": project}).seq
    if rows := [_message_values(message) | {"thread_seq": new_seq} for message in line["messages"]]:
        connection.change_many(messages.INSERT, rows)
    return "imported" if seq is None else "replaced"


def _message_values(message: dict[str, Any]) -> dict[str, Any]:
    """Return the column values of a message; the hosted API sends no time of completion."""
    if message["status"] == "completed" and message["completed_at"] is None:
        message["completed_at"] = message["created_at"]
    message["attachments"] = message["attachments"] or []
    return _values(message, (messages.COLUMNS.id, *COPIED))


def _values(loaded: dict[str, Any], columns: Iterable[Any]) -> dict[str, Any]:
    """Return the values of the columns that an object has, JSON as text."""
    loaded["metadata"] = loaded["metadata"] or {}
    present = {each.name: loaded[each.name] for each in columns if each.name in loaded}
    json = {name: to_json(value) for name, value in present.items() if type(value) in (dict, list)}
    return present | json


def _store_batch(project: str, batch: _Batch, on_conflict: str) -> list[Outcome]:
    def change(connection: Connection) -> list[Outcome]:
        outcomes = []
        for number, line in batch:
            result = insert_line(connection, project, line, on_conflict)
            exists = f"Thread {line['thread']['id']} exists already."
            outcomes.append(Outcome(number, result, exists if result == "refused" else ""))
        return outcomes

    return database.write(change, COMMAND_SECONDS)
