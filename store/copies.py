"""Copies of threads. A large one is made out of sight in batches, so that others can write."""

import secrets
import time
from types import TracebackType
from typing import Any

import sqlalchemy as sa

import database
from database import Connection
from models import HIDDEN_PROJECT, Message, Thread
from rules import refusals
from store import deletions, messages, threads
from store.ids_and_clock import new_id, unix_now
from store.objects import Object, thread_object, to_json

MESSAGES_AT_ONCE = 500
_OWN_COLUMNS = ("seq", "thread_seq", "id")
COPIED = [column for column in messages.COLUMNS if column.name not in _OWN_COLUMNS]
"""The columns of a message that a copy and an import keep."""

_REST = sa.and_(
    Message.thread_seq == sa.bindparam("source"),
    Message.seq > sa.bindparam("after"),
    Message.seq <= sa.bindparam("last"),
)
_LAST = sa.select(sa.func.coalesce(sa.func.max(Message.seq), 0)).where(
    Message.thread_seq == sa.bindparam("source")
)
_BATCH = (
    sa.select(Message.seq, *COPIED).where(_REST).order_by(Message.seq).limit(sa.bindparam("most"))
)
_COUNT = sa.select(sa.func.count()).select_from(
    sa.select(Message.seq).where(_REST).limit(sa.bindparam("most")).subquery()
)
_IS_COPY = Thread.seq == sa.bindparam("of_seq")
_FIELDS = [column.name for column in threads.COLUMNS if column.name not in ("seq", "created_at")]
_SHOW = sa.update(Thread).where(_IS_COPY).returning(*threads.COLUMNS)


class Copy:
    """A copy of a thread, in a `with`: it is gone at the end unless `show` has stored it.

    It has the messages that the thread had when the copy began. One that is deleted before its
    batch is left out.
    """

    def __init__(self, project: str, thread_id: str, body: dict[str, Any]) -> None:
        """Copy a thread; a loaded CopyThread body may replace the metadata."""
        self._key = {"of_project": project, "thread_id": thread_id}
        self._changed = {"metadata": to_json(body["metadata"] or {})} if "metadata" in body else {}
        self._source = self._after = self._last = 0
        self._hidden_seq = 0
        self._is_shown = False

    def __enter__(self) -> "Copy":
        """Copy all but the last batch. Raises ApiError 404."""
        with database.snapshot() as connection:
            self._source = self._find(connection).seq
            self._last = connection.value(_LAST, {"source": self._source})
            is_large = self._is_large(connection)
        while is_large:
            is_large = database.write(self._copy_out_of_sight)
            time.sleep(deletions.PAUSE_SECONDS)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._hidden_seq and not self._is_shown:
            deletions.delete_hidden(self._hidden_seq)

    def show(self, connection: Connection) -> Object:
        """Copy the last batch and show the copy; return the thread object. Raises ApiError 404."""
        row = self._find(connection)
        seq = self._hidden_seq or _hide(connection, row)
        self._copy_batch(connection, seq)
        values = {name: getattr(row, name) for name in _FIELDS} | self._changed
        values |= {"project": self._key["of_project"], "id": new_id("thread")}
        shown = connection.row(_SHOW, values | {"created_at": unix_now(), "of_seq": seq})
        self._is_shown = True
        return thread_object(shown)

    def _find(self, connection: Connection) -> Any:
        row = connection.row(threads.FIND, self._key)
        if not row:
            raise refusals.not_found("thread", self._key["thread_id"])
        return row

    def _rest(self) -> dict[str, int]:
        return {"source": self._source, "after": self._after, "last": self._last}

    def _is_large(self, connection: Connection) -> bool:
        values = self._rest() | {"most": MESSAGES_AT_ONCE + 1}
        return bool(connection.value(_COUNT, values) > MESSAGES_AT_ONCE)

    def _copy_out_of_sight(self, connection: Connection) -> bool:
        """Copy a batch; return whether more than one is left."""
        seq = self._hidden_seq or _hide(connection, self._find(connection))
        self._copy_batch(connection, seq)
        self._hidden_seq = seq
        return self._is_large(connection)

    def _copy_batch(self, connection: Connection, seq: int) -> None:
        rows = connection.rows(_BATCH, self._rest() | {"most": MESSAGES_AT_ONCE})
        if not rows:
            return
        names = [column.name for column in COPIED]
        copies = [dict(zip(names, row[1:], strict=True)) for row in rows]
        connection.change_many(
            messages.INSERT, [{**copy, "thread_seq": seq, "id": new_id("msg")} for copy in copies]
        )
        self._after = rows[-1].seq


def _hide(connection: Connection, row: Any) -> int:
    """Store a thread that no list shows, under an id of its own until it is shown."""
    values: dict[str, Any] = {
        "project": HIDDEN_PROJECT,
        "id": secrets.token_hex(16),
        "metadata": "{}",
    }
    values |= {"created_at": int(time.time()), "tool_resources": row.tool_resources}
    return int(connection.row(threads.INSERT, values).seq)
