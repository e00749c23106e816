"""The answers of writes with an Idempotency-Key, kept for 24 hours."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # SQLite has the same ON CONFLICT

from database import Connection
from models import StoredAnswer
from store.ids_and_clock import unix_now

KEPT_SECONDS = 86_400
_IS_PROJECT = StoredAnswer.project == sa.bindparam("of_project")
_IS_NAMED = sa.and_(_IS_PROJECT, StoredAnswer.key == sa.bindparam("of_key"))
_FIND = sa.select(StoredAnswer.fingerprint, StoredAnswer.body).where(_IS_NAMED)
_KEEP = sa.update(StoredAnswer).where(_IS_NAMED).values(body=sa.bindparam("new_body"))
_EXPIRED = sa.delete(StoredAnswer).where(StoredAnswer.created_at <= sa.bindparam("expiry"))
_CLAIM = insert(StoredAnswer).on_conflict_do_nothing()


def claim(connection: Connection, project: str, key: str, fingerprint: str) -> bool:
    """Take a key; return whether it was free. Waits for another transaction that takes it."""
    now = unix_now()
    connection.change(_EXPIRED, {"expiry": now - KEPT_SECONDS})
    values = {"project": project, "key": key, "fingerprint": fingerprint, "created_at": now}
    return connection.change(_CLAIM, {**values, "body": ""}) == 1


def keep(connection: Connection, project: str, key: str, body: str) -> None:
    """Store the answer of a key that was claimed."""
    connection.change(_KEEP, {"of_project": project, "of_key": key, "new_body": body})


def find(connection: Connection, project: str, key: str) -> Any:
    """Return the row (fingerprint, body) of a key that is taken."""
    return connection.row(_FIND, {"of_project": project, "of_key": key})
