"""Idempotency-Key: the answer of a POST is stored in the transaction of its write, and replayed.

Unlike hosted: the SDKs send no key by themselves, `extra_headers={"Idempotency-Key": …}` does.
"""

import hashlib
import re
from collections.abc import Callable

import orjson
from flask import Response

import database
from database import Connection
from rules import refusals
from store import stored_answers
from store.objects import Object
from web.request import current, project
from web.request_body import read_bytes
from web.responses import answer, answer_json

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def write_once(change: Callable[[Connection], Object]) -> Response:
    """Run a change in one write transaction and answer; with an Idempotency-Key, only once.

    Raises ApiError 400 for a malformed key, 422 for one that was used with another request.
    """
    key = current().headers.get("Idempotency-Key")
    if key is None:
        return answer(database.write(change))
    if not _KEY.fullmatch(key):
        raise refusals.malformed_idempotency_key()
    fingerprint = _fingerprint()

    def change_once(connection: Connection) -> Response:
        if not stored_answers.claim(connection, project(), key, fingerprint):
            return _replay(connection, key, fingerprint)
        body = orjson.dumps(change(connection))
        stored_answers.keep(connection, project(), key, body.decode())
        return answer_json(body)

    return database.write(change_once)


def _fingerprint() -> str:
    request = current()
    target = f"{request.method} {request.path.removeprefix('/v1')}\n".encode()
    return hashlib.sha256(target + read_bytes()).hexdigest()


def _replay(connection: Connection, key: str, fingerprint: str) -> Response:
    stored = stored_answers.find(connection, project(), key)
    if stored.fingerprint != fingerprint:
        raise refusals.idempotency_key_reused()
    response = answer_json(stored.body)
    response.headers["Idempotent-Replayed"] = "true"
    return response
