"""What goes out: one template per object, keys in wire order, filled in by the database.

A row leaves the database as the JSON text of its object: no driver call, Python object or encoder
a column. A list is one row, its objects a line each, for compact JSON holds no line break. Columns
that hold JSON are passed through as they are stored.
"""

import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Response
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from werkzeug.datastructures import Headers

from models import Message, Thread

_THREAD = '{"id":"%s","object":"thread","created_at":%s,"metadata":%s,"tool_resources":%s}'
_MESSAGE = (
    '{"id":"%s","object":"thread.message","created_at":%s,"assistant_id":%s,"thread_id":"%s",'
    '"run_id":%s,"status":"%s","incomplete_details":%s,"completed_at":%s,"incomplete_at":%s,'
    '"role":"%s","content":%s,"attachments":%s,"metadata":%s}'
)
_COLUMN = re.compile(r'"(\w+)":"?%s')
_THREAD_COLUMNS = _COLUMN.findall(_THREAD)
_MESSAGE_COLUMNS = _COLUMN.findall(_MESSAGE)
_OF_RUNS = ("assistant_id", "run_id", "incomplete_details", "incomplete_at")
_CREATED_MESSAGE = _MESSAGE % tuple(
    "null" if name in _OF_RUNS else "%s" for name in _MESSAGE_COLUMNS
)
_created = [name for name in _MESSAGE_COLUMNS if name not in _OF_RUNS]
_created_values = itemgetter(*_created)
CREATED = [name for name in _created if name != "thread_id"]
"""The columns of a message that a request makes."""


def thread_to_wire(values: Mapping[str, Any]) -> str:
    """Return the thread object of column values."""
    return _THREAD % tuple(values[name] for name in _THREAD_COLUMNS)


def message_to_wire(values: Mapping[str, Any], thread_id: str) -> str:
    """Return the object of a message that a request made: complete, and of no run."""
    created: tuple[Any, ...] = _created_values({**values, "thread_id": thread_id})
    return _CREATED_MESSAGE % created


class json_string(FunctionElement[str]):
    """A text column as a JSON string; NULL as null."""

    type = sa.Text()
    inherit_cache = True


@compiles(json_string)
def _(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_quote({compiler.process(element.clauses, **options)})"


@compiles(json_string, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return f"coalesce(to_json({compiler.process(element.clauses, **options)})::text, 'null')"


def _or_null(column: Any) -> sa.ColumnElement[str]:
    return sa.func.coalesce(sa.cast(column, sa.Text), "null")


THREAD = sa.func.format(_THREAD, *(Thread.__table__.c[name] for name in _THREAD_COLUMNS))
"""A thread object (key order as recorded 2025-10)."""

_OUT: dict[str, Any] = {
    "thread_id": sa.bindparam("thread_id", type_=sa.Text),
    "assistant_id": json_string(Message.assistant_id),
    "run_id": json_string(Message.run_id),
    "incomplete_details": _or_null(Message.incomplete_details),
    "completed_at": _or_null(Message.completed_at),
    "incomplete_at": _or_null(Message.incomplete_at),
}
MESSAGE = sa.func.format(
    _MESSAGE,
    *(_OUT[name] if name in _OUT else Message.__table__.c[name] for name in _MESSAGE_COLUMNS),
)
"""A message object of the thread :thread_id (key order: wire reference, decision 1)."""


def id_of(wired: str) -> str:
    """Return the id of a thread or message object, which is its first value."""
    return wired.split('"', 4)[3]


def deleted_to_wire(id_: str, kind: str) -> dict[str, Any]:
    """Return a deletion object; `kind` is `thread` or `thread.message`."""
    return {"id": id_, "object": f"{kind}.deleted", "deleted": True}


def list_to_wire(objects: Sequence[str], has_more: bool) -> str:
    """Return a list object; an empty one has null ids (recorded 2024-04, unlike the spec)."""
    ends = [f'"{id_of(wired)}"' for wired in (objects[0], objects[-1])] if objects else ["null"] * 2
    return (
        f'{{"object":"list","data":[{",".join(objects)}],"first_id":{ends[0]},'
        f'"last_id":{ends[1]},"has_more":{"true" if has_more else "false"}}}'
    )


def to_json(value: Any) -> str:
    """Return compact JSON text, as it is stored and sent."""
    return orjson.dumps(value).decode()


class Answer(Response):
    """A response whose headers are complete: Werkzeug's copy and second look cost 8 µs."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        return self.headers


def answer(value: str | Mapping[str, Any]) -> Response:
    """Put an object, or the JSON text of one, into a 200 response."""
    data = value.encode() if isinstance(value, str) else orjson.dumps(value)
    return Answer(data, content_type="application/json")
