"""Signing in to the browse page: the tries of each address, and the open sessions."""

import secrets
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite has the same ON CONFLICT

import database
from database import Connection
from models import FailedSignIn, Session
from rules.ids_and_clock import unix_now

FREE_TRIES = 5
FORGOTTEN_SECONDS = 3_600
SESSION_SECONDS = 12 * 3_600
_LONGEST_WAIT_SECONDS = 300
_IS_ADDRESS = FailedSignIn.address == sa.bindparam("of_address")
_FIND = sa.select(FailedSignIn.failures, FailedSignIn.last_at).where(_IS_ADDRESS)
_DELETE = sa.delete(FailedSignIn).where(_IS_ADDRESS)
_EXPIRED = sa.delete(FailedSignIn).where(FailedSignIn.last_at <= sa.bindparam("expiry"))
_FIRST = insert(FailedSignIn).on_conflict_do_nothing()
_SET = {"failures": FailedSignIn.failures + 1, "last_at": sa.bindparam("now")}
_COUNT = sa.update(FailedSignIn).where(_IS_ADDRESS).values(_SET)
_IS_SESSION = Session.id == sa.bindparam("of_id")
_BEGAN = sa.select(Session.began_at).where(_IS_SESSION)
_END = sa.delete(Session).where(_IS_SESSION)
_ENDED = sa.delete(Session).where(Session.began_at <= sa.bindparam("expiry"))


def try_key(address: str) -> int:
    """Count a try of an address and return 0, or return how many seconds it must wait first.

    The try counts as a failure until `sign_in`: of tries at the same time, each one counts.
    """
    values, now = {"of_address": address}, unix_now()
    with database.read() as connection:  # who must wait takes no turn to write
        if wait := _wait(connection.row(_FIND, values), now):
            return wait

    def change(connection: Connection) -> int:
        connection.change(_EXPIRED, {"expiry": now - FORGOTTEN_SECONDS})
        connection.change(_FIRST, {"address": address, "failures": 0, "last_at": now})
        wait = _wait(connection.row(_FIND.with_for_update(), values), now)
        if not wait:
            connection.change(_COUNT, values | {"now": now})
        return wait

    return database.write(change)


def sign_in(address: str) -> str:
    """Forget the tries of an address, which had a valid key; open a session and return its id."""
    session_id, now = secrets.token_urlsafe(24), unix_now()

    def change(connection: Connection) -> None:
        connection.change(_DELETE, {"of_address": address})
        connection.change(_ENDED, {"expiry": now - SESSION_SECONDS})
        connection.change(sa.insert(Session), {"id": session_id, "began_at": now})

    database.write(change)
    return session_id


def is_open(session_id: str) -> bool:
    """Return whether a session is neither signed out nor older than SESSION_SECONDS."""
    with database.read() as connection:
        began_at = connection.value(_BEGAN, {"of_id": session_id})
    return began_at is not None and unix_now() - began_at < SESSION_SECONDS


def sign_out(session_id: str) -> None:
    """End a session, for whoever holds its cookie."""
    database.write(lambda connection: connection.change(_END, {"of_id": session_id}))


def _wait(row: Any, now: int) -> int:
    """Return how long an address must wait: 0 at first, then twice as long each time."""
    failures, last_at = row or (0, 0)
    if failures < FREE_TRIES or last_at > now:
        return 0  # a clock that was set back must not make anybody wait
    wait: int = min(2 ** (failures - FREE_TRIES + 1), _LONGEST_WAIT_SECONDS)
    return max(0, int(last_at) + wait - now)
