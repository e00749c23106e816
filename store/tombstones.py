"""Tombstones: the places of deleted objects, which may still be cursors."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite has the same ON CONFLICT

from database import Connection, Values
from models import Tombstone
from rules.ids_and_clock import unix_now

KEPT_SECONDS = 86_400
_KEY = ["project", "thread_seq", "id"]
_EXPIRED = sa.delete(Tombstone).where(Tombstone.deleted_at <= sa.bindparam("expiry"))
_PLACE = (Tombstone.created_at, Tombstone.seq, Tombstone.last_active_at, Tombstone.touch)
_FIND = sa.select(*_PLACE).where(
    Tombstone.project == sa.bindparam("of_project"),
    Tombstone.thread_seq == sa.bindparam("of_thread_seq"),
    Tombstone.id == sa.bindparam("of_id"),
    Tombstone.deleted_at > sa.bindparam("expiry"),
)
_OF_MESSAGES = (
    Tombstone.project == sa.bindparam("of_project"),
    Tombstone.thread_seq == sa.bindparam("of_thread_seq"),
)
_FORGET_MESSAGES = sa.delete(Tombstone).where(*_OF_MESSAGES)


def burial(rows: sa.Select[*tuple[Any, ...]]) -> sa.Executable:
    """Return the statement that stores the places: `rows` has the columns of tombstones."""
    names = [str(each.key) for each in rows.selected_columns]
    values = rows.add_columns(
        sa.bindparam("of_project", type_=sa.Text), sa.bindparam("now", type_=sa.BigInteger)
    )
    buried = insert(Tombstone).from_select([*names, "project", "deleted_at"], values)
    moved = {name: buried.excluded[name] for name in [*names, "deleted_at"] if name not in _KEY}
    return buried.on_conflict_do_update(index_elements=_KEY, set_=moved)


def bury(connection: Connection, burial: sa.Executable, values: Values) -> None:
    """Run a burial, and delete the tombstones that are too old."""
    now = unix_now()
    connection.change(burial, {**values, "now": now})
    connection.change(_EXPIRED, {"expiry": now - KEPT_SECONDS})


def place_of(connection: Connection, project: str, thread_seq: int, id_: str) -> Any:
    """Return the place of a deleted object, or None (wire reference, decision 8)."""
    values = {"of_project": project, "of_thread_seq": thread_seq, "of_id": id_}
    return connection.row(_FIND, values | {"expiry": unix_now() - KEPT_SECONDS})


def forget_messages(connection: Connection, project: str, thread_seq: int) -> None:
    """Delete the places of a thread's messages: it gets its `seq` again, and they do not."""
    connection.change(_FORGET_MESSAGES, {"of_project": project, "of_thread_seq": thread_seq})
