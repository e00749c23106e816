"""Copies of threads. A large copy is hidden and written in batches, so that others can write."""

import secrets
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

import database
from database import Connection
from models import HIDDEN_PROJECT, Message, Thread
from rules import refusals
from rules.errors import ApiError
from rules.ids_and_clock import new_id
from store import activity, batches, deletions, messages, threads
from store.batches import Span
from store.newest import next_second
from store.objects import Object, thread_object, to_json

MESSAGES_AT_ONCE = 250
COPIED = [each for each in messages.COLUMNS if each.name not in ("seq", "thread_seq", "id")]
"""The columns of a message that a copy and an import keep."""

_other = aliased(Message)
_IS_OTHER = _other.seq == sa.bindparam("source")
# A large content stays in the database, for it would be there several times on the way.
_ROWS = batches.MESSAGES.next.with_only_columns(
    Message.seq, *(each for each in COPIED if each.name != "content")
)
_CONTENT = sa.select(_other.content).where(_IS_OTHER).scalar_subquery()
_INSERT = messages.INSERT.values(content=_CONTENT)
_IS_SOURCE = Message.thread_seq == sa.bindparam("source")
_LAST = sa.select(sa.func.coalesce(sa.func.max(Message.seq), 0)).where(_IS_SOURCE)
_IS_COPY = (Thread.seq == sa.bindparam("of_seq"), Thread.project == HIDDEN_PROJECT)
_FIND_COPY = sa.select(Thread.seq).where(*_IS_COPY)
_SHOW = sa.update(Thread).where(*_IS_COPY).returning(*threads.COLUMNS)


class Copy:
    """A copy of a thread, in a `with`, which deletes it at the end unless `show` ran."""

    def __init__(self, project: str, thread_id: str, body: dict[str, Any]) -> None:
        """Copy a thread; a loaded CopyThread body may replace the metadata."""
        self._project, self._thread_id = project, thread_id
        self._changed = {"metadata": to_json(body["metadata"] or {})} if "metadata" in body else {}
        self._rest, self._hidden_seq = Span(0), 0
        self._is_shown = False

    def __enter__(self) -> "Copy":
        """Copy all but the last batch. Raises ApiError 404."""
        with database.snapshot() as connection:
            seq = self._find(connection).seq
            # Later messages are not copied, nor those that are deleted before their batch.
            self._rest = Span(seq, last=connection.value(_LAST, {"source": seq}))
            is_large = self._is_large(connection)
        try:
            while is_large:
                is_large = database.write(self._copy_hidden)
                time.sleep(deletions.PAUSE_SECONDS)
        except Exception:
            self._drop()
            raise
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._is_shown:
            self._drop()

    def _drop(self) -> None:
        if self._hidden_seq:
            with suppress(ApiError):  # delete_left() deletes what stays
                deletions.delete_hidden(self._hidden_seq)

    def show(self, connection: Connection) -> Object:
        """Copy the last batch and show the copy; return the thread object.

        Raises ApiError 404, and 503 when the copy is gone.
        """
        row = self._find(connection)
        seq = self._place(connection, row)
        self._copy_batch(connection, seq)
        second = next_second(connection, self._project, "thread", is_new=not self._hidden_seq)
        own: dict[str, Any] = {"id": new_id("thread"), "created_at": second}
        own |= {"project": self._project, "seq": seq, "of_seq": seq, "active_run": None}
        values = row._asdict() | self._changed | own
        shown = connection.row(_SHOW, values)
        activity.settle(connection, seq)
        connection.after_commit.append(self._note_shown)
        return thread_object(shown)

    def _note_shown(self) -> None:
        self._is_shown = True

    def _find(self, connection: Connection) -> Any:
        return threads.find_row(connection, self._project, self._thread_id)

    def _is_large(self, connection: Connection) -> bool:
        return batches.is_more_than_a_batch(connection, self._rest, MESSAGES_AT_ONCE)

    def _copy_hidden(self, connection: Connection) -> bool:
        """Copy a batch; return whether more than one is left."""
        seq = self._place(connection, self._find(connection))
        self._copy_batch(connection, seq)
        # An undone commit gives the seq back, and the next thread gets it.
        connection.after_commit.append(lambda: self._note_hidden(seq))
        return self._is_large(connection)

    def _note_hidden(self, seq: int) -> None:
        self._hidden_seq = seq

    def _place(self, connection: Connection, row: Any) -> int:
        """Return the seq of the copy, made at the first batch. Raises ApiError 503 if it is gone.

        /_mock/restore may give its seq to another thread.
        """
        if not self._hidden_seq:
            return _hide(connection, row)
        if connection.value(_FIND_COPY, {"of_seq": self._hidden_seq}) is None:
            raise refusals.busy()
        return self._hidden_seq

    def _copy_batch(self, connection: Connection, seq: int) -> None:
        rows = batches.first_batch(connection, self._rest, MESSAGES_AT_ONCE, _ROWS)
        copies = [row._asdict() | {"thread_seq": seq, "id": new_id("msg")} for row in rows]
        for copy in copies:
            copy["source"] = copy.pop("seq")
            self._rest = self._rest._replace(after=copy["source"])
        connection.change_many(_INSERT, copies)


def _hide(connection: Connection, row: Any) -> int:
    """Store a thread that no list shows, with an id of its own; return its seq."""
    values = {"project": HIDDEN_PROJECT, "id": secrets.token_hex(16), "metadata": "{}"}
    more = {"created_at": int(time.time()), "tool_resources": row.tool_resources}
    return int(threads.insert(connection, values | more).seq)
