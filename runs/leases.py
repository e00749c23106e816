"""The leases of players: renewals, and what a dead process left."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from database import Connection
from models import Run
from rules.ids_and_clock import unix_now
from runs import rows, states, steps
from runs.states import IS_ACTIVE, IS_DUE, IS_LEASE_OVER, IS_LEFT, LEASE_END, PLAYED, End

_IS_PLAYED = sa.or_(*(Run.status == status for status in PLAYED))
_IS_QUEUED = Run.status == "queued"
_IS_OWN = Run.player.in_(sa.bindparam("players", expanding=True))
_RENEW = sa.update(Run).where(_IS_OWN, IS_ACTIVE).values(lease_end=LEASE_END)
_STATES = sa.select(Run.player, Run.status).where(_IS_OWN, IS_ACTIVE)
_LEFT = sa.or_(sa.and_(_IS_QUEUED, IS_LEFT), sa.and_(_IS_PLAYED, IS_LEASE_OVER), IS_DUE)
_FIND_LEFT = sa.select(*rows.COLUMNS).where(IS_ACTIVE, _LEFT).order_by(Run.seq).limit(100)
_FIND_PLAYED = sa.select(*rows.COLUMNS).where(IS_ACTIVE, _IS_PLAYED)
_LOST = {"code": "server_error", "message": "The process that answered this run ended."}


def renew(connection: Connection, players: Sequence[str]) -> None:
    """Renew the leases of some players."""
    connection.change(_RENEW, {"players": list(players)})


def own_states(connection: Connection, players: Sequence[str]) -> dict[str, str]:
    """Return the status of the active run of each of some players that still has one."""
    return {row.player: row.status for row in connection.rows(_STATES, {"players": list(players)})}


def left(connection: Connection) -> list[Any]:
    """Return the rows of runs that wait for any player, that a dead one left, or that are due."""
    return connection.rows(_FIND_LEFT, {"now": unix_now()})


def is_to_recover(run: Any) -> bool:
    """Return whether a run that is left needs more than a player."""
    return run.status != "queued" or states.is_due(run)


def recover(connection: Connection, run: Any) -> None:
    """Give a run that is left the state in which it can go on. Raises LostRun.

    One that has shown nothing of its turn is played again; another one fails.
    """
    if states.is_due(run):
        states.end(connection, run, End("expired"), (run.status,))
    elif run.status == "cancelling":
        states.end(connection, run, End("cancelled"), ("cancelling",))
    elif run.status == "in_progress" and steps.open_steps(connection, run.seq):
        states.end(connection, run, End("failed", error=_LOST), ("in_progress",))
    elif run.status == "in_progress":
        states.queue_again(connection, run)


def queue_all(connection: Connection) -> None:
    """Begin again the runs whose players were stopped: after a restore nobody has one."""
    for run in connection.rows(_FIND_PLAYED):
        if run.status == "cancelling":
            states.end(connection, run, End("cancelled"), ("cancelling",))
        else:
            steps.delete_open(connection, run.seq)
            states.queue_again(connection, run)
