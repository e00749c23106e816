"""The states of a run (runs reference, section 5). Each change names the state it expects."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from database import Connection
from models import ACTIVE_STATUSES, Run, Thread
from rules import refusals
from rules.ids_and_clock import unix_now
from runs import lock, rows, steps
from runs.steps import Close
from store import activity, messages
from store.objects import Object, to_json

LEASE_SECONDS = 5
WAITING = ("queued", "requires_action")
PLAYED = ("in_progress", "cancelling")
_NOW: Any = sa.cast(sa.extract("epoch", sa.func.now()), sa.BigInteger)  # real time, the database's
_CLOCK: Any = sa.bindparam("now", type_=sa.BigInteger)  # the time of runs, which a mock may set
LEASE_END = _NOW + LEASE_SECONDS
"""The end of a lease that begins, as SQL."""
# A clock that is set back must not make a lease longer.
IS_LEASE_OVER = sa.not_(Run.lease_end.between(_NOW, LEASE_END + 1))
IS_ACTIVE = sa.text(f"runs.status IN {ACTIVE_STATUSES}")
IS_LEFT = sa.or_(Run.player.is_(None), IS_LEASE_OVER)
_CLAIM = (
    sa.update(Run)
    .where(
        Run.seq == sa.bindparam("of_seq"),
        Run.status == "queued",
        Run.expires_at > _CLOCK,
        sa.or_(IS_LEFT, Run.player == sa.bindparam("new_player")),
    )
    .values(
        status="in_progress",
        started_at=_CLOCK,
        player=sa.bindparam("new_player"),
        lease_end=LEASE_END,
    )
    .returning(*rows.COLUMNS)
)
_IS_PLAYED = (Run.player == sa.bindparam("of_player"), Run.status == "in_progress")
_KEEP = (
    sa.update(Run).where(Run.seq == sa.bindparam("of_seq"), *_IS_PLAYED).values(lease_end=LEASE_END)
)
IS_DUE = Run.expires_at <= _CLOCK
_IS_OF_THREAD = Run.thread_seq == sa.bindparam("of_thread_seq")
_HOLD_DUE = (
    sa.select(*rows.COLUMNS).where(_IS_OF_THREAD, IS_ACTIVE, IS_DUE).with_for_update(key_share=True)
)
_THREAD = sa.select(Thread.id, Thread.project).where(Thread.seq == sa.bindparam("of_seq"))
_ADD_MESSAGE = messages.INSERT.returning(*messages.COLUMNS)
_TIMES = {"completed": "completed_at", "incomplete": "completed_at", "failed": "failed_at"}
_TIMES |= {"cancelled": "cancelled_at"}
_STEP_STATUSES = {"incomplete": "completed"}
told: list[Callable[[Any], None]] = []
"""What is told the row of each run that ends, once its end is stored."""


class LostRun(Exception):
    """The run has another state or player than this change expects, so nothing of it is stored."""


class End(NamedTuple):
    """How a run ends: its status, the error of `failed`, the reason of `incomplete`."""

    status: str
    error: Object | None = None
    reason: str | None = None

    def values(self, now: int) -> dict[str, Any]:
        """Return the values of the columns that an end sets."""
        values: dict[str, Any] = dict.fromkeys(("expires_at", "required_action", "lease_end"))
        values |= {"status": self.status, "player": None, "script": None}
        if self.status in _TIMES:
            values[_TIMES[self.status]] = now
        if self.error:
            values["last_error"] = to_json(self.error)
        if self.reason:
            values["incomplete_details"] = to_json({"reason": self.reason})
        return values

    def message_values(self, now: int) -> dict[str, Any]:
        """Return the status of the message that the run was writing, its reason and its times."""
        if self.status == "completed":
            return {"status": "completed", "completed_at": now, **_NO_REASON}
        reason = "max_tokens" if self.status == "incomplete" else f"run_{self.status}"
        details = to_json({"reason": reason})
        values = {"status": "incomplete", "completed_at": None, "incomplete_at": now}
        return values | {"incomplete_details": details}


_NO_REASON = {"incomplete_at": None, "incomplete_details": None}


class Change(NamedTuple):
    """The rows after a change of state: the run, the steps it closed, the messages it added."""

    run: Any
    steps: list[Any]
    messages: list[Any]


def claim(connection: Connection, seq: int, player: str) -> Any:
    """Let a player take a queued run; return its row, or None if it cannot be taken.

    A run whose time is over ends. Raises LostRun.
    """
    claimed = connection.row(_CLAIM, {"of_seq": seq, "new_player": player, "now": unix_now()})
    if claimed is None:
        run = rows.row_of(connection, seq)
        if run is not None and run.status == "queued" and is_due(run):
            end(connection, run, End("expired"), ("queued",))
    return claimed


def thread_of(connection: Connection, run: Any) -> Any:
    """Return the row (id, project) of a run's thread. Raises LostRun if it is deleted."""
    row = connection.row(_THREAD, {"of_seq": run.thread_seq})
    if row is None:
        raise LostRun
    return row


def change(
    connection: Connection, run: Any, expected: tuple[str, ...], values: dict[str, Any]
) -> Any:
    """Change the columns of a run that is as `run` says; return its row. Raises LostRun.

    It has one of the `expected` states, and the player of `run`.
    """
    new = {f"new_{name}": value for name, value in values.items()}
    key = {"of_seq": run.seq, "of_player": run.player}
    statement = _change(expected, run.player is not None, tuple(values))
    row = connection.row(statement, key | new)
    if row is None:
        raise LostRun
    return row


def require_action(
    connection: Connection, run: Any, calls: list[Object], script: str | None
) -> Change:
    """Let a run wait for the outputs of function calls, whose step is open. Raises LostRun."""
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
    values = {"status": "requires_action", "required_action": to_json(action), "script": script}
    row = change(connection, run, ("in_progress",), {**values, "player": None, "lease_end": None})
    drafts = [step for step in steps.open_steps(connection, run.seq) if step.draft is not None]
    return Change(row, *_close(connection, row, drafts, End("completed")))


def keep(connection: Connection, run: Any) -> None:
    """Renew the lease of a run that its player goes on with. Raises LostRun."""
    if not connection.change(_KEEP, {"of_seq": run.seq, "of_player": run.player}):
        raise LostRun


def end(connection: Connection, run: Any, ending: End, expected: tuple[str, ...]) -> Change:
    """End a run, its open steps and the message it writes; free its thread. Raises LostRun."""
    lock.free(connection, run)
    usage = steps.usage_of(connection, run.seq)
    values = ending.values(unix_now()) | {"usage": to_json(usage) if usage else None}
    row = change(connection, run, expected, values)  # before its steps, as its player does
    closed = _close(connection, row, steps.open_steps(connection, run.seq), ending)
    connection.after_commit += [partial(tell, row) for tell in told]
    return Change(row, *closed)


def queue_again(connection: Connection, run: Any) -> None:
    """Queue a run that has shown nothing of this turn. Raises LostRun."""
    values = {"status": "queued", "player": None, "lease_end": None}
    change(connection, run, ("in_progress",), values)


def cancel(connection: Connection, project: str, thread_id: str, run_id: str) -> Any:
    """Cancel a run, at once if nobody plays it; return its row. Raises ApiError 404, 400."""
    run = _held(connection, project, thread_id, run_id)
    if run.status in WAITING:
        return end(connection, run, End("cancelled"), WAITING).run
    if run.status != "in_progress":
        raise refusals.cannot_cancel(run.status)
    return change(connection, run, ("in_progress",), {"status": "cancelling"})


def submit(
    connection: Connection,
    project: str,
    thread_id: str,
    run_id: str,
    outputs: list[Object],
    player: str | None = None,
) -> Change:
    """Fill in the outputs of a run's calls and queue it again. Raises ApiError 404, 400.

    `player` may take it first.
    """
    run = _held(connection, project, thread_id, run_id)
    if run.status != "requires_action":
        raise refusals.takes_no_outputs(run.status)
    step = steps.open_steps(connection, run.seq)[-1]
    details = steps.with_outputs(step, outputs)
    closed = steps.write_step(connection, step, Close("completed").values(unix_now()) | details)
    values = {"status": "queued", "required_action": None, "player": player}
    row = change(connection, run, ("requires_action",), values)
    return Change(row, [closed], [])


def expire_due(connection: Connection, project: str, thread_id: str) -> None:
    """End the active run of a thread if its time is over. Raises ApiError 404."""
    seq = messages.hold_thread(connection, project, thread_id)
    for run in connection.rows(_HOLD_DUE, {"of_thread_seq": seq, "now": unix_now()}):
        end(connection, run, End("expired"), ACTIVE_STATUSES)


def is_due(run: Any) -> bool:
    """Return whether the time of an active run is over."""
    return run.status in ACTIVE_STATUSES and run.expires_at <= unix_now()


def _held(connection: Connection, project: str, thread_id: str, run_id: str) -> Any:
    """Return the row of a run that nobody else changes now, as its thread. Raises ApiError 404."""
    expire_due(connection, project, thread_id)
    return rows.hold_row(connection, project, thread_id, run_id)


def _close(
    connection: Connection, run: Any, which: list[Any], ending: End
) -> tuple[list[Any], list[Any]]:
    """Close open steps, and add the message of a draft; return the rows of both."""
    closed, added, now = [], [], unix_now()
    status = _STEP_STATUSES.get(ending.status, ending.status)
    for step in which:
        if step.draft is not None:
            values = _message(run, step) | ending.message_values(now)
            added.append(connection.row(_ADD_MESSAGE, values))
        values = Close(status, ending.error).values(now) | {"draft": None}
        closed.append(steps.write_step(connection, step, values))
    if added:
        activity.settle(connection, run.thread_seq)
    return closed, added


def _message(run: Any, step: Any) -> dict[str, Any]:
    part = {"type": "text", "text": {"value": step.draft, "annotations": []}}
    return {
        "thread_seq": run.thread_seq,
        "id": steps.message_of(step),
        "created_at": step.created_at,
        "assistant_id": run.assistant_id,
        "run_id": run.id,
        "role": "assistant",
        "content": to_json([part]),
        "attachments": "[]",
        "metadata": "{}",
    }


@lru_cache
def _change(expected: tuple[str, ...], is_played: bool, names: tuple[str, ...]) -> sa.Executable:
    columns = rows.COLUMNS
    new: Any = {name: sa.bindparam(f"new_{name}", type_=columns[name].type) for name in names}
    player = sa.bindparam("of_player", type_=sa.Text)
    is_own = Run.player == player if is_played else Run.player.is_(None)
    is_expected = sa.or_(*(Run.status == status for status in expected))
    where = (Run.seq == sa.bindparam("of_seq"), is_expected, is_own)
    return sa.update(Run).where(*where).values({"lease_end": LEASE_END} | new).returning(*columns)
