"""The answers: JSON out of objects, and the standard headers."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from tempfile import TemporaryFile
from time import perf_counter_ns
from typing import Any

import orjson
from flask import Response, current_app, stream_with_context
from werkzeug.datastructures import Headers

from lists.pages import Page
from store.objects import Object
from web import request_log
from web.request import Request, current
from web.request_body import is_ahead

_SPOOLED_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
# Not `no-referrer`: with it browsers send `Origin: null` from our own forms.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class JsonResponse(Response):
    """A response with complete headers: Werkzeug would copy and complete them."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        return self.headers


def answer(value: Mapping[str, Any]) -> Response:
    """Return a 200 response with an object as JSON."""
    return answer_json(orjson.dumps(value))


def answer_json(text: bytes | str) -> Response:
    """Return a 200 response with JSON text."""
    return JsonResponse(text, content_type="application/json")


def event_stream(pieces: Iterator[bytes]) -> Response:
    """Return a 200 response with Server-Sent Events as they come."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response(pieces, content_type="text/event-stream; charset=utf-8", headers=headers)


def file_of(pieces: Iterator[bytes], content_type: str, name: str) -> Response:
    """Return a 200 response with a file. The first piece is read at once: it may be a refusal."""
    first = next(pieces, b"")
    response = Response(stream_with_context(chain([first], pieces)), content_type=content_type)
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def list_object(page: Page) -> Object:
    """Return a list object; an empty one has null ids (recorded 2024-04, unlike the spec)."""
    ids = [each["id"] for each in page.objects] or [None]
    ends = {"first_id": ids[0], "last_id": ids[-1]}
    return {"object": "list", "data": page.objects, **ends, "has_more": page.has_more}


def finish(response: Response) -> Response:
    """Add the standard headers, count the request and log it."""
    request = current()
    elapsed = perf_counter_ns() - request.started
    headers = response.headers
    headers.add("x-request-id", request.request_id)
    headers.add("openai-processing-ms", elapsed // 1_000_000)
    headers.add("openai-version", "2020-10-01")
    headers.add("X-Content-Type-Options", "nosniff")
    if request.path.startswith("/admin/"):
        headers.update(_PAGE_HEADERS)
    elif _is_keyed() and headers.get("Content-Type") == "application/json":
        headers["Cache-Control"] = "no-store"
    status, size = response.status_code, response.content_length
    if response.is_streamed:  # its time is that of the whole stream
        # A response that refers to itself would be closed late, outside its request.
        response.call_on_close(partial(_record, request, status, size))
    else:
        _record(request, status, size)
        if (size or 0) > _SPOOLED_BYTES:
            _spool(response)
    if is_ahead(request) or (status >= 400 and "Connection" in headers):
        _close_connection(request)
    return response


def _record(request: Request, status: int, size: int | None) -> None:
    request_log.record(request, status, size, perf_counter_ns() - request.started)


def _is_keyed() -> bool:
    return current_app.extensions["keys"].is_keyed  # type: ignore[no-any-return]


def _close_connection(request: Request) -> None:
    """Say that this answer is the last of its connection: the rest of the body is not read."""
    close = getattr(request.environ.get("gunicorn.socket"), "close_after_answer", None)
    if close:
        close()


def _spool(response: Response) -> None:
    """Keep a large answer in a file while the client takes it."""
    with suppress(OSError):  # without a disk it stays in memory
        file = TemporaryFile()  # noqa: SIM115 (the response closes it)
        response.call_on_close(file.close)
        file.write(response.get_data())
        file.seek(0)
        response.response = iter(lambda: file.read(_PIECE_BYTES), b"")
