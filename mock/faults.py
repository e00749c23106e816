"""Faults: errors, delays and dropped connections, by a rule or by the headers of one request."""

import math
import random
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from fnmatch import fnmatchcase
from socket import MSG_DONTWAIT, MSG_PEEK, SHUT_RDWR
from threading import Event
from typing import Any

from database.waits import waiting
from mock.schemas import MAX_DELAY_MILLISECONDS
from rules import refusals
from web.addresses import is_of_api
from web.error_answers import envelope
from web.request import Request
from web.request_body import give_back_place, read_bytes

_FAULTS: dict[str, Any] = {str(status): {"status": status} for status in range(400, 600)}
_FAULTS |= {"": {}, "drop": {"drop": "before"}, "drop-after": {"drop": "after"}}
COUNTS = ("matched", "fired")
_LOOK_SECONDS = 0.1
_ERROR_EVENT = b"event: error\ndata: %b\n\n" % envelope(refusals.injected({"status": 500}))


class Rule:
    """A fault rule: `object` is a loaded FaultRule with its COUNTS."""

    def __init__(self, rule: dict[str, Any]) -> None:
        self.object = {**rule, **dict.fromkeys(COUNTS, 0)}
        self._random = random.Random(rule.get("seed"))  # noqa: S311

    def fires(self, request: Request) -> bool:
        """Count a request that matches. Return whether the fault applies to it."""
        rule = self.object
        if not self._matches(request):
            return False
        rule["matched"] += 1
        is_due = rule["matched"] % rule.get("every", 1) == 0
        is_due = is_due and rule["fired"] < rule.get("times", math.inf)
        happens: bool = is_due and self._random.random() < rule.get("rate", 1)
        rule["fired"] += happens
        return happens

    def _matches(self, request: Request) -> bool:
        rule = self.object
        if "path" not in rule:
            is_path = is_of_api(request.path)
        else:
            is_path = fnmatchcase(request.path, rule["path"])
        return is_path and rule.get("method", request.method) == request.method


def read_headers(request: Request) -> dict[str, Any]:
    """Return the fault of X-Mock-Fault (`503`) and X-Mock-Delay (`2s`). Raises ApiError 400."""
    word = request.environ.get("HTTP_X_MOCK_FAULT", "")
    if word not in _FAULTS:
        expected = "a status from 400 to 599, `drop` or `drop-after`"
        raise refusals.wrong_mock_header("X-Mock-Fault", expected)
    return {**_FAULTS[word], **_read_delay(request.environ.get("HTTP_X_MOCK_DELAY", ""))}


def apply(fault: dict[str, Any], request: Request, rules_end: Event) -> None:
    """Apply a fault to a request. Raises ApiError 503, or with the status of the fault."""
    read_bytes()  # before the delay, which holds nobody up
    give_back_place()
    if "delay_ms" in fault:
        with waiting():
            _wait(request, _seconds(fault["delay_ms"]), rules_end)
    if fault.get("drop") == "before":
        raise refusals.connection_dropped()
    if "status" in fault:
        raise refusals.injected(fault)


def broken(pieces: Iterable[bytes], fault: dict[str, Any], request: Request) -> Iterator[bytes]:
    """Yield the pieces of a stream until its fault: a stall, an error event, or its end."""
    events, is_due = 0, True
    with closing(iter(pieces)) as rest:  # type: ignore[type-var]
        for piece in rest:
            if is_due and events == fault.get("after_events", 1):
                is_due = False
                _stall(fault, request)
                if fault.get("stream_error"):
                    yield _ERROR_EVENT
                    return
                if fault.get("drop") == "midway":
                    drop_connection(request)
                    return
            events += piece.startswith(b"event: ")
            yield piece


def _stall(fault: dict[str, Any], request: Request) -> None:
    if "stall_ms" in fault:
        with waiting():
            _wait(request, _seconds(fault["stall_ms"]), Event())


def drop_connection(request: Request) -> None:
    """Close the connection of a request: nothing can be sent any more."""
    if connection := request.environ.get("gunicorn.socket"):
        with suppress(OSError):  # the client may be gone
            connection.shutdown(SHUT_RDWR)


def _read_delay(word: str) -> dict[str, Any]:
    if not word:
        return {}
    match = re.fullmatch("([0-9]{1,5})(ms|s)", word)
    milliseconds = int(match[1]) * (1 if match[2] == "ms" else 1000) if match else math.inf
    if milliseconds > MAX_DELAY_MILLISECONDS:
        expected = "a time up to 60 s, for example 250ms or 2s"
        raise refusals.wrong_mock_header("X-Mock-Delay", expected)
    return {"delay_ms": (milliseconds, milliseconds)}


def _wait(request: Request, seconds: float, rules_end: Event) -> None:
    """Wait, at most until the rules end. Raises ApiError 503 when the client is gone."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not _client_is_gone(request):
        if rules_end.wait(min(_LOOK_SECONDS, left)):
            break
    if _client_is_gone(request):  # its test is over: it must not write during the next test
        raise refusals.client_is_gone()


def _seconds(milliseconds: tuple[int, int]) -> float:
    return random.uniform(*milliseconds) / 1000  # noqa: S311


def _client_is_gone(request: Request) -> bool:
    connection = request.environ.get("gunicorn.socket")
    try:
        return connection is not None and connection.recv(1, MSG_PEEK | MSG_DONTWAIT) == b""
    except OSError as error:
        return not isinstance(error, BlockingIOError)
