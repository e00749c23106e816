"""What a run reads of its thread: messages, and calls of functions with their outputs, in order."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from database import Connection
from models import Message, Run, RunStep
from runs.steps import message_of
from store.objects import Object

MOST_CHARACTERS = 4_000_000
"""How much of the newest messages is read, as stored JSON; the first is read whatever its size."""
_AT_ONCE = 50
_OLDER = (Message.thread_seq == sa.bindparam("thread_seq"), Message.seq < sa.bindparam("before"))
_COLUMNS = (Message.seq, Message.id, Message.created_at, Message.role, Message.content)
_NEWEST = sa.select(*_COLUMNS).where(*_OLDER).order_by(Message.seq.desc()).limit(_AT_ONCE)
_IS_READ = sa.or_(Run.created_at >= sa.bindparam("since"), Run.seq == sa.bindparam("own"))
_IS_CLOSED = sa.or_(RunStep.type == "message_creation", RunStep.status == "completed")
_OF_STEP = (RunStep.run_seq, RunStep.type, RunStep.step_details, RunStep.created_at)
_STEPS = (
    sa.select(*_OF_STEP)
    .join(Run, Run.seq == RunStep.run_seq)
    .where(Run.thread_seq == sa.bindparam("of_thread"), _IS_READ, _IS_CLOSED)
    .order_by(RunStep.run_seq, RunStep.seq)
)


class Said(NamedTuple):
    """A message: its role, and its content."""

    role: str
    parts: list[Object]


class Called(NamedTuple):
    """The function calls of one step, each with its output."""

    calls: list[Object]


Entry = Said | Called


def read(connection: Connection, run: Any, most: int | None = None) -> list[Entry]:
    """Return what was said and called before the next turn of a run, oldest first.

    Of the messages the newest `most` are read, and MOST_CHARACTERS; empty ones do not count.
    """
    messages = [*_newest(connection, run.thread_seq, most)][::-1]
    since = messages[0].created_at if messages else run.created_at
    key = {"of_thread": run.thread_seq, "since": since, "own": run.seq}
    before = _places(connection.rows(_STEPS, key), messages, run)
    entries: list[Entry] = []
    for number, message in enumerate(messages):
        entries += _called(before[number])
        entries.append(Said(message.role, orjson.loads(message.content)))
    return entries + _called(before[len(messages)])


def _newest(connection: Connection, thread_seq: int, most: int | None) -> Iterator[Any]:
    before, left, count = 2**63 - 1, MOST_CHARACTERS, 0
    while rows := connection.rows(_NEWEST, {"thread_seq": thread_seq, "before": before}):
        for row in rows:
            left -= len(row.content)
            if count and (left < 0 or count == most):
                return
            yield row
            count += not _is_empty(row.content)
        before = rows[-1].seq


def _is_empty(content: str) -> bool:
    parts = orjson.loads(content)
    return all(part["type"] == "text" and not part["text"]["value"] for part in parts)


def _places(steps: list[Any], messages: list[Any], run: Any) -> dict[int, list[Any]]:
    """Return the steps with calls that stand before each message, by its number.

    A message of the same run tells the place; without one it is the time.
    """
    numbers = {message.id: number for number, message in enumerate(messages)}
    before: dict[int, list[Any]] = defaultdict(list)
    for run_seq, of_run in groupby(steps, lambda step: step.run_seq):
        loose: list[Any] = []
        last = len(messages) if run_seq == run.seq else None
        for step in of_run:
            if step.type == "tool_calls":
                loose.append(step)
            elif (number := numbers.get(message_of(step))) is not None:
                before[number] += loose
                loose, last = [], number + 1
        if loose:
            before[_at_time(loose[0], messages) if last is None else last] += loose
    return before


def _at_time(step: Any, messages: list[Any]) -> int:
    later = (n for n, message in enumerate(messages) if message.created_at > step.created_at)
    return next(later, len(messages))


def _called(steps: list[Any]) -> list[Entry]:
    return [Called(calls) for step in steps if (calls := _with_outputs(step))]


def _with_outputs(step: Any) -> list[Object]:
    """Return the function calls of a step; none if an output is missing."""
    calls = orjson.loads(step.step_details)["tool_calls"]
    own = [call for call in calls if call["type"] == "function"]
    return own if all(call["function"]["output"] is not None for call in own) else []
