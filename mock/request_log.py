"""The log of the last requests: it shows a test the requests of its program."""

import time
from collections import deque
from contextlib import suppress
from typing import Any

import orjson
from werkzeug.exceptions import HTTPException

from rules.errors import ApiError
from web.error_answers import is_page
from web.request import Request
from web.request_body import read_bytes

LOGGED_REQUESTS = 1_000
LOGGED_BODY_BYTES = 16_384


class RequestLog:
    """The last requests of each project; the project of requests without an API key is None."""

    def __init__(self) -> None:
        self._entries: dict[str | None, deque[dict[str, Any]]] = {}

    def of(self, request: Request) -> deque[dict[str, Any]]:
        """Return the entries of a request's project, oldest first."""
        project = request.project if request.key_shown else None
        return self._entries.setdefault(project, deque(maxlen=LOGGED_REQUESTS))

    def add(self, request: Request, status: int) -> None:
        """Log a request and the status of its answer."""
        entry = {
            "method": request.method,
            "path": request.path,
            "query": request.query_string.decode(errors="replace"),
            "status": status,
            "milliseconds": (time.perf_counter_ns() - request.started) // 1_000_000,
            "request_id": request.request_id,
            "body": _body_of(request)[:LOGGED_BODY_BYTES],
        }
        self.of(request).append(entry)


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with its body as JSON if possible, else as text; no body is null."""
    body = entry["body"] or b"null"
    try:
        orjson.loads(body)
    except ValueError:
        return entry | {"body": body.decode(errors="replace")}
    return entry | {"body": orjson.Fragment(body)}


def _body_of(request: Request) -> bytes:
    """Return the body, but no form; read a short one if nothing has read it."""
    if is_page(request.path):
        return b""
    is_short = 0 < (request.content_length or 0) <= LOGGED_BODY_BYTES
    if is_short and "stream" not in vars(request):
        with suppress(ApiError, HTTPException):
            read_bytes()
    return request.body or b""
