"""Idempotency-Key: a POST stores its answer in its own transaction; a repetition gets it again."""

import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from flask import Response

import database
from rules import refusals
from store import objects, stored_answers
from web.addresses import without_prefix
from web.request import current, project
from web.request_body import read_bytes
from web.responses import answer, answer_json


def write_once(change: Callable[..., objects.Object], *arguments: Any) -> Response:
    """Answer with `change(connection, *arguments)`, run in one transaction and once for a key.

    Raises ApiError 400 for a malformed Idempotency-Key, 404 when its object was deleted since,
    422 for the key of another request.
    """
    mark = _mark()
    if mark is None:
        return answer(database.write(lambda connection: change(connection, *arguments)))

    def change_once(connection: database.Connection) -> Response:
        if not stored_answers.claim(connection, project(), *mark):
            return _replay(stored_answers.find(connection, project(), mark.key), mark)
        made = change(connection, *arguments)
        body = orjson.dumps(made)
        stored_answers.keep(connection, project(), mark.key, body.decode(), made)
        return answer_json(body)

    return database.write(change_once)


def replay() -> Response | None:
    """Return the stored answer of this request, None if it has to be made.

    A view asks that looks at its objects before `write_once`: they may be gone since. Raises
    ApiError as `write_once` does.
    """
    mark = _mark()
    if mark is None:
        return None
    with database.read() as connection:
        stored = stored_answers.find(connection, project(), mark.key)
    is_kept = stored is not None and not stored_answers.is_expired(stored)
    return _replay(stored, mark) if is_kept else None


class _Mark(NamedTuple):
    """The key of a request, and what tells it from other requests."""

    key: str
    fingerprint: str


def _mark() -> _Mark | None:
    """Return the mark of this request, None without a key. Raises ApiError 400."""
    request = current()
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not re.fullmatch(r"[\x20-\x7e]{1,255}", key):
        raise refusals.malformed_idempotency_key()
    target = f"{request.method} {without_prefix(request.path)}\n".encode()
    return _Mark(key, hashlib.sha256(target + read_bytes()).hexdigest())


def _replay(stored: Any, mark: _Mark) -> Response:
    if stored.fingerprint != mark.fingerprint:
        raise refusals.idempotency_key_reused()
    if not stored.body:
        raise refusals.answer_forgotten()
    response = answer_json(stored.body)
    response.headers["Idempotent-Replayed"] = "true"
    return response
