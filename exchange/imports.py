"""Imports of the exchange format, with its ids and times, in batches: others can write."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from marshmallow import Schema, ValidationError

import database
from database import Connection
from exchange.older_forms import Notes, put_in_order, renew, renew_assistant
from models import ACTIVE_STATUSES, DEFAULT_PROJECT, Thread
from rules import refusals
from rules.errors import ApiError, first_fault
from rules.strict_json import parse_object
from runs import history
from schemas import AssistantLine, ImportedLine
from store import assistants, messages, stored_answers, threads, tombstones
from store.copies import COPIED
from store.objects import Object, to_json

COMMAND_SECONDS = 60
"""The longest wait of an import or a command for its turn to write."""
_MESSAGES_AT_ONCE = 500
_KEPT = {"fail": "refused", "skip": "skipped"}
_WRITTEN = ("imported", "replaced")
_CANCELLED = "cancelled {} times: runs that were active"
_TIMES = ("created_at", "started_at", "completed_at", "failed_at", "cancelled_at")
_LINE, _ASSISTANT_LINE = ImportedLine(), AssistantLine()
_DELETE = sa.delete(Thread).where(Thread.seq == sa.bindparam("of_seq"))


class Line(NamedTuple):
    """A line: its number, what it holds as loaded, and what was changed in that."""

    number: int
    loaded: Object
    notes: Notes


class BadLine(NamedTuple):
    """A line that is refused, and why."""

    number: int
    refusal: ApiError


class Outcome(NamedTuple):
    """The result of a line: `imported`, `skipped`, `replaced`, or `refused` with its reason."""

    line: int
    result: str
    reason: str = ""
    notes: Notes = Counter()
    kind: str = "thread"  # or `assistant`; that of a refused line is not known


def import_lines(
    project: str,
    lines: Iterable[bytes],
    on_conflict: str,
    seconds: float | None = COMMAND_SECONDS,
    is_bounded: bool = True,
) -> Iterator[Outcome]:
    """Store the thread or assistant of each line; yield its outcome after the commit.

    `on_conflict` says what happens to one that exists: `fail`, `skip` or `replace`. Raises ApiError
    503 when the turn to write a batch does not come within `seconds` (None: those of a request);
    earlier batches are stored by then. A bounded line has at most strict_json.MAX_VALUES.
    """
    count = 0
    try:
        for outcome in _import(project, read_lines(lines, is_bounded), on_conflict, seconds):
            count += outcome.result in _WRITTEN
            yield outcome
    except ApiError as refusal:
        raise refusals.after_batches(refusal, count, "written") from refusal


def _import(
    project: str, lines: Iterable[Line | BadLine], on_conflict: str, seconds: float | None
) -> Iterator[Outcome]:
    batch: list[Line] = []
    waiting = 0
    for line in lines:
        if isinstance(line, BadLine):
            yield Outcome(line.number, "refused", line.refusal.message)
            continue
        batch.append(line)
        waiting += _weight(line.loaded)
        if waiting >= _MESSAGES_AT_ONCE:
            yield from _store_batch(project, batch, on_conflict, seconds)
            batch, waiting = [], 0
    yield from _store_batch(project, batch, on_conflict, seconds)


def _weight(loaded: Object) -> int:
    """Return how many rows a line makes."""
    runs = loaded.get("runs", ())
    return 1 + len(loaded.get("messages", ())) + sum(1 + len(run["steps"]) for run in runs)


def load_seed(connection: Connection, path: str) -> Notes:
    """Load THREADS_SEED, if set; return what was changed in it.

    Raises ApiError 400 for the first bad line or a missing file.
    """
    notes = Notes()
    if not path:
        return notes
    try:
        with Path(path).open("rb") as lines:
            for line in read_lines(lines, is_bounded=False):
                if isinstance(line, BadLine):
                    place = f"{path}:{line.number}"
                    raise refusals.bad_seed(place, line.refusal.message) from line.refusal
                if insert_line(connection, DEFAULT_PROJECT, line.loaded, "skip") != "skipped":
                    notes += line.notes
    except OSError as error:
        raise refusals.bad_seed(path, f"{error.strerror}.") from error
    return notes


def told(notes: Notes) -> list[str]:
    """Return the sentences of notes, with their numbers."""
    return [note.format(f"{count:,}") for note, count in notes.items()]


def faults_in(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the number of each bad line, and the reason."""
    for line in read_lines(lines):
        if isinstance(line, BadLine):
            yield line.number, line.refusal.message


def read_lines(lines: Iterable[bytes], is_bounded: bool = True) -> Iterator[Line | BadLine]:
    """Yield each line that is not blank; of a file that is one JSON document, one bad line."""
    filled = ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())
    head = list(islice(filled, 2))
    if _is_document([line for _, line in head]):
        yield BadLine(head[0][0], refusals.one_document())
        return
    for number, line in chain(head, filled):
        yield _read(number, line, is_bounded)


def _is_document(head: list[bytes]) -> bool:
    """Tell by two lines whether a document is laid out over several, or an array is on one."""
    match head:
        case [only]:
            return only.startswith(b"[")
        case [first, second]:
            is_open = first.startswith(b"[") and not first.endswith(b"]")
            is_open = is_open or first.endswith((b"{", b"[", b","))
            return is_open and not _is_object(second)
    return False


def _is_object(line: bytes) -> bool:
    try:
        parse_object(line)
    except ApiError:
        return False
    return True


def _read(number: int, line: bytes, is_bounded: bool) -> Line | BadLine:
    try:
        return Line(number, *read_line(line, is_bounded))
    except ApiError as refusal:
        return BadLine(number, refusal)


def read_line(line: bytes, is_bounded: bool = True) -> tuple[Object, Notes]:
    """Return a line as its schema loads it, and its notes. Raises ApiError 400."""
    notes, parsed = Notes(), parse_object(line, is_bounded)
    if "assistant" in parsed:
        renew_assistant(parsed, notes)
        return _load(_ASSISTANT_LINE, parsed), +notes
    renew(parsed, notes)
    loaded = _load(_LINE, parsed)
    thread_id, runs = loaded["thread"]["id"], loaded["runs"]
    _check("message", "thread", loaded["messages"], "messages", thread_id)
    _check("run", "thread", runs, "runs", thread_id)
    for number, run in enumerate(runs):
        place = f"runs[{number}].steps"
        _check("step", "run", run["steps"], place, run["id"])
        _check("step", "thread", run["steps"], place, thread_id)
        put_in_order(run["steps"], "steps of a run", notes)
        _cancel(run, notes)
    put_in_order(loaded["messages"], "messages of a thread", notes)
    put_in_order(runs, "runs of a thread", notes)
    return loaded, +notes


def _check(kind: str, parent: str, objects: list[Object], place: str, parent_id: str) -> None:
    """Refuse two objects with one id, and one of another parent. Raises ApiError 400."""
    if len({each["id"] for each in objects}) < len(objects):
        raise refusals.id_twice(kind, parent, place)
    for number, each in enumerate(objects):
        if each[f"{parent}_id"] != parent_id:
            raise refusals.of_another(kind, parent, f"{place}[{number}].{parent}_id")


def _cancel(run: Object, notes: Notes) -> None:
    """Cancel a run that was active: nobody plays it here."""
    if run["status"] not in ACTIVE_STATUSES:
        return
    times = [each.get(name) for each in (run, *run["steps"]) for name in _TIMES]
    end = {"status": "cancelled", "cancelled_at": max(filter(None, times), default=0)}
    run |= {**end, "expires_at": None, "required_action": None}
    for step in run["steps"]:
        if step["status"] == "in_progress":
            step |= {**end, "expires_at": None}
    notes[_CANCELLED] += 1


def _load(schema: Schema, parsed: Object) -> Object:
    try:
        return schema.load(parsed)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise first_fault(error) from error


def insert_line(connection: Connection, project: str, line: Object, on_conflict: str) -> str:
    """Store a loaded line; return the `result` of its Outcome."""
    if "assistant" in line:
        return _insert_assistant(connection, project, line["assistant"], on_conflict)
    thread = line["thread"]
    key = {"of_project": project, "thread_id": thread["id"]}
    live = threads.place_of(connection, project, thread["id"])
    if live and on_conflict != "replace":
        return _KEPT[on_conflict]
    if live:
        connection.change(_DELETE, {"of_seq": live.seq})
        stored_answers.forget(connection, stored_answers.FORGET_THREAD, key)
    thread["tool_resources"] = thread["tool_resources"] or {}
    values = _values(thread, threads.COLUMNS)
    newest = line["messages"][-1]["created_at"] if line["messages"] else 0
    place = live or tombstones.place_of(connection, project, 0, thread["id"])
    seq = threads.insert(connection, values | {"project": project}, newest, place).seq
    rows = (_message_values(message) | {"thread_seq": seq} for message in line["messages"])
    connection.change_many(messages.INSERT, rows)
    for run in line["runs"]:
        history.insert_run(connection, seq, run)
    return "replaced" if live else "imported"


def _insert_assistant(
    connection: Connection, project: str, assistant: Object, on_conflict: str
) -> str:
    exists = assistants.exists(connection, project, assistant["id"])
    if exists and on_conflict != "replace":
        return _KEPT[on_conflict]
    if exists:
        assistants.delete_assistant(connection, project, assistant["id"])
    place = tombstones.place_of(connection, project, 0, assistant["id"])
    assistants.insert(connection, project, assistant, place)
    return "replaced" if exists else "imported"


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


def _store_batch(
    project: str, batch: list[Line], on_conflict: str, seconds: float | None
) -> list[Outcome]:
    def change(connection: Connection) -> list[Outcome]:
        outcomes = []
        for number, loaded, notes in batch:
            result = insert_line(connection, project, loaded, on_conflict)
            kind = "assistant" if "assistant" in loaded else "thread"
            exists = f"{kind.title()} {loaded[kind]['id']} exists already."
            reason, changed = (exists, Notes()) if result == "refused" else ("", notes)
            outcomes.append(Outcome(number, result, reason, changed, kind))
        return outcomes

    return database.write(change, seconds)
