"""SQLite. Only this module imports its library: two libraries break each other's file locks."""

import logging
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Flask

from database import files
from database.connection import Connection, Values, row_type
from database.waits import Places
from database.write_queue import Change, Ending, SharedCommits, Turn
from models import OF_ACCESS
from rules.errors import ApiError
from rules.refusals import busy, disk_full, id_exists, search_too_broad, unavailable

try:
    from pysqlite3 import dbapi2 as dbapi
except ImportError:
    import sqlite3 as dbapi

log = logging.getLogger("threads")

Error = dbapi.Error
VERSION = dbapi.sqlite_version_info
QUEUE_SECONDS = 2.5
UPGRADE_SECONDS = 60
BUSY_MILLISECONDS = 3000
_FIXED_SQLITE = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
_PRAGMAS = (
    f"busy_timeout={BUSY_MILLISECONDS} journal_mode=WAL foreign_keys=ON trusted_schema=OFF"
    " journal_size_limit=67108864 cache_size=-2000 temp_store=MEMORY secure_delete=FAST"
)

_BROKEN = ("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_NOTADB")
REFUSALS = {
    "SQLITE_BUSY": busy,
    "SQLITE_INTERRUPT": search_too_broad,
    "SQLITE_FULL": disk_full,
    "SQLITE_IOERR_SHMSIZE": disk_full,
    "UNIQUE": id_exists,
} | dict.fromkeys(_BROKEN, unavailable)
"""The refusal for an error, by the beginning of its name, as in postgres.REFUSALS."""


def options(url: str, threads: int) -> dict[str, Any]:
    """Return the options of the engine for db.session and upgrades; requests do not use it."""
    return {"module": dbapi, "paramstyle": "named", "poolclass": sa.pool.NullPool}


class SQLiteConnection(Connection):
    """A connection that reads a list in one step, since other threads run between the steps."""

    def rows_at_once(self, statement: sa.Select[*tuple[Any, ...]], values: Values) -> list[Any]:
        array, make_row = _as_array(statement)
        return list(starmap(make_row, orjson.loads(self.value(array, values))))


@lru_cache(maxsize=512)
def _as_array(statement: sa.Select[*tuple[Any, ...]]) -> tuple[sa.Executable, Any]:
    """Return the statement for one JSON array of all rows, and the type of its rows."""
    rows = statement.subquery()
    array = sa.func.json_group_array(sa.func.json_array(*rows.c))
    # In a Python text one rare character gives all others four bytes: it comes as bytes.
    as_bytes = sa.type_coerce(sa.cast(array, sa.LargeBinary), sa.Text)  # Text needs no conversion
    return sa.select(as_bytes), row_type(tuple(rows.c.keys()))


class SQLite:
    """One open database file."""

    REFUSALS = REFUSALS
    FOLDS_TEXT = False  # the index keeps a letter's forms apart
    error: type[Exception] = Error

    def __init__(self, app: Flask, engine: sa.Engine) -> None:
        self.path = files.file_of(str(engine.url))
        self.turn = Turn(f"{self.path}-queue")
        self._engine = engine
        self._commits = SharedCommits(self.turn, self._lent)
        self._idle: deque[Connection] = deque()
        self._places = Places(app.config["WORKER_THREADS"] + 1)  # one writes
        self._open: set[Any] = set()
        self._durability: str = app.config["DURABILITY"]
        self._log = files.log_of(self.path)
        self._identity = files.identity(self.path)
        self._log_identity: tuple[int, int] | None = None
        self._may_make_file, self._is_closed = True, False
        _give_turns_to_sessions(engine, self)
        if not has_wal_fix(VERSION):
            log.warning("SQLite %s has the WAL-reset bug; 3.51.3 fixes it.", dbapi.sqlite_version)

    def await_file(self) -> None:
        """Use the file that appears later, and make none."""
        self._identity, self._may_make_file = None, False

    def take(self) -> Connection:
        """Return a connection that no other thread uses, sooner than SQLAlchemy's pool does.

        Raises ApiError 503 when none is free for long.
        """
        self._places.take()
        with suppress(IndexError):
            return self._idle.pop()
        try:
            return self.connection(self.connect())
        except BaseException:
            self._places.give_back()
            raise

    def give_back(self, connection: Connection) -> None:
        """Roll back an open transaction, and keep the connection for the next request."""
        try:
            connection.raw.rollback()
        except Error:
            self.disconnect(connection.raw)
        else:
            self._idle.append(connection)
            if self._is_closed:
                self.close()
        self._places.give_back()

    @contextmanager
    def _lent(self) -> Iterator[Connection]:
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def connect(self) -> Any:
        """Return a new connection. Raises ApiError 503 when the file was replaced or is gone."""
        self._refuse_another_file()
        if not self._may_make_file and not os.path.exists(self.path):
            raise unavailable()
        raw = dbapi.connect(self.path, isolation_level=None, check_same_thread=False)
        self._open.add(raw)
        try:
            _prepare(raw, self._durability)
            self._identify()
        except BaseException:
            self.disconnect(raw)
            raise
        return raw

    def _identify(self) -> None:
        """Keep which file and log are open. Raises ApiError 503 if the file has just gone."""
        opened = files.identity(self.path)
        if opened is None or self._identity not in (None, opened):
            raise unavailable()
        self._identity, self._log_identity = opened, files.identity(self._log)

    def disconnect(self, raw: Any) -> None:
        """Close a connection; the last process to close the file deletes its log."""
        raw.close()
        self._open.discard(raw)
        if not self._open:
            self._log_identity = None

    def connection(self, raw: Any) -> Connection:
        """Return a Connection for a driver's connection."""
        return SQLiteConnection(raw, self._engine.dialect)

    def begin(self, connection: Connection, is_snapshot: bool) -> None:
        """Begin to read. One SELECT alone needs no transaction."""
        if is_snapshot:
            connection.raw.execute("BEGIN")

    def write(self, change: Change, seconds: float | None) -> Ending:
        """Store a change; return how that ended."""
        self._refuse_another_file()
        write = self._commits.store(change, QUEUE_SECONDS if seconds is None else seconds)
        return write.result, write.error, write.at_commit

    @contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """Yield a connection for an upgrade, in one transaction and one upgrade at a time."""
        with self._engine.connect() as connection:
            # With foreign keys, to re-create a table deletes every row that refers to it.
            connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
            connection.info["seconds"] = UPGRADE_SECONDS
            with connection.begin():
                yield connection
                if orphan := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise SystemExit(f"The upgrade would leave a row without its parent: {orphan}.")

    @contextmanager
    def searching(self, connection: Connection, seconds: float) -> Iterator[None]:
        """Stop the statements inside after some seconds. Raises ApiError 400 for `q`."""
        deadline = monotonic() + seconds
        connection.raw.set_progress_handler(lambda: monotonic() > deadline, 10_000)
        try:
            yield
        finally:
            connection.raw.set_progress_handler(None, 0)

    def name_of(self, error: BaseException) -> str:
        """Return the name of an error, as in REFUSALS."""
        is_unique = str(error).startswith("UNIQUE")
        return "UNIQUE" if is_unique else str(getattr(error, "sqlite_errorname", ""))

    def health(self) -> dict[str, bool]:
        """Check the file, its disk and its log, without a change."""
        return {
            "file": self._is_same_file(),
            "disk": files.free_bytes(self.path) >= files.DISK_FLOOR_BYTES,
            "wal": self.log_bytes() <= files.WAL_LIMIT_BYTES,
        }

    def log_bytes(self) -> int:
        """Return the size of the log; of a long one, what its readers keep from the file."""
        size = files.wal_bytes(self.path)
        if size <= files.WAL_LIMIT_BYTES:
            return size
        # A log keeps its length when all of it is copied. PASSIVE waits for nobody.
        with suppress(ApiError, Error), self._lent() as connection:
            state = connection.row("PRAGMA wal_checkpoint(PASSIVE)")
            size = (state.log - state.checkpointed) * connection.value("PRAGMA page_size")
        return size

    def take_snapshot(self) -> Any:
        """Return a copy of the whole database in memory, for restore_snapshot."""
        copy = dbapi.connect(":memory:", check_same_thread=False)
        with self._own_connection() as source:
            source.backup(copy)
        copy.execute("VACUUM")  # free pages would be written again at every restore
        return copy

    def restore_snapshot(self, copy: Any) -> None:
        """Put a snapshot in place of everything but who may call. Raises ApiError 503."""
        # The connection is new: an older one has the old text index in memory.
        with self.turn.hold(UPGRADE_SECONDS), self._own_connection() as target:
            for table in OF_ACCESS:
                _copy_rows(table, target, copy)
            copy.commit()
            copy.backup(target)

    def copy_to(self, path: Path) -> None:
        """Copy the whole database of this moment into a new file. Raises Error."""
        # In one step: a copy page by page begins again at each write of another process.
        with closing(dbapi.connect(path)) as copy, self._own_connection() as source:
            source.backup(copy)

    @contextmanager
    def _own_connection(self) -> Iterator[Any]:
        with closing(dbapi.connect(self.path)) as raw:
            _prepare(raw, self._durability)
            yield raw

    def close(self) -> None:
        """Close every connection; the last to be closed empties the log into the file.

        One that a thread still uses is closed when it comes back: SQLite would crash.
        """
        self._is_closed = True
        with suppress(IndexError):
            while True:
                self.disconnect(self._idle.pop().raw)

    def _is_same_file(self) -> bool:
        """Return whether file and log are still the opened ones; if not, writes are lost."""
        return self._identity in (None, files.identity(self.path)) and (
            self._log_identity in (None, files.identity(self._log))
        )

    def _refuse_another_file(self) -> None:
        if not self._is_same_file():
            log.error("database error: the file or log was deleted or replaced")
            raise unavailable()


def _give_turns_to_sessions(engine: sa.Engine, database: SQLite) -> None:
    """Give each transaction of db.session the turn to write, from its first statement on."""

    # A transaction that reads first, and then waits for the turn to write, fails.
    def begin(connection: sa.Connection) -> None:
        if "has_turn" not in connection.info:
            database.turn.acquire(connection.info.get("seconds", QUEUE_SECONDS))
            connection.info["has_turn"] = True
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def give_back(_: Any, record: Any) -> None:
        if record.info.pop("has_turn", False):
            database.turn.release()

    sa.event.listen(engine, "do_connect", lambda *_: database.connect())
    sa.event.listen(engine, "close", lambda raw, _: database.disconnect(raw))
    sa.event.listen(engine, "begin", begin)
    sa.event.listen(engine, "checkin", give_back)


def faults_of(path: Path) -> list[str]:
    """Return the faults in a database file that no other program uses. Raises Error."""
    with closing(dbapi.connect(path)) as raw:
        checks = ("PRAGMA integrity_check", "PRAGMA foreign_key_check")
        return [str(row) for check in checks for row in raw.execute(check) if row != ("ok",)]


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """Return whether a SQLite has no WAL-reset bug, which loses commits (sqlite.org/wal.html)."""
    return version >= _FIXED_SQLITE[-1] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in _FIXED_SQLITE
    )


def look_up(url: str, query: str) -> Any:
    """Return one value, None when file or table is missing; no engine. Raises SystemExit."""
    path = files.file_of(url)
    if not os.path.exists(path):
        return None
    try:
        with closing(dbapi.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            row = connection.execute(query).fetchone()
        return row[0] if row else None
    except dbapi.DatabaseError as error:
        if "no such table" in str(error):
            return None
        cause = error if files.free_bytes(path) else "its disk is full"
        sys.exit(f"The database {path} cannot be read: {cause}.")


def empty_engine() -> sa.Engine:
    """Return an engine for an empty database in memory."""
    engine = sa.create_engine("sqlite://", module=dbapi)
    sa.event.listen(engine, "connect", lambda raw, _: _prepare(raw, "normal"))
    return engine


def _copy_rows(table: str, source: Any, target: Any) -> None:
    """Put the rows of a table in place of those that the same table has in another database."""
    rows = source.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
    target.execute(f"DELETE FROM {table}")  # noqa: S608
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        target.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608


def _prepare(raw: Any, durability: str) -> None:
    raw.isolation_level = None
    if VERSION < (3, 43, 0):  # later ones have it
        raw.create_function("octet_length", 1, lambda text: text and len(text.encode()))
    for pragma in f"{_PRAGMAS} synchronous={durability}".split():
        raw.execute(f"PRAGMA {pragma}")
