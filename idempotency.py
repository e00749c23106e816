"""Idempotency-Key: the answer of a POST is stored in the transaction of its write, and replayed.

Unlike hosted: the SDKs send no key by themselves, `extra_headers={"Idempotency-Key": …}` does.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Response, request
from sqlalchemy.dialects.postgresql import insert

import database
from access import project
from body import read_bytes
from database import Connection
from errors import ApiError
from models import StoredAnswer, unix_now
from wire import answer

KEPT_SECONDS = 86_400
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_MISMATCH = (
    "This Idempotency-Key was used with another request. Use a new key for each different request."
)


def write_once(change: Callable[..., str], *given: Any, alone: bool = True) -> Response:
    """Run a change in one write transaction and answer; with an Idempotency-Key, only once.

    `alone` says that it is one change for the database (database.Lone).

    Raises ApiError 400 for a malformed key, 422 for one that was used with another request.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        with database.write(alone=alone) as connection:
            return answer(change(connection, project(), *given))
    if not _KEY.fullmatch(key):
        message = "An Idempotency-Key holds 1 to 255 printable ASCII characters."
        raise ApiError(400, message, code="invalid_idempotency_key")
    fingerprint = _fingerprint()
    with database.write() as connection:
        if not _claim(connection, key, fingerprint):
            return _replay(connection, key, fingerprint)
        body = change(connection, project(), *given)
        connection.change(_KEEP, {**_named(key), "new_body": body})
        return answer(body)


def _fingerprint() -> str:
    target = f"{request.method} {request.path.removeprefix('/v1')}\n".encode()
    return hashlib.sha256(target + read_bytes()).hexdigest()


def _named(key: str) -> dict[str, Any]:
    return {"of_project": project(), "of_key": key}


_IS_NAMED = (
    StoredAnswer.project == sa.bindparam("of_project"),
    StoredAnswer.key == sa.bindparam("of_key"),
)
_ANSWERED = sa.select(StoredAnswer.fingerprint, StoredAnswer.body).where(*_IS_NAMED)
_KEEP = sa.update(StoredAnswer).where(*_IS_NAMED).values(body=sa.bindparam("new_body"))
_FORGET = sa.delete(StoredAnswer).where(StoredAnswer.created_at <= sa.bindparam("too_old"))
_CLAIM = insert(StoredAnswer).on_conflict_do_nothing()


def _claim(connection: Connection, key: str, fingerprint: str) -> bool:
    """Take a key, unless it has an answer; where another transaction is at it, wait for its end."""
    now = unix_now()
    connection.change(_FORGET, {"too_old": now - KEPT_SECONDS})
    values = {"project": project(), "key": key, "fingerprint": fingerprint, "created_at": now}
    return connection.change(_CLAIM, {**values, "body": ""}) == 1


def _replay(connection: Connection, key: str, fingerprint: str) -> Response:
    [stored] = connection.rows(_ANSWERED, _named(key))
    if stored.fingerprint != fingerprint:
        raise ApiError(422, _MISMATCH, code="idempotency_key_reused")
    response = answer(stored.body)
    response.headers["Idempotent-Replayed"] = "true"
    return response
