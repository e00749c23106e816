"""The operations of the API. A view says once what it takes; /openapi.json is made of that."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

from flask import Response
from marshmallow import Schema
from werkzeug.exceptions import NotFound

from rules import refusals
from rules.errors import ApiError
from rules.fields import PATH_ID, wrong_prefix
from web.request_body import read_body, read_query

PATH_IDS = {"thread_id": ("thread", "thread"), "message_id": ("msg", "message")}
"""The ids that a path may hold: what each begins with, and what it names."""

View = Callable[..., Response]


class Operation(NamedTuple):
    """What /openapi.json says of a view."""

    name: str
    summary: str
    body: type[Schema] | None
    answers: type[Schema] | None
    query: type[Schema] | None


def operation(
    name: str,
    summary: str,
    *,
    body: type[Schema] | None = None,
    answers: type[Schema] | None = None,
    query: type[Schema] | None = None,
) -> Callable[[View], View]:
    """Describe a view, check the ids in its path, and give it its loaded `body` and `query`.

    `name` is its operationId. Raises ApiError and ValidationError (400, 404, 413, 415).
    """

    def decorate(view: View) -> View:
        body_schema = body() if body else None
        query_schema = query() if query else None

        @wraps(view)
        def checked(**arguments: Any) -> Response:
            check_ids(arguments)
            if body_schema:
                arguments["body"] = read_body(body_schema)
            if query_schema:
                arguments["query"] = read_query(query_schema)
            return view(**arguments)

        checked.operation = Operation(name, summary, body, answers, query)  # type: ignore[attr-defined]
        return checked

    return decorate


def check_ids(arguments: dict[str, Any]) -> None:
    """Refuse a path's ids before the database sees them. Raises ApiError 400 or 404, NotFound.

    `/threads/runs` is an address of the hosted API that is not served.

    Source: wire reference, decision 13.
    """
    for param, value in arguments.items():
        if param not in PATH_IDS:
            continue
        if value == "runs":
            raise NotFound
        prefix, kind = PATH_IDS[param]
        if not value.startswith(prefix):
            fault = wrong_prefix(value, prefix)
            raise ApiError(400, fault.at(param), param, fault.code)
        if not PATH_ID.fullmatch(value):
            raise refusals.not_found(kind, value)
