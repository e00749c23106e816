"""The request, with the results of its checks."""

import random
from typing import Any, cast

import flask

from models import DEFAULT_PROJECT


class Request(flask.Request):
    """A request: its id, its start and its project."""

    request_id = ""
    started = 0  # nanoseconds of perf_counter
    project = DEFAULT_PROJECT
    key_shown: str | None = None  # the first characters of its API key
    body: bytes | None = None  # the whole body, once it is read
    has_place = False  # among the few with a large body in memory
    fault: dict[str, Any] | None = None  # of the mock controls


def new_request_id() -> str:
    """Return `req_` and 32 hexadecimal digits, like the hosted API."""
    return f"req_{random.getrandbits(128):032x}"


def current() -> Request:
    """Return the request itself, not Flask's proxy of it."""
    return cast(Request, flask.request._get_current_object())  # type: ignore[attr-defined]


def project() -> str:
    """Return the project that this request reads and writes."""
    return current().project
