"""The answers of writes with an Idempotency-Key, kept for 24 hours."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite has the same ON CONFLICT

from database import Connection, Values
from models import StoredAnswer
from rules.ids_and_clock import unix_now
from store.objects import Object

KEPT_SECONDS = 86_400
_IS_PROJECT = StoredAnswer.project == sa.bindparam("of_project")
_IS_NAMED = sa.and_(_IS_PROJECT, StoredAnswer.key == sa.bindparam("of_key"))
_FIND = sa.select(StoredAnswer.fingerprint, StoredAnswer.body, StoredAnswer.created_at)
_FIND = _FIND.where(_IS_NAMED)
_KEPT: Any = {name: sa.bindparam(f"new_{name}") for name in ("body", "thread", "object")}
_KEEP = sa.update(StoredAnswer).where(_IS_NAMED).values(_KEPT)
_IN_THREAD = sa.and_(_IS_PROJECT, StoredAnswer.thread == sa.bindparam("thread_id"))
_IS_OBJECT = sa.and_(_IN_THREAD, StoredAnswer.object == sa.bindparam("of_id"))
_EXPIRED = sa.delete(StoredAnswer).where(StoredAnswer.created_at <= sa.bindparam("expiry"))
_CLAIM = insert(StoredAnswer).on_conflict_do_nothing()


def claim(connection: Connection, project: str, key: str, fingerprint: str) -> bool:
    """Take a key; return whether it was free. Waits for another transaction that takes it."""
    now = unix_now()
    delete_expired(connection)
    values = {"project": project, "key": key, "fingerprint": fingerprint, "created_at": now}
    return connection.change(_CLAIM, {**values, "body": ""}) == 1


def keep(connection: Connection, project: str, key: str, body: str, answer: Object) -> None:
    """Store the answer of a key that was claimed: the body, and the object that it is made of."""
    id_ = answer["id"]
    ids = {"new_thread": answer.get("thread_id", id_), "new_object": id_}
    connection.change(_KEEP, {"of_project": project, "of_key": key, "new_body": body, **ids})


def find(connection: Connection, project: str, key: str) -> Any:
    """Return the row (fingerprint, body, created_at) of a key, or None. A body may be forgotten."""
    return connection.row(_FIND, {"of_project": project, "of_key": key})


def is_expired(stored: Any) -> bool:
    """Return whether a row is too old, and its key free again."""
    return bool(stored.created_at <= _expiry()["expiry"])


def delete_expired(connection: Connection) -> None:
    """Delete the answers that are too old."""
    connection.change(_EXPIRED, _expiry())


def _expiry() -> dict[str, int]:
    return {"expiry": unix_now() - KEPT_SECONDS}


def forgetting(which: sa.ColumnElement[bool]) -> sa.Executable:
    """Return the statement that forgets the bodies of some answers of a project."""
    return sa.update(StoredAnswer).where(_IS_PROJECT, which).values(body="")


FORGET_THREAD = forgetting(_IN_THREAD)
FORGET_MESSAGE = forgetting(_IS_OBJECT)


def forget(connection: Connection, forgetting: sa.Executable, values: Values) -> None:
    """Forget the answers about an object that is deleted, and delete those that are too old."""
    connection.change(forgetting, values)
    delete_expired(connection)
