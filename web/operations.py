"""The operations of the API: what each view takes and answers. /openapi.json shows them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import Response
from marshmallow import Schema

from rules import fields, refusals
from rules.errors import ApiError
from web.request_body import read_body, read_query

PATH_IDS = {
    "thread_id": ("thread", "thread"),
    "message_id": ("msg", "message"),
    "assistant_id": ("asst", "assistant"),
    "run_id": ("run", "run"),
    "step_id": ("step", "run step"),
}
"""The ids in a path: the prefix of each, and the kind of its object."""

View = Callable[..., Response]


@dataclass(frozen=True)
class Operation:
    """A decorator that describes a view, checks the ids in its path and loads its arguments."""

    name: str  # the operationId
    summary: str
    answers: type[Schema] | None = None
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    lines: str | None = None  # an example of a body of JSON Lines

    def __call__(self, view: View) -> View:
        body = self.body() if self.body else None
        query = self.query() if self.query else None

        @wraps(view)
        def checked(**arguments: Any) -> Response:
            check_ids(arguments)
            if body:
                arguments["body"] = read_body(body)
            if query:
                arguments["query"] = read_query(query)
            return view(**arguments)

        checked.operation = self  # type: ignore[attr-defined]
        return checked


operation = Operation


def check_ids(arguments: dict[str, Any]) -> None:
    """Check the ids in a path (wire reference, decision 13). Raises ApiError 400 or 404."""
    for param, value in arguments.items():
        if param not in PATH_IDS:
            continue
        prefix, kind = PATH_IDS[param]
        if not value.startswith(prefix):
            fault = fields.wrong_prefix(value, prefix)
            raise ApiError(400, fault.at(param), param, fault.code)
        if not fields.PATH_ID.fullmatch(value):
            raise refusals.not_found(kind, value)
