"""Idempotency-Key: a POST stores its answer in its own transaction; a repetition gets it again."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

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
    request = current()
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return answer(database.write(lambda connection: change(connection, *arguments)))
    if not re.fullmatch(r"[\x20-\x7e]{1,255}", key):
        raise refusals.malformed_idempotency_key()
    target = f"{request.method} {without_prefix(request.path)}\n".encode()
    fingerprint = hashlib.sha256(target + read_bytes()).hexdigest()

    def change_once(connection: database.Connection) -> Response:
        if not stored_answers.claim(connection, project(), key, fingerprint):
            return _replay(connection, key, fingerprint)
        made = change(connection, *arguments)
        body = orjson.dumps(made)
        stored_answers.keep(connection, project(), key, body.decode(), made)
        return answer_json(body)

    return database.write(change_once)


def _replay(connection: database.Connection, key: str, fingerprint: str) -> Response:
    stored = stored_answers.find(connection, project(), key)
    if stored.fingerprint != fingerprint:
        raise refusals.idempotency_key_reused()
    if not stored.body:
        raise refusals.answer_forgotten()
    response = answer_json(stored.body)
    response.headers["Idempotent-Replayed"] = "true"
    return response
