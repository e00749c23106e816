"""The answers: JSON out of objects, the standard headers, and the line in the log."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

import orjson
from flask import Response
from werkzeug.datastructures import Headers

from store.lists import Page
from store.objects import Object
from web.metrics import timer
from web.request import Request, current

# Not `no-referrer`: with it browsers send `Origin: null` from our own forms.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class JsonResponse(Response):
    """A response whose headers are complete: Werkzeug copies and reads them once more."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        return self.headers


def answer(value: Mapping[str, Any]) -> Response:
    """Return a 200 response with an object as JSON."""
    return answer_json(orjson.dumps(value))


def answer_json(text: bytes | str) -> Response:
    """Return a 200 response with JSON text."""
    return JsonResponse(text, content_type="application/json")


def list_object(page: Page) -> Object:
    """Return a list object; an empty one has null ids (recorded 2024-04, unlike the spec)."""
    ends = (page.objects[0]["id"], page.objects[-1]["id"]) if page.objects else (None, None)
    return {
        "object": "list",
        "data": page.objects,
        "first_id": ends[0],
        "last_id": ends[1],
        "has_more": page.has_more,
    }


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
    _record(request, response, elapsed)
    return response


def _record(request: Request, response: Response, elapsed: int) -> None:
    """Count the request and log its line: no body, no key, no cookie, and no path either."""
    rule = request.url_rule
    method, route = (request.method, rule.rule) if rule else ("-", "-")
    line = {
        "time": datetime.now(UTC),
        "request_id": request.request_id,
        "method": request.method,
        "route": route,
        "status": response.status_code,
        "ms": round(elapsed / 1e6, 2),
        "bytes": response.content_length,
        "key": request.key_shown,
    }
    with suppress(OSError):  # a change is stored by now: a lost count or line must not fail it
        timer(method, route, response.status_code).observe(elapsed / 1e9)
    with suppress(OSError):
        os.write(2, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
