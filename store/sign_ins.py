"""Failed sign-ins to the browse page, by the client's address."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite has the same ON CONFLICT

import database
from database import Connection
from models import FailedSignIn
from store.ids_and_clock import unix_now

FREE_TRIES = 5
FORGOTTEN_SECONDS = 3_600
_LONGEST_WAIT_SECONDS = 300
_IS_ADDRESS = FailedSignIn.address == sa.bindparam("of_address")
_FIND = sa.select(FailedSignIn.failures, FailedSignIn.last_at).where(_IS_ADDRESS)
_DELETE = sa.delete(FailedSignIn).where(_IS_ADDRESS)
_EXPIRED = sa.delete(FailedSignIn).where(FailedSignIn.last_at <= sa.bindparam("expiry"))
_FIRST = insert(FailedSignIn)
_ADD = _FIRST.on_conflict_do_update(
    index_elements=["address"],
    set_={"failures": FailedSignIn.failures + 1, "last_at": _FIRST.excluded.last_at},
)


def seconds_to_wait(address: str) -> int:
    """Return how long an address must wait: 0 at first, then twice as long each time."""
    with database.read() as connection:
        failures, last_at = connection.row(_FIND, {"of_address": address}) or (0, 0)
    now = unix_now()
    if failures < FREE_TRIES or last_at > now:
        return 0  # a clock that was set back must not make anybody wait
    wait: int = min(2 ** (failures - FREE_TRIES + 1), _LONGEST_WAIT_SECONDS)
    return max(0, int(last_at) + wait - now)


def note_failure(address: str) -> None:
    """Count a wrong key of an address."""
    now = unix_now()

    def change(connection: Connection) -> None:
        connection.change(_EXPIRED, {"expiry": now - FORGOTTEN_SECONDS})
        connection.change(_ADD, {"address": address, "failures": 1, "last_at": now})

    database.write(change)


def clear_failures(address: str) -> None:
    """Forget the failures of an address: it had a valid key."""
    database.write(lambda connection: connection.change(_DELETE, {"of_address": address}))
