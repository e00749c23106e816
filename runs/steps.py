"""Steps of runs: find, list, write, close."""

from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from database import Connection
from lists.pages import BY_SEQ, Listing, Page, Select, Shape, Values, paged, sized
from models import RunStep
from rules import refusals
from runs import rows
from runs.objects import step_object
from store.objects import Object, to_json

COLUMNS = RunStep.__table__.c
JSON_COLUMNS = ("last_error", "step_details", "usage")
INSERT = sa.insert(RunStep).returning(*COLUMNS)
_IN_RUN = RunStep.run_seq == sa.bindparam("of_run_seq")
_IS_STEP = (_IN_RUN, RunStep.id == sa.bindparam("of_id"))
_FIND = sa.select(*COLUMNS).where(*_IS_STEP)
_NAMES = (
    *("status", "step_details", "usage", "draft", "cancelled_at", "completed_at"),
    *("expires_at", "failed_at", "last_error"),
)
_NEW: Any = {name: sa.bindparam(f"new_{name}", type_=COLUMNS[name].type) for name in _NAMES}
_WRITE = sa.update(RunStep).where(*_IS_STEP).values(_NEW).returning(*COLUMNS)
_IS_OPEN = (_IN_RUN, RunStep.status == "in_progress")
_OPEN = sa.select(*COLUMNS).where(*_IS_OPEN).order_by(RunStep.seq)
_DELETE_OPEN = sa.delete(RunStep).where(*_IS_OPEN)
_USAGES = sa.select(RunStep.usage).where(_IN_RUN, RunStep.usage.is_not(None))
_LISTED = sized([each for each in COLUMNS if each.name != "draft"], JSON_COLUMNS, ("step_details",))
_PLACE = sa.select(RunStep.created_at, RunStep.seq).where(
    RunStep.run_seq == sa.bindparam("run_seq"), RunStep.id == sa.bindparam("cursor")
)


class Close(NamedTuple):
    """How an open step ends: its status, and the error of one that fails."""

    status: str
    error: Object | None = None

    def values(self, now: int) -> dict[str, Any]:
        """Return the values of the columns that an end sets."""
        times: dict[str, Any] = dict.fromkeys(("cancelled_at", "completed_at", "failed_at"))
        if self.status in ("cancelled", "completed", "failed"):
            times[f"{self.status}_at"] = now
        error = to_json(self.error) if self.error else None
        return {"status": self.status, **times, "expires_at": None, "last_error": error}


def find_step(
    connection: Connection, project: str, thread_id: str, run_id: str, step_id: str
) -> Object:
    """Return the step object. Raises ApiError 404."""
    run = rows.find_row(connection, project, thread_id, run_id)
    row = connection.row(_FIND, {"of_run_seq": run.seq, "of_id": step_id})
    if not row:
        raise refusals.not_found("run step", step_id)
    return step_object(row, run, thread_id)


def list_steps(
    connection: Connection, project: str, thread_id: str, run_id: str, query: Values
) -> Page:
    """Return a page of a run's steps. Raises ApiError 404, and 400 for an unknown cursor."""
    run = rows.find_row(connection, project, thread_id, run_id)
    found, has_more = _LIST.rows(connection, query, project=project, run_seq=run.seq)
    whole = (row if row.step_details else _whole(connection, row) for row in found)
    return Page([step_object(row, run, thread_id) for row in whole], has_more)


def open_steps(connection: Connection, run_seq: int) -> list[Any]:
    """Return the rows of the steps that are in progress."""
    return connection.rows(_OPEN, {"of_run_seq": run_seq})


def step_values(run: Any, id_: str, created_at: int, details: Object) -> dict[str, Any]:
    """Return the column values of a step that begins; `details` are its step_details."""
    values: dict[str, Any] = dict.fromkeys(each.name for each in COLUMNS if each.name != "seq")
    values |= {"run_seq": run.seq, "id": id_, "created_at": created_at, "type": details["type"]}
    values |= {"status": "in_progress", "expires_at": run.expires_at}
    return values | {"step_details": to_json(details)}


def with_outputs(step: Any, outputs: list[Object]) -> Object:
    """Return the details of a tool step with loaded ToolOutputs, as a column value.

    Raises ApiError 400 unless there is one output for each call and for no other.
    """
    details = orjson.loads(step.step_details)
    calls = details["tool_calls"]
    expected = [call["id"] for call in calls]
    sent = [each.get("tool_call_id", "") for each in outputs]
    if sorted(expected) != sorted(sent):
        raise refusals.wrong_outputs(expected, sent)
    by_id = dict(zip(sent, outputs, strict=True))
    for call in calls:
        call["function"]["output"] = by_id[call["id"]].get("output", "")
    return {"step_details": to_json(details)}


def delete_open(connection: Connection, run_seq: int) -> None:
    """Delete the steps that are in progress."""
    connection.change(_DELETE_OPEN, {"of_run_seq": run_seq})


def write_step(connection: Connection, row: Any, values: dict[str, Any]) -> Any:
    """Change some columns of a step; return its row."""
    new = {f"new_{name}": getattr(row, name) for name in _NAMES}
    new |= {f"new_{name}": value for name, value in values.items()}
    return connection.row(_WRITE, {"of_run_seq": row.run_seq, "of_id": row.id, **new})


def usage_of(connection: Connection, run_seq: int) -> Object | None:
    """Return the sum of the usage of a run's steps, None if none has any."""
    usages = [orjson.loads(row.usage) for row in connection.rows(_USAGES, {"of_run_seq": run_seq})]
    return _sum(usages) if usages else None


def draft_of(connection: Connection, run_seq: int, message_id: str) -> Any:
    """Return the open step of a run that writes a message, or None."""
    drafts = (step for step in open_steps(connection, run_seq) if step.draft is not None)
    return next((step for step in drafts if message_of(step) == message_id), None)


def message_of(row: Any) -> str:
    """Return the id of the message that a step of the type message_creation makes."""
    return str(orjson.loads(row.step_details)["message_creation"]["message_id"])


def _sum(usages: list[Object]) -> Object:
    total = dict(usages[0])
    for usage in usages[1:]:
        total = {
            key: _sum([value, usage[key]]) if isinstance(value, dict) else value + usage[key]
            for key, value in total.items()
        }
    return total


@lru_cache(maxsize=16)
def _statement(shape: Shape) -> Select:
    in_run = RunStep.run_seq == sa.bindparam("run_seq")
    return paged(sa.select(*_LISTED).where(in_run), (RunStep.seq,), shape)


_LIST = Listing("run step", _PLACE, BY_SEQ, _statement)


def _whole(connection: Connection, row: Any) -> Any:
    return connection.row(_FIND, {"of_run_seq": row.run_seq, "of_id": row.id})
