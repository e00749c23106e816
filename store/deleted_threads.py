"""What the browse page deleted a short while ago: export lines, kept so that it can be undone."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from database import Connection
from models import DeletedThreads, Message, Run, RunStep, Thread
from rules import strict_json
from rules.ids_and_clock import unix_now
from store import messages
from store.batches import Source

KEPT_SECONDS = 600
MOST_BYTES = 16_000_000
"""What a project may keep. More cannot be undone, and the page says so before it deletes."""
_OBJECT_BYTES = 600  # the keys of an object, and what JSON adds to its texts
_MESSAGE_VALUES = 22  # of the shortest message: its keys, and its one part
_ROW_BYTES = 1_000_000
_IDS_AT_ONCE = 100
_MOST_SHOWN = 3

_bound: Any = sa.bindparam
_OF_PROJECT = DeletedThreads.project == _bound("of_project")
_IS_KEPT = (_OF_PROJECT, DeletedThreads.deleted_at > _bound("expiry"))
_IS_DELETION = (*_IS_KEPT, DeletedThreads.deletion == _bound("of_deletion"))
_EXPIRED = DeletedThreads.deleted_at <= _bound("expiry")
_NEWEST = sa.select(sa.func.max(Thread.seq))
_INSERT = sa.insert(DeletedThreads)
_PURGE = sa.delete(DeletedThreads).where(_EXPIRED)
_FORGET = sa.delete(DeletedThreads).where(*_IS_DELETION)
_ROWS = sa.select(DeletedThreads.seq).where(*_IS_DELETION).order_by(DeletedThreads.seq)
_TEXT = sa.select(DeletedThreads.lines).where(DeletedThreads.seq == _bound("of_seq"))
_BYTES = sa.select(sa.func.coalesce(sa.func.sum(sa.func.octet_length(DeletedThreads.lines)), 0))
_KEPT_BYTES = _BYTES.where(*_IS_KEPT)
_ALL = (
    sa.select(
        DeletedThreads.project,
        DeletedThreads.deletion,
        sa.func.sum(DeletedThreads.threads).label("threads"),
        sa.func.max(DeletedThreads.deleted_at).label("deleted_at"),
    )
    .group_by(DeletedThreads.project, DeletedThreads.deletion)
    .order_by(sa.func.max(DeletedThreads.seq).desc())
)


class Kept(NamedTuple):
    """The newest deletions that can be undone, and whether there are some that no longer can."""

    deletions: list[Any]  # of (project, deletion, threads, deleted_at)
    has_expired: bool


def keep(connection: Connection, project: str, deletion: str, pieces: Iterable[bytes]) -> None:
    """Store the export lines of threads that this transaction deletes, as they come in pieces."""
    purge(connection)
    values = {"project": project, "deletion": deletion, "deleted_at": unix_now()}
    for part in _parts(pieces):
        whole = {"threads": part.count(b"\n"), "lines": part.decode()}
        connection.change(_INSERT, {**values, **whole})


def _parts(pieces: Iterable[bytes]) -> Iterator[bytearray]:
    """Yield pieces together, as many as a row takes; a line may be in several rows."""
    part = bytearray()
    for piece in pieces:
        part += piece
        if len(part) >= _ROW_BYTES:
            yield part
            part = bytearray()
    if part:
        yield part


def kept(connection: Connection, project: str) -> Kept:
    """Return what the project can undo."""
    rows, expiry = connection.rows(_ALL), _expiry()["expiry"]
    own = [row for row in rows if row.project == project and row.deleted_at > expiry]
    return Kept(own[:_MOST_SHOWN], any(row.deleted_at <= expiry for row in rows))


def purge(connection: Connection) -> None:
    """Delete the lines that have been kept long enough."""
    connection.change(_PURGE, _expiry())


def lines_of(connection: Connection, project: str, deletion: str) -> list[bytes]:
    """Return the lines of a deletion; none when it is too old."""
    lines, rest = [], b""
    for row in connection.rows(_ROWS, _key(project) | {"of_deletion": deletion}):
        text = connection.value(_TEXT, {"of_seq": row.seq})  # alone: it may take 4 times its bytes
        *whole, rest = (rest + text.encode()).split(b"\n")
        lines += whole
    return lines


def forget(connection: Connection, project: str, deletion: str) -> None:
    """Delete the lines of a deletion that is undone."""
    connection.change(_FORGET, _key(project) | {"of_deletion": deletion})


def room(connection: Connection, project: str) -> int:
    """Return how many bytes the project may keep besides what it keeps."""
    return MOST_BYTES - int(connection.value(_KEPT_BYTES, _key(project)))


def fits(connection: Connection, project: str, ids: Sequence[str]) -> bool:
    """Return whether the lines of threads can be kept, by the number and bytes of rows."""
    rest, most = room(connection, project), strict_json.MAX_VALUES // _MESSAGE_VALUES
    for start in range(0, len(ids), _IDS_AT_ONCE):
        values = {"of_project": project, "ids": ids[start : start + _IDS_AT_ONCE]}
        rest -= sum(int(connection.value(size, values)) for size in _SIZES)
        if rest < 0 or (connection.value(_MOST_MESSAGES, values) or 0) > most:
            return False
    return True


def newest_seq(connection: Connection) -> int:
    """Return the `seq` of the newest thread of all."""
    return int(connection.value(_NEWEST) or 0)


def _key(project: str) -> dict[str, Any]:
    return {"of_project": project, **_expiry()}


def _expiry() -> dict[str, int]:
    return {"expiry": unix_now() - KEPT_SECONDS}


def _size(columns: Any, parent: str) -> Any:
    """Return the SELECT of the bytes in rows, each with the keys of its object."""
    size = Source(columns, parent).size.element + _OBJECT_BYTES
    return sa.select(sa.func.coalesce(sa.func.sum(size), 0))


_NAMED = sa.select(Thread.seq).where(
    Thread.project == _bound("of_project"), Thread.id.in_(_bound("ids", expanding=True))
)
_COUNT = sa.func.count()
_COUNTS = sa.select(_COUNT).where(Message.thread_seq.in_(_NAMED)).group_by(Message.thread_seq)
_MOST_MESSAGES = _COUNTS.order_by(_COUNT.desc()).limit(1)
_RUNS = sa.select(Run.seq).where(Run.thread_seq.in_(_NAMED))
_SIZES = (
    _size(Thread.__table__.c, "seq").where(Thread.seq.in_(_NAMED)),
    _size(messages.COLUMNS, "thread_seq").where(Message.thread_seq.in_(_NAMED)),
    _size(Run.__table__.c, "thread_seq").where(Run.thread_seq.in_(_NAMED)),
    _size(RunStep.__table__.c, "run_seq").where(RunStep.run_seq.in_(_RUNS)),
)
