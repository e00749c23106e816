"""SQLite: its settings, the write queue, the file itself.

The library is imported here and nowhere else, because two SQLite libraries in one process break
each other's file locks.
"""

import fcntl
import logging
import os
import secrets
import select
import shutil
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import sqlalchemy as sa
from flask import Flask

import config
from errors import ApiError, busy, unavailable
from group_commit import Change, Group

try:
    from pysqlite3 import dbapi2 as dbapi
except ImportError:
    import sqlite3 as dbapi

log = logging.getLogger("threads")

Error = dbapi.Error
VERSION = dbapi.sqlite_version_info
LOOK_AGAIN_SECONDS = 0.1
UPGRADE_SECONDS = 60
BUSY_MILLISECONDS = 3000
DISK_FLOOR_BYTES = 64 << 20
WAL_LIMIT_BYTES = 256 << 20
_FIXED_SQLITE = ((3, 44, 6), (3, 50, 7), (3, 51, 3))

KINDS = {
    "SQLITE_BUSY": "busy",
    "SQLITE_INTERRUPT": "too broad",
    "SQLITE_FULL": "full",
    "SQLITE_IOERR_SHMSIZE": "full",
    "SQLITE_IOERR": "unavailable",
    "UNIQUE": "repeated",
    "SQLITE_READONLY": "unavailable",
    "SQLITE_CANTOPEN": "unavailable",
    "SQLITE_CORRUPT": "unavailable",
    "SQLITE_NOTADB": "unavailable",
}
"""What an error is, by how its name begins; postgres.KINDS is its like."""

_BEGINS = {"snapshot": "BEGIN", "write": "BEGIN IMMEDIATE"}

SEARCHES = {
    "count": "SELECT count(*) FROM"
    " (SELECT 1 FROM message_text WHERE message_text MATCH :q LIMIT :most)",
    # The plus keeps SQLite from walking an index of threads where matches must drive.
    "rare": "+threads.project = :project AND threads.seq IN"
    " (SELECT messages.thread_seq FROM message_text CROSS JOIN messages"
    " ON messages.seq = message_text.rowid WHERE message_text MATCH :q"
    " UNION ALL SELECT thread_seq FROM newest_text WHERE newest_text MATCH :q)",
    # The last two would do; but each look for a message steps over all matches before it. The first
    # reads the matches of `page` in one pass: 1.3 instead of 4.6 ms, at ten million messages.
    "common": "(threads.seq IN (SELECT messages.thread_seq FROM message_text CROSS JOIN messages"
    " ON messages.seq = message_text.rowid WHERE message_text MATCH :q AND message_text.rowid >="
    " (SELECT min((SELECT min(messages.seq) FROM messages WHERE thread_seq = page.seq)) FROM page)"
    " LIMIT 25 * :limit)"
    " OR threads.seq IN (SELECT thread_seq FROM newest_text WHERE newest_text MATCH :q)"
    " OR EXISTS (SELECT 1 FROM messages CROSS JOIN message_text"
    " ON message_text.rowid = messages.seq"
    " WHERE messages.thread_seq = threads.seq AND message_text MATCH :q))",
}
"""SQL over the text of messages: a count, and two conditions on threads. `page` are the threads
that the list would show without a search; postgres.SEARCHES is its like."""

_INDEX_NEWEST = """
    INSERT INTO newest_text (text, thread_seq)
    SELECT (
        SELECT group_concat(value ->> '$.text.value', char(10))
        FROM json_each(content) WHERE value ->> '$.type' = 'text'
    ), thread_seq
    FROM messages CROSS JOIN threads ON threads.seq = thread_seq
    WHERE messages.seq > (SELECT seq / 16 * 16 FROM sqlite_sequence WHERE name = 'messages')
    AND project = :project
"""


_TOKENIZER = """
    SELECT rtrim(substr(sql, instr(sql, ', tokenize=')), ')') FROM sqlite_master
    WHERE name = 'message_text' AND sql LIKE '%, tokenize=%'
"""
"""How message_text tells words apart (migration 0006): newest_text does it the same way."""


def prepare(url: str, threads: int) -> dict[str, Any]:
    """Return what the engine needs: each thread keeps a connection, which the pool only opens."""
    options = {"pool_size": 0, "pool_reset_on_return": None}
    return {"module": dbapi, "paramstyle": "named", **options}


def make_folder(url: str) -> None:
    """Make the default database's folder. Raises SystemExit for one that can hold no database."""
    os.umask(0o077)
    folder = file_of(url).parent
    if url == config.DEFAULT_DATABASE_URL:
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        sys.exit(f"The database folder {folder} is missing or cannot be written.")


class SQLite:
    """One database file, as this process has it open."""

    KINDS = KINDS
    SEARCHES = SEARCHES
    error: type[Exception] = Error

    def __init__(self, app: Flask, pool: sa.Engine) -> None:
        self.pool = pool
        self.path = file_of(str(pool.url))
        self.queue = WriteQueue(f"{self.path}-queue")
        self._group = Group(self.turn)
        self._kept = threading.local()
        self._open: set[Any] = set()
        self._durability: str = app.config["DURABILITY"]
        self._log = _log_of(self.path)
        self._opened = _identity(self.path)
        self._opened_log: tuple[int, int] | None = None
        # SQLite would make a new, empty file in place of one that is lost.
        sa.event.listen(pool, "do_connect", lambda *_: self._refuse_another_file())
        sa.event.listen(pool, "connect", lambda raw, _: self._connected(raw))
        sa.event.listen(pool, "close", lambda raw, _: self._closed(raw))
        sa.event.listen(pool, "close_detached", self._closed)
        if not has_wal_fix(dbapi.sqlite_version_info):
            log.warning("SQLite %s has the WAL-reset bug; 3.51.3 fixes it.", dbapi.sqlite_version)

    def await_file(self) -> None:
        """Work on whatever file there will be, and make none."""
        self._opened = None
        sa.event.listen(self.pool, "do_connect", lambda *_: self._refuse_no_file())

    def take(self) -> Any:
        """Return a connection: the one that this thread keeps, unless it is in use already.

        The pool takes 13 µs to hand one out and take it back, this 0.5.
        """
        return self._kept.__dict__.pop("pooled", None) or self.pool.raw_connection()

    def give_back(self, pooled: Any) -> None:
        """End what is left of a transaction, and keep the connection for this thread's next."""
        try:
            pooled.dbapi_connection.rollback()
        except Error:
            pooled.invalidate()
        else:
            self._kept.pooled = pooled

    def begin(self, raw: Any, kind: str) -> None:
        """Begin a transaction, writers IMMEDIATE; one statement alone is one by itself."""
        if kind in _BEGINS:
            raw.execute(_BEGINS[kind])

    def turn(self, seconds: float) -> AbstractContextManager[None]:
        """Hold the one turn to write, on the file that was opened. Raises ApiError 503."""
        self._refuse_another_file()
        return self.queue.turn(seconds)

    def store(self, raw: Any, change: Change, seconds: float) -> None:
        """Store a change, with those that wait beside it. Raises ApiError 503."""
        self._group.store(raw, change, seconds)

    @contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """Yield a connection for an upgrade that no other runs beside; whole or not at all."""
        with self.queue.turn(UPGRADE_SECONDS), self.pool.connect() as connection:
            # Re-creating a table would otherwise delete, by cascade, every row that refers to it.
            connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
            connection.detach()
            with connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                if orphan := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise SystemExit(f"The upgrade would leave a row without its parent: {orphan}.")

    @contextmanager
    def searching(self, raw: Any, project: str, seconds: float) -> Iterator[None]:
        """Stop the statements inside after so many seconds. Raises ApiError 400 for `q`.

        The text of messages is indexed sixteen at a time (migration 0005): those that are not yet
        are indexed apart, for this transaction only, and for their project only: a megabyte
        takes 14 ms.
        """
        deadline = monotonic() + seconds
        raw.set_progress_handler(lambda: monotonic() > deadline, 10_000)
        try:
            raw.execute(_INDEX_NEWEST, {"project": project})
            yield
        finally:
            raw.set_progress_handler(None, 0)

    def name_of(self, error: BaseException) -> str:
        """Return the name of an error, as KINDS has it."""
        if str(error).startswith("UNIQUE"):
            return "UNIQUE"
        return str(getattr(error, "sqlite_errorname", ""))

    def health(self) -> dict[str, bool]:
        """Tell what of the file is as it must be; nothing is written to find out."""
        return {
            "file": self._is_same_file(),
            "disk": free_bytes(self.path) >= DISK_FLOOR_BYTES,
            "wal": wal_bytes(self.path) <= WAL_LIMIT_BYTES,
        }

    def take_snapshot(self) -> Any:
        """Return a copy of the whole database in memory, for restore_snapshot."""
        copy = dbapi.connect(":memory:", check_same_thread=False)
        with self._own_connection() as source:
            source.backup(copy)
        copy.execute("VACUUM")  # room that is free would be written again at every restore
        return copy

    def restore_snapshot(self, copy: Any) -> None:
        """Put a snapshot in place of everything but the API keys, which it must not bring back.

        The connection is a new one: the text search of a pooled one would trust what it remembers.
        Raises ApiError 503 when writers are busy.
        """
        with self.queue.turn(UPGRADE_SECONDS), self._own_connection() as target:
            keys = target.execute("SELECT * FROM api_keys").fetchall()
            copy.execute("DELETE FROM api_keys")
            for key in keys:
                marks = ", ".join("?" * len(key))
                copy.execute(f"INSERT INTO api_keys VALUES ({marks})", key)  # noqa: S608
            copy.commit()
            copy.backup(target)

    def copy_to(self, path: Path) -> None:
        """Copy the whole database as it is at this moment into a new file. Raises Error.

        In one step: a copy made page by page begins anew at every write of another process.
        """
        with closing(dbapi.connect(path)) as copy, self._own_connection() as source:
            source.backup(copy)

    @contextmanager
    def _own_connection(self) -> Iterator[Any]:
        with closing(dbapi.connect(self.path)) as raw:
            _prepare(raw, self._durability)
            yield raw

    def close(self) -> None:
        """Close every connection; the last to be closed empties the log into the file."""
        self.pool.dispose()
        for raw in list(self._open):
            raw.close()
            self._closed(raw)

    def _connected(self, raw: Any) -> None:
        self._open.add(raw)
        try:
            _prepare(raw, self._durability)
        except BaseException:
            raw.close()
            self._closed(raw)
            raise
        self._opened, self._opened_log = _identity(self.path), _identity(self._log)

    def _closed(self, raw: Any) -> None:
        self._open.discard(raw)
        if not self._open:
            self._opened_log = None  # whoever is the last to close the file deletes its log

    def _is_same_file(self) -> bool:
        """Tell whether file and log are still those that were opened: writes would be lost."""
        return self._opened in (None, _identity(self.path)) and (
            self._opened_log in (None, _identity(self._log))
        )

    def _refuse_no_file(self) -> None:
        if not os.path.exists(self.path):  # Path.exists raises for the folder of another user
            raise unavailable()

    def _refuse_another_file(self) -> None:
        if not self._is_same_file():
            raise _lost("the file or log was deleted or replaced")


def faults_of(path: Path) -> list[str]:
    """Return what is wrong inside a database file that nobody else uses. Raises Error."""
    with closing(dbapi.connect(path)) as raw:
        checks = ("PRAGMA integrity_check", "PRAGMA foreign_key_check")
        rows = [row for check in checks for row in raw.execute(check)]
    return [str(row) for row in rows if row != ("ok",)]


def free_bytes(path: Path) -> int:
    """Return how much room the disk of a database has left; none when its folder is gone."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0


def wal_bytes(path: Path) -> int:
    """Return the size of a database's write-ahead log, which may be gone at any moment."""
    try:
        return _log_of(path).stat().st_size
    except OSError:
        return 0


def _log_of(path: Path) -> Path:
    """Return where SQLite has the log: beside the file itself, not beside a link to it."""
    return Path(f"{path.resolve()}-wal")


def _lost(cause: str) -> ApiError:
    log.error("database error: %s", cause)
    return unavailable()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class WriteQueue:
    """One writer at a time, across threads (a lock) and processes (flock on a file).

    Who gives the file lock back rings a bell: a byte in a pipe beside the file, for which the
    other processes wait, so nobody polls and every wait ends at its deadline. The kernel drops the
    lock of a process that died without ringing; only for that does a wait look again now and then.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._file = self._bell = -1
        self._rung = select.poll()
        self._locked = False

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Hold the turn. Raises ApiError 503 when it does not come within some seconds."""
        deadline = monotonic() + seconds
        if not self._turn.acquire(timeout=max(0, seconds)):
            raise busy()
        try:
            self._lock_file(deadline)
            yield
        finally:
            try:
                self._unlock_file()
            finally:
                self._turn.release()

    def _lock_file(self, deadline: float) -> None:
        if self._file < 0:
            self._open()
        while not self._try_file():
            left = deadline - monotonic()
            if left <= 0:
                raise busy()
            if self._rung.poll(min(left, LOOK_AGAIN_SECONDS) * 1000):
                with suppress(BlockingIOError):
                    os.read(self._bell, 4096)

    def _unlock_file(self) -> None:
        if self._locked:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._locked = False
            with suppress(BlockingIOError):
                os.write(self._bell, b"!")

    def _try_file(self) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._locked = True
        return self._locked

    def _open(self) -> None:
        bell = f"{self._path}-bell"
        try:
            with suppress(FileExistsError):
                os.mkfifo(bell, 0o600)
            self._bell = self._kept_open(bell, os.O_RDWR | os.O_NONBLOCK)
            self._file = self._kept_open(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise _lost(str(error)) from error
        self._rung.register(self._bell, select.POLLIN)

    def _kept_open(self, path: str, flags: int) -> int:
        handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, handle)
        return handle


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite cannot lose commits by the WAL-reset bug (sqlite.org/wal.html)."""
    return version >= _FIXED_SQLITE[-1] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in _FIXED_SQLITE
    )


def file_of(url: str) -> Path:
    """Return the path of a SQLite URL's file."""
    return Path(sa.make_url(url).database or "")


def secret_beside(database: Path) -> str:
    """Return the key that signs the browse page's cookies, made by whoever asks first.

    It gets its name only when it is whole, and a name can be given once: of workers that start
    together, all read the same key.
    """
    path = database.with_name(f"{database.name}-secret")
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(handle)
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    secret = path.read_text()
    if len(secret) < config.MIN_SECRET_CHARACTERS:
        sys.exit(f"{path} is damaged. Delete it: everybody signs in to the browse page anew.")
    return secret


def look_up(url: str, query: str) -> Any:
    """Return one value of a database that no engine holds, or None where it has no such table."""
    path = file_of(url)
    if not os.path.exists(path):
        return None
    try:
        with closing(dbapi.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            row = connection.execute(query).fetchone()
        return row[0] if row else None
    except dbapi.DatabaseError as error:
        if "no such table" in str(error):
            return None
        cause = error if free_bytes(path) else "its disk is full"
        sys.exit(f"The database {path} cannot be read: {cause}.")


def _prepare(raw: Any, durability: str) -> None:
    raw.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_MILLISECONDS}",
        "journal_mode=WAL",
        f"synchronous={durability}",
        "foreign_keys=ON",
        "journal_size_limit=67108864",
        "cache_size=-8000",
        "temp_store=MEMORY",
        "secure_delete=FAST",
        "trusted_schema=OFF",
    ):
        raw.execute(f"PRAGMA {pragma}")
    [indexed] = raw.execute(_TOKENIZER).fetchone() or [""]
    raw.execute(
        f"CREATE VIRTUAL TABLE temp.newest_text USING fts5(text, thread_seq UNINDEXED{indexed})"
    )
