"""The assistants of a project, in pages."""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from database import Connection
from lists.pages import BY_TIME, Listing, Page, Select, Shape, Values, paged, sized
from models import Assistant
from store import assistants
from store.objects import Object, assistant_object

_bound: Any = sa.bindparam
_LISTED = sized(
    assistants.COLUMNS, assistants.JSON_COLUMNS, ("instructions", "tools", "response_format")
)
_IS_ASSISTANT = (Assistant.project == _bound("project"), Assistant.id == _bound("cursor"))
_PLACE = sa.select(Assistant.created_at, Assistant.seq).where(*_IS_ASSISTANT)
_OF_SEQ = sa.select(*assistants.COLUMNS).where(Assistant.seq == _bound("of_seq"))


def assistants_page(connection: Connection, project: str, query: Values) -> Page:
    """Return a page of assistants. Raises ApiError 400 for an unknown cursor."""
    rows, has_more = _LIST.rows(connection, query, project=project)
    return Page([_object(connection, row) for row in rows], has_more)


def _object(connection: Connection, row: Any) -> Object:
    whole = row if row.tools else connection.row(_OF_SEQ, {"of_seq": row.seq})
    return assistant_object(whole)


@lru_cache(maxsize=16)
def _statement(shape: Shape) -> Select:
    statement = sa.select(*_LISTED).where(Assistant.project == _bound("project"))
    return paged(statement, (Assistant.created_at, Assistant.seq), shape)


_LIST = Listing("assistant", _PLACE, BY_TIME, _statement)
