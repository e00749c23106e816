"""Refusals, and the one place that writes an error body: JSON, or a page under /admin/."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from flask import Flask, render_template, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.wrappers import Response

PARAM = "\0"
PARENT = "\0\0"
_SHOWN_CHARACTERS = 1000
_RANK: dict[str | None, int] = {"missing_required_parameter": 0, "unknown_parameter": 1}


class ApiError(HTTPException):
    """A refusal with its HTTP status, sentence, param, code and extra headers."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = status
        self.param = param
        self.error_code = code
        self.extra_headers = dict(headers or {})


def busy() -> ApiError:
    """Return the refusal of a request that waited too long for its turn at the database."""
    message = "The database is busy; nothing was written. Try again in a second."
    return ApiError(503, message, code="database_busy", headers={"Retry-After": "1"})


def unavailable() -> ApiError:
    """Return the refusal of a request that found no usable database."""
    message = "The database cannot be used; nothing was written. The server's log has the cause."
    return ApiError(503, message, code="database_unavailable", headers={"Retry-After": "5"})


def too_broad() -> ApiError:
    """Return the refusal of a search that reached its time limit."""
    message = "The search took too long. Ask for a rarer word, or narrow the dates."
    return ApiError(400, message, "q", "search_too_broad")


class Fault(str):
    """A validation sentence with its wire code; PARAM stands where the path belongs.

    PARENT stands for the path of the object around it. PARAM is U+0000, which no accepted input
    contains, so client text is never mistaken for it.
    """

    code: str | None

    def __new__(cls, code: str | None, sentence: str) -> "Fault":
        fault = super().__new__(cls, sentence)
        fault.code = code
        return fault

    def at(self, path: str, parent: str = "") -> str:
        """Return the sentence with its paths filled in."""
        return self.replace(PARENT, parent).replace(PARAM, path)


def init_app(app: Flask) -> None:
    """Answer every HTTPException and ValidationError with the error envelope, or as a page."""
    app.register_error_handler(HTTPException, _answer)
    app.register_error_handler(ValidationError, lambda error: _answer(first_fault(error)))


def first_fault(error: ValidationError) -> ApiError:
    """Pick the one fault to report: missing, then unknown, then the rest in schema order.

    Unknown keys reach marshmallow's report in no order, so of several the first by name is taken.
    """
    path, fault, parent = min(_walk(error.messages, ""), key=_rank)
    return ApiError(400, fault.at(path, parent), path or None, fault.code)


def is_first(error: ValidationError) -> bool:
    """Tell whether a report holds a fault that goes before those of types and bounds."""
    return any(fault.code in _RANK for _, fault, _ in _walk(error.messages, ""))


def by_path(error: ValidationError) -> dict[str, str]:
    """Return every fault's sentence by its path (`metadata.colour`), for a form."""
    found = _walk(error.messages, "")
    return {path: fault.at(path, parent) for path, fault, parent in found}


def is_page(path: str) -> bool:
    """Tell whether an address belongs to the browse page and is read by a person."""
    return path.startswith("/admin/") and not path.endswith(".json")


def _rank(found: tuple[str, Fault, str]) -> tuple[int, str]:
    path, fault, _ = found
    rank = _RANK.get(fault.code, 2)
    return rank, path if fault.code == "unknown_parameter" else ""


def _walk(node: Any, path: str, parent: str = "") -> Iterator[tuple[str, Fault, str]]:
    """Yield each fault with its path and that of the object around it."""
    if isinstance(node, dict):
        for key, below in node.items():
            yield from _walk(below, path + _step(key, path), path)
    else:
        yield from ((path, fault, parent) for fault in node)


def _step(key: int | str, path: str) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    shown = key if len(key) <= _SHOWN_CHARACTERS else f"{key[:_SHOWN_CHARACTERS]}..."
    return f".{shown}" if path else shown


def _answer(error: HTTPException) -> Response:
    failure = error if isinstance(error, ApiError) else _from_werkzeug(error)
    status = failure.code or 500
    response = error.get_response()
    response.status_code = status
    if is_page(request.path):
        response.content_type = "text/html; charset=utf-8"
        response.set_data(render_template("error.html", status=status, error=failure))
    else:
        kind = "invalid_request_error" if status < 500 else "server_error"
        told = {"message": failure.description, "type": kind, "param": failure.param}
        response.content_type = "application/json"
        response.set_data(orjson.dumps({"error": {**told, "code": failure.error_code}}))
    response.headers.update(failure.extra_headers)
    return response


def _from_werkzeug(error: HTTPException) -> ApiError:
    where = f"{request.method} {request.path}"
    match error:
        case NotFound():
            return ApiError(404, f"Invalid URL ({where})")
        case MethodNotAllowed():
            allowed = ", ".join(sorted(error.valid_methods or []))
            message = f"Method not allowed ({where}). Use one of: {allowed}."
            return ApiError(405, message, code="unsupported_operation")
        case RequestEntityTooLarge():
            message = "The request body is too large. THREADS_MAX_BODY_BYTES sets the limit."
            return ApiError(413, message, code="request_too_large", headers={"Connection": "close"})
    if (error.code or 500) >= 500:
        message = "The server had an error while processing your request. Its log has the cause."
        return ApiError(error.code or 500, message, headers={"x-should-retry": "false"})
    return ApiError(error.code or 400, error.description or error.name)
