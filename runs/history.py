"""The runs of a thread as a whole: read for an export, stored by an import."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from database import Connection
from models import Run, RunStep
from runs import rows, steps
from runs.objects import run_object, step_object
from store.batches import Source, all_rows
from store.objects import Object, to_json

_AT_ONCE = 500
_RUNS, _STEPS = Source(rows.COLUMNS, "thread_seq"), Source(steps.COLUMNS, "run_seq")
_INSERT_RUN, _INSERT_STEP = sa.insert(Run).returning(Run.seq), sa.insert(RunStep)
_IF_NULL: dict[str, Any] = {
    "tool_resources": {},
    "metadata": {},
    "temperature": 1.0,
    "top_p": 1.0,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "response_format": "auto",
    "tool_choice": "auto",
}


def read_runs(
    connection: Connection, thread_seq: int, thread_id: str
) -> Iterator[tuple[Object, Iterator[Object]]]:
    """Yield each run object of a thread with its step objects, oldest first.

    Read all steps of a run before you ask for the next run.
    """
    for run in all_rows(connection, thread_seq, _AT_ONCE, _RUNS):
        yield run_object(run, thread_id), _read_steps(connection, run, thread_id)


def _read_steps(connection: Connection, run: Any, thread_id: str) -> Iterator[Object]:
    for row in all_rows(connection, run.seq, _AT_ONCE, _STEPS):
        yield step_object(row, run, thread_id)


def insert_run(connection: Connection, thread_seq: int, run: Object) -> None:
    """Store a run that has ended, as ImportedRun loads it, with its `steps`."""
    given = run | {name: value for name, value in _IF_NULL.items() if run[name] is None}
    values = _values(given, rows.COLUMNS, rows.JSON_COLUMNS)
    row = connection.row(_INSERT_RUN, values | {"thread_seq": thread_seq})
    each = (_values(step, steps.COLUMNS, steps.JSON_COLUMNS) for step in run["steps"])
    connection.change_many(_INSERT_STEP, (step | {"run_seq": row.seq} for step in each))


def _values(loaded: Object, columns: Any, json: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of the columns that an object has, those of JSON as text."""
    present = {each.name: loaded[each.name] for each in columns if each.name in loaded}
    texts = {name: to_json(present[name]) for name in json if present[name] is not None}
    return present | texts
