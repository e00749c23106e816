"""Idempotency-Key: the answer of a POST is stored in the transaction of its write, and replayed.

Unlike hosted: the SDKs send no key by themselves, `extra_headers={"Idempotency-Key": …}` does.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Response, request
from sqlalchemy.dialects.postgresql import insert

import database
from access import project
from body import read_bytes
from errors import ApiError
from models import StoredAnswer, unix_now
from wire import answer

KEPT_SECONDS = 86_400
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_MISMATCH = (
    "This Idempotency-Key was used with another request. Use a new key for each different request."
)


def write_once(change: Callable[[sa.Connection], dict[str, Any]]) -> Response:
    """Run a change in one write transaction and answer; with an Idempotency-Key, only once.

    Raises ApiError 400 for a malformed key, 422 for one that was used with another request.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        with database.write() as connection:
            return answer(change(connection))
    if not _KEY.fullmatch(key):
        message = "An Idempotency-Key holds 1 to 255 printable ASCII characters."
        raise ApiError(400, message, code="invalid_idempotency_key")
    fingerprint = _fingerprint()
    with database.write() as connection:
        if not _claim(connection, key, fingerprint):
            return _replay(connection, key, fingerprint)
        body = orjson.dumps(change(connection))
        keep = sa.update(StoredAnswer).where(*_is(key)).values(body=body.decode())
        connection.execute(keep)
        return Response(body, content_type="application/json")


def _fingerprint() -> str:
    target = f"{request.method} {request.path.removeprefix('/v1')}\n".encode()
    return hashlib.sha256(target + read_bytes()).hexdigest()


def _is(key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return StoredAnswer.project == project(), StoredAnswer.key == key


def _claim(connection: sa.Connection, key: str, fingerprint: str) -> bool:
    """Take a key, unless it has an answer; where another transaction is at it, wait for its end."""
    now = unix_now()
    too_old = StoredAnswer.created_at <= now - KEPT_SECONDS
    connection.execute(sa.delete(StoredAnswer).where(too_old))
    values = {"project": project(), "key": key, "fingerprint": fingerprint, "created_at": now}
    claim = insert(StoredAnswer).values(**values, body="").on_conflict_do_nothing()
    return connection.execute(claim.returning(StoredAnswer.key)).first() is not None


def _replay(connection: sa.Connection, key: str, fingerprint: str) -> Response:
    answered = sa.select(StoredAnswer.fingerprint, StoredAnswer.body).where(*_is(key))
    stored = connection.execute(answered).one()
    if stored.fingerprint != fingerprint:
        raise ApiError(422, _MISMATCH, code="idempotency_key_reused")
    response = Response(stored.body, content_type="application/json")
    response.headers["Idempotent-Replayed"] = "true"
    return response
