"""Every error is written here: as the OpenAI envelope, or as a page below /admin/."""

import orjson
import sqlalchemy as sa
from flask import Flask, Response, render_template, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from database.transactions import refusal_of
from rules import refusals
from rules.errors import ApiError, first_fault
from web.addresses import is_hosted


def init_app(app: Flask) -> None:
    """Answer each refusal, failure and HTTP error."""
    app.register_error_handler(ApiError, _answer)
    app.register_error_handler(ValidationError, lambda error: _answer(first_fault(error)))
    app.register_error_handler(HTTPException, _answer_werkzeug)
    app.register_error_handler(sa.exc.SQLAlchemyError, _answer_database)


def is_page(path: str) -> bool:
    """Return whether an address of /admin/ answers with HTML."""
    return path.startswith("/admin/") and not path.endswith(".json")


def envelope(error: ApiError) -> bytes:
    """Return the error object of the API, as JSON."""
    kind = error.type or ("invalid_request_error" if error.status < 500 else "server_error")
    body = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return orjson.dumps({"error": body})


def _answer(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    response = Response(status=error.status, headers=headers)
    if is_page(request.path):
        response.content_type = "text/html; charset=utf-8"
        response.set_data(render_template("error.html", status=error.status, error=error))
    else:
        response.content_type = "application/json"
        response.set_data(envelope(error))
    response.headers.update(error.headers)
    return response


def _answer_werkzeug(error: HTTPException) -> Response:
    """Answer with Werkzeug's own headers too: `Allow` of 405, `Location` of a redirect."""
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return _answer(_from_werkzeug(error), headers)


def _answer_database(error: sa.exc.SQLAlchemyError) -> Response:
    """Answer a failure of db.session like one of database.write()."""
    if refusal := refusal_of(error):
        return _answer(refusal)
    raise error


def _from_werkzeug(error: HTTPException) -> ApiError:
    status = error.code or 500
    match error:
        case NotFound() if is_hosted(request.path):
            return refusals.not_served(request.method, request.path)
        case NotFound():
            return refusals.invalid_url(request.method, request.path)
        case MethodNotAllowed(valid_methods=methods):
            return refusals.method_not_allowed(request.method, request.path, methods or [])
        case RequestEntityTooLarge():
            return refusals.body_too_large()
    if status >= 500:
        return refusals.server_error(status)
    return ApiError(status, error.description or error.name)
