"""The request, with what the checks learn of it."""

from typing import cast

import flask

from models import DEFAULT_PROJECT


class Request(flask.Request):
    """A request: its id, when it began, and whose it is. Flask makes one for each."""

    request_id = ""
    started = 0
    """Nanoseconds of perf_counter."""
    project = DEFAULT_PROJECT
    """The project that it reads and writes."""
    key_shown: str | None = None
    """The first characters of its API key."""
    body: bytes | None = None
    """The whole body, once it is read."""
    is_dropped = False
    """Whether a fault rule drops the connection in place of the answer."""


def current() -> Request:
    """Return the request itself, behind the proxy of Flask."""
    return cast(Request, flask.request._get_current_object())  # type: ignore[attr-defined]


def project() -> str:
    """Return the project that this request reads and writes."""
    return current().project
