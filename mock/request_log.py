"""The log of the last API requests: it shows a test the requests of its program."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import perf_counter_ns
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException

from mock.faults import COUNTS
from rules.errors import ApiError
from web.request import Request
from web.request_body import read_bytes

LOGGED_REQUESTS = 1_000
"""The most requests of one project."""
LOGGED_BYTES = 32 << 20
"""The most bytes of all projects together, about."""
LOGGED_BODY_BYTES = 16_384
"""The most bytes of a body, and of an answer."""
_ENTRY_BYTES = 1_024
_SECRETS = {"Authorization", "Proxy-Authorization", "Api-Key", "X-Api-Key", "Cookie"}


@dataclass(eq=False, slots=True)
class Entry:
    """A logged request. `is_open` tells that its answer is a stream that goes on."""

    time: datetime
    method: str
    path: str
    query: str
    status: int
    milliseconds: int
    request_id: str
    headers: dict[str, str]
    body: bytes
    fault: dict[str, Any] | None
    body_is_cut: bool = False
    answer: bytes = b""
    answer_is_cut: bool = False
    is_open: bool = False
    size: int = 0

    def set_answer(self, answer: bytes) -> None:
        """Keep the beginning of the answer."""
        self.answer = answer[:LOGGED_BODY_BYTES]
        self.answer_is_cut = len(answer) > LOGGED_BODY_BYTES


class RequestLog:
    """The last requests of each project; the project of requests without an API key is None."""

    def __init__(self) -> None:
        self._entries: dict[str | None, deque[Entry]] = {}
        self._bytes, self._lock = 0, Lock()

    def of(self, request: Request) -> list[Entry]:
        """Return the entries of a request's project, oldest first."""
        with self._lock:
            return list(self._entries.get(_project_of(request), ()))

    def clear(self, request: Request) -> None:
        """Forget the entries of a request's project."""
        with self._lock:
            entries = self._entries.pop(_project_of(request), deque())
            self._bytes -= sum(entry.size for entry in entries)

    def add(self, request: Request, response: Response) -> None:
        """Log a request and its answer. That of a stream comes with its end."""
        entry = _entry(request, response.status_code)
        if response.is_streamed:
            entry.is_open = True
            response.response = _Watched(response.response, entry, request)
        else:
            entry.set_answer(response.get_data())
        entry.size = _size(entry)
        with self._lock:
            self._add(self._entries.setdefault(_project_of(request), deque()), entry)

    def _add(self, entries: deque[Entry], entry: Entry) -> None:
        entries.append(entry)
        self._bytes += entry.size
        if len(entries) > LOGGED_REQUESTS:
            self._bytes -= entries.popleft().size
        while self._bytes > LOGGED_BYTES:
            filled = filter(None, self._entries.values())
            self._bytes -= min(filled, key=lambda entries: entries[0].time).popleft().size


class _Watched:
    """The pieces of a stream, whose beginning goes into the log."""

    def __init__(self, pieces: Iterable[Any], entry: Entry, request: Request) -> None:
        self._pieces, self._rest = pieces, iter(pieces)
        self._entry, self._request, self._kept = entry, request, bytearray()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece: bytes = next(self._rest)
        if len(self._kept) <= LOGGED_BODY_BYTES:
            self._kept += piece
        return piece

    def close(self) -> None:
        """End the entry, and the stream."""
        self._entry.set_answer(bytes(self._kept))
        self._entry.milliseconds = _milliseconds(self._request)
        self._entry.is_open = False
        if close := getattr(self._pieces, "close", None):
            close()


def _project_of(request: Request) -> str | None:
    return request.project if request.key_shown else None


def _entry(request: Request, status: int) -> Entry:
    milliseconds, body, fault = _milliseconds(request), _body_of(request), request.fault or {}
    return Entry(
        datetime.now(UTC) - timedelta(milliseconds=milliseconds),
        request.method,
        request.path,
        request.query_string.decode(errors="replace"),
        status,
        milliseconds,
        request.request_id,
        {name: text for name, text in request.headers if name not in _SECRETS},
        body[:LOGGED_BODY_BYTES],
        {name: part for name, part in fault.items() if name not in COUNTS} or None,
        body_is_cut=len(body) > LOGGED_BODY_BYTES,
    )


def _size(entry: Entry) -> int:
    """Return the bytes of an entry, with those that its stream may become."""
    texts = (entry.path, entry.query, *entry.headers, *entry.headers.values())
    answer = LOGGED_BODY_BYTES if entry.is_open else len(entry.answer)
    return _ENTRY_BYTES + len(entry.body) + answer + sum(map(len, texts))


def _milliseconds(request: Request) -> int:
    return (perf_counter_ns() - request.started) // 1_000_000


def _body_of(request: Request) -> bytes:
    """Return the body; read a short one if nothing has read it."""
    is_short = 0 < (request.content_length or 0) <= LOGGED_BODY_BYTES
    if is_short and "stream" not in vars(request):
        with suppress(ApiError, HTTPException):
            read_bytes()
    return request.body or b""
