"""The second of a new object: it never lies below that of an earlier one made in its project."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite has the same ON CONFLICT

from database import Connection
from models import NewestSecond
from rules.ids_and_clock import sources, unix_now

_IS_PROJECT = NewestSecond.project == sa.bindparam("of_project")
_IS_LIST = sa.and_(_IS_PROJECT, NewestSecond.kind == sa.bindparam("of_kind"))
# PostgreSQL lets the creations of a project in one by one: else a later one may be seen first.
_FIND = sa.select(NewestSecond.second).where(_IS_LIST).with_for_update()
_SET = sa.update(NewestSecond).where(_IS_LIST).values(second=sa.bindparam("new_second"))
_FIRST = insert(NewestSecond).on_conflict_do_nothing()


def next_second(connection: Connection, project: str, kind: str, is_new: bool = True) -> int:
    """Return the second of a new object of a kind, in its write transaction.

    A row that was inserted earlier is not new: its second comes after all others. Imported times do
    not count, and the clock of the mock controls is obeyed as it is.
    """
    now = unix_now()
    if sources.is_set:
        return now
    values: dict[str, Any] = {"of_project": project, "of_kind": kind}
    newest = connection.value(_FIND, values)
    if newest is None:
        connection.change(_FIRST, {"project": project, "kind": kind, "second": 0})
        newest = connection.value(_FIND, values)
    second = max(now, newest + (not is_new))
    if second > newest:
        connection.change(_SET, {**values, "new_second": second})
    return int(second)
