"""The runs beside a page of messages, with their steps. Bounded, however many a thread has."""

from collections import defaultdict
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import aliased

from database import Connection
from models import Assistant, Message, Run, RunStep
from runs import drafts, rows, steps
from runs.objects import run_object
from store.messages import FIND_THREAD_SEQ
from store.objects import Object, decoded, message_object

MAX_SILENT, MAX_STEPS, MAX_ASSISTANTS = 100, 500, 100
_LARGE_BYTES = 100_000
_LATEST = 2**62
Shown = dict[str, Any]


def _small(column: Any) -> Any:
    """Return a column that is null where it is large."""
    return sa.case((sa.func.octet_length(column) <= _LARGE_BYTES, column)).label(column.name)


_COLUMNS = (
    *(Run.seq, Run.id, Run.created_at, Run.assistant_id, Run.status, Run.model, Run.usage),
    *(Run.completed_at, Run.failed_at, Run.cancelled_at),
    *(_small(Run.__table__.c[name]) for name in ("last_error", "incomplete_details")),
    *(Assistant.id.label("stored_assistant"), Assistant.name.label("assistant_name")),
)
_IS_ASSISTANT = sa.and_(
    Assistant.project == sa.bindparam("of_project"), Assistant.id == Run.assistant_id
)
_THREAD_SEQ = FIND_THREAD_SEQ.scalar_subquery()
_RUNS = (
    sa.select(*_COLUMNS)
    .select_from(sa.outerjoin(Run, Assistant, _IS_ASSISTANT))
    .where(Run.thread_seq == _THREAD_SEQ)
)
_SPEAKING = _RUNS.where(Run.id.in_(sa.bindparam("ids", expanding=True)))
_LAST = aliased(Message)
_SEQ = sa.select(_LAST.seq).where(
    _LAST.thread_seq == _THREAD_SEQ, _LAST.id == sa.bindparam("last_message")
)
_NEXT = (
    sa.select(Message.created_at)
    .where(Message.thread_seq == _THREAD_SEQ, Message.seq > _SEQ.scalar_subquery())
    .order_by(Message.seq)
    .limit(1)
)
_OWN = sa.select(Message.seq).where(Message.thread_seq == Run.thread_seq, Message.run_id == Run.id)
_SILENT = (
    _RUNS.where(
        Run.created_at >= sa.bindparam("since"),
        Run.created_at < sa.func.coalesce(_NEXT.scalar_subquery(), _LATEST),
        ~_OWN.correlate(Run).exists(),
    )
    .order_by(Run.seq.desc())
    .limit(MAX_SILENT)
)
_DETAILS = _small(RunStep.__table__.c.step_details)
_STEPS = (
    sa.select(RunStep.run_seq, RunStep.id, RunStep.type, RunStep.status, _DETAILS)
    .where(RunStep.run_seq.in_(sa.bindparam("seqs", expanding=True)))
    .order_by(RunStep.run_seq.desc(), RunStep.seq)
    .limit(MAX_STEPS)
)
_ASSISTANTS = (
    sa.select(Assistant.id, Assistant.name, Assistant.model)
    .where(Assistant.project == sa.bindparam("of_project"))
    .order_by(Assistant.created_at.desc(), Assistant.seq.desc())
    .limit(MAX_ASSISTANTS)
)


class Active(NamedTuple):
    """The run that locks a thread, and the message that it writes, if it does; both decoded."""

    run: Shown
    draft: Shown | None

    @property
    def calls(self) -> list[Any]:
        """The calls whose outputs the run waits for."""
        action = self.run["required_action"]
        return action["submit_tool_outputs"]["tool_calls"] if action else []


def active_of(connection: Connection, project: str, thread_id: str) -> Active | None:
    """Return the active run of a thread."""
    run = rows.active_run(connection, project, thread_id)
    if run is None:
        return None
    writes = [step for step in steps.open_steps(connection, run.seq) if step.draft is not None]
    draft = [message_object(drafts.message_row(step, run), thread_id) for step in writes]
    return Active(decoded(run_object(run, thread_id)), decoded(draft)[0] if draft else None)


def runs_beside(
    connection: Connection, project: str, thread_id: str, messages: list[Object], is_first: bool
) -> list[Shown]:
    """Return the runs of message objects, and those without a message among them, oldest first.

    `is_first` tells whether no message precedes these. Large texts are None.
    """
    key = {"of_project": project, "thread_id": thread_id}
    ids = list({message["run_id"] for message in messages} - {None})
    found = connection.rows(_SPEAKING, key | {"ids": ids}) if ids else []
    since = messages[0]["created_at"] if messages and not is_first else 0
    last = messages[-1]["id"] if messages else ""
    found += connection.rows(_SILENT, key | {"since": since, "last_message": last})
    of_run = defaultdict(list)
    for step in connection.rows(_STEPS, {"seqs": [run.seq for run in found]}) if found else []:
        of_run[step.run_seq].append(_step(step))
    return [_run(run, of_run[run.seq]) for run in sorted(found, key=lambda run: run.seq)]


def _run(run: Any, steps: list[Shown]) -> Shown:
    """Return a row with its JSON decoded, its steps, and the seconds until it ended or None."""
    ended_at = run.completed_at or run.failed_at or run.cancelled_at
    seconds = None if ended_at is None else max(0, ended_at - run.created_at)
    json = ("usage", "last_error", "incomplete_details")
    own = {name: _decoded(getattr(run, name)) for name in json}
    return {**run._asdict(), **own, "seconds": seconds, "steps": steps}


def _step(step: Any) -> Shown:
    return {"type": step.type, "status": step.status, "details": _decoded(step.step_details)}


def _decoded(text: str | None) -> Any:
    return orjson.loads(text) if text else None


def newest_assistants(connection: Connection, project: str) -> list[Any]:
    """Return the ids, names and models of the newest MAX_ASSISTANTS assistants."""
    return connection.rows(_ASSISTANTS, {"of_project": project})
