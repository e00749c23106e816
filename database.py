"""The engine: SQLite settings, read and write transactions, the write queue, schema checks.

Only this module knows which database serves. SQLite is imported here and nowhere else, because
two SQLite libraries in one process break each other's file locks.
"""

import atexit
import fcntl
import logging
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app

import config
from errors import ApiError
from models import SCHEMA_REVISION, db

try:
    from pysqlite3 import dbapi2 as sqlite
except ImportError:
    import sqlite3 as sqlite

log = logging.getLogger("threads")

QUEUE_SECONDS = 2.5
TURNS_KEPT = 8
BUSY_MILLISECONDS = 3000
POOL_SECONDS = 5
DISK_FLOOR_BYTES = 64 << 20
WAL_LIMIT_BYTES = 256 << 20
SqliteError = sqlite.Error
SQLITE_VERSION = sqlite.sqlite_version_info
_FIXED_SQLITE = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
_MEMORY_PREFIX = "threads-memory-"


def prepare(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the Flask-SQLAlchemy settings for THREADS_DATABASE_URL and make its folder ready.

    Raises SystemExit with one line when the folder cannot hold a database.
    """
    url = memory_url() if settings["DATABASE_URL"] == "memory" else settings["DATABASE_URL"]
    os.umask(0o077)
    folder = file_of(url).parent
    if url == config.DEFAULT_DATABASE_URL:
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        sys.exit(f"The database folder {folder} is missing or cannot be written.")
    try:
        secret = settings["SECRET_KEY"] or secret_beside(file_of(url))
    except OSError as error:
        sys.exit(f"The database folder {folder} cannot be used: {error.strerror}.")
    options = {
        "module": sqlite,
        "pool_size": settings["WORKER_THREADS"],
        "max_overflow": 0,
        "pool_timeout": POOL_SECONDS,
        "pool_use_lifo": True,
        "hide_parameters": True,
    }
    return {
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": options,
        "SECRET_KEY": secret,
    }


def init_app(app: Flask) -> None:
    """Bind the tables to the app and prepare each connection and transaction."""
    db.init_app(app)
    with app.app_context():
        engine = db.engine

    @sa.event.listens_for(engine, "do_connect")
    def connecting(*_: Any) -> None:
        _refuse_another_file()  # SQLite would make a new, empty one

    @sa.event.listens_for(engine, "connect")
    def connected(dbapi: Any, _: Any) -> None:
        _on_connect(dbapi, app.config["DURABILITY"])
        app.extensions["database_identity"] = _identity(str(engine.url))

    app.extensions["database_identity"] = _identity(str(engine.url))
    sa.event.listen(engine, "begin", _on_begin)
    app.extensions["read_engine"] = engine.execution_options(begin=None)
    app.extensions["snapshot_engine"] = engine.execution_options(begin="BEGIN")
    app.extensions["write_engine"] = engine.execution_options(begin="BEGIN IMMEDIATE")
    app.extensions["write_queue"] = WriteQueue(f"{file_of(str(engine.url))}-queue")
    if not has_wal_fix(SQLITE_VERSION):
        log.warning("SQLite %s has the WAL-reset bug; 3.51.3 fixes it.", sqlite.sqlite_version)


@contextmanager
def read() -> Iterator[sa.Connection]:
    """Yield a connection for one SELECT. Raises ApiError 503 when the database is busy."""
    with _refusals(), current_app.extensions["read_engine"].connect() as connection:
        yield connection


@contextmanager
def snapshot() -> Iterator[sa.Connection]:
    """Yield a connection whose SELECTs all see the same moment."""
    with _refusals(), current_app.extensions["snapshot_engine"].connect() as connection:
        yield connection


@contextmanager
def write(wait: bool = True) -> Iterator[sa.Connection]:
    """Yield a connection inside the one write transaction of its time; commit at the end.

    Raises ApiError 503 when the turn does not come in time (at once where `wait` is false), 507
    when the disk is full.
    """
    extensions = current_app.extensions
    queue: WriteQueue = extensions["write_queue"]
    seconds = QUEUE_SECONDS if wait else 0
    with queue.turn(seconds):
        _refuse_another_file()
        with _refusals(), extensions["write_engine"].begin() as connection:
            yield connection


def health() -> dict[str, bool]:
    """Tell what of the database is as it must be; nothing is written to find out."""
    path = file_of(current_app.config["SQLALCHEMY_DATABASE_URI"])
    return {
        "schema": _has_schema(),
        "file": _is_same_file(),
        "disk": free_bytes(path) >= DISK_FLOOR_BYTES,
        "wal": wal_bytes(path) <= WAL_LIMIT_BYTES,
    }


def free_bytes(path: Path) -> int:
    """Return how much room the disk of a database has left; none when its folder is gone."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0


def wal_bytes(path: Path) -> int:
    """Return the size of a database's write-ahead log, which may be gone at any moment."""
    try:
        return os.stat(f"{path}-wal").st_size
    except OSError:
        return 0


def _has_schema() -> bool:
    try:
        with read() as connection:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    except ApiError:
        return False
    return bool(found == SCHEMA_REVISION)


def _is_same_file() -> bool:
    """Tell whether the path still names the file that was opened: writes to another are lost."""
    opened: tuple[int, int] | None = current_app.extensions["database_identity"]
    return opened in (None, _identity(current_app.config["SQLALCHEMY_DATABASE_URI"]))


def _refuse_another_file() -> None:
    if not _is_same_file():
        raise _unavailable("the file was deleted or replaced")


def _identity(url: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file_of(url))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_memory(app: Flask) -> bool:
    """Tell whether the database ends with the process."""
    return file_of(app.config["SQLALCHEMY_DATABASE_URI"]).parent.name.startswith(_MEMORY_PREFIX)


def take_snapshot() -> Any:
    """Return a copy of the whole database in memory, for restore_snapshot."""
    copy = sqlite.connect(":memory:", check_same_thread=False)
    with _own_connection() as source:
        source.backup(copy)
    return copy


def restore_snapshot(copy: Any) -> None:
    """Put a snapshot in place of everything but the API keys, which a copy must not bring back.

    The connection is a new one: the text search of a pooled one would trust what it remembers.
    Raises ApiError 503 when writers are busy.
    """
    with current_app.extensions["write_queue"].turn(), _own_connection() as target:
        keys = target.execute("SELECT * FROM api_keys").fetchall()
        copy.execute("DELETE FROM api_keys")
        for key in keys:
            copy.execute(f"INSERT INTO api_keys VALUES ({', '.join('?' * len(key))})", key)  # noqa: S608
        copy.commit()
        copy.backup(target)


def has_keys(url: str) -> bool:
    """Tell, before the app is loaded, whether an API key was ever made."""
    return bool(_look_up(file_of(url), "SELECT count(*) FROM api_keys"))


def copy_to(path: Path) -> None:
    """Copy the whole database as it is at this moment into a new file. Raises SqliteError.

    In one step: a copy made page by page begins anew at every write of another process.
    """
    with closing(sqlite.connect(path)) as copy, _own_connection() as source:
        source.backup(copy)


def faults_of(path: Path) -> list[str]:
    """Return what is wrong inside a database file that nobody else uses. Raises SqliteError."""
    with closing(sqlite.connect(path)) as connection:
        checks = ("PRAGMA integrity_check", "PRAGMA foreign_key_check")
        rows = [row for check in checks for row in connection.execute(check)]
    return [str(row) for row in rows if row != ("ok",)]


@contextmanager
def _own_connection() -> Iterator[Any]:
    connection = sqlite.connect(file_of(current_app.config["SQLALCHEMY_DATABASE_URI"]))
    try:
        _on_connect(connection, current_app.config["DURABILITY"])
        yield connection
    finally:
        connection.close()


@contextmanager
def time_limit(connection: sa.Connection, seconds: float) -> Iterator[None]:
    """Stop the statements inside after so many seconds. Raises ApiError 400 for `q`."""
    dbapi: Any = connection.connection.dbapi_connection
    deadline = monotonic() + seconds
    dbapi.set_progress_handler(lambda: monotonic() > deadline, 10_000)
    try:
        yield
    finally:
        dbapi.set_progress_handler(None, 0)


class WriteQueue:
    """One writer at a time, across threads (a lock) and processes (flock on a file).

    Nobody polls. The kernel drops a dead process's flock, and a wait ends at a deadline: only a
    thread of its own waits in flock, which knows no time limit. The flock stays with a process
    for up to TURNS_KEPT turns while its own threads want the next one, for handing it to another
    process costs as much as a small write.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._file = -1
        self._kept = 0

    @contextmanager
    def turn(self, seconds: float = QUEUE_SECONDS) -> Iterator[None]:
        """Hold the turn. Raises ApiError 503 when it does not come within some seconds."""
        deadline = monotonic() + seconds
        self._await_turn(seconds)
        try:
            if self._file < 0:
                self._file = self._lock_file(deadline)
            yield
        finally:
            self._end_turn()

    def _await_turn(self, seconds: float) -> None:
        self._count(1)
        got = self._turn.acquire(timeout=seconds)
        self._count(-1)
        if got:
            return
        if self._turn.acquire(blocking=False):
            self._end_turn()
        raise _busy()

    def _end_turn(self) -> None:
        self._kept += 1
        if self._file >= 0 and (not self._waiting or self._kept >= TURNS_KEPT):
            os.close(self._file)
            self._file, self._kept = -1, 0
        self._turn.release()

    def _count(self, change: int) -> None:
        with self._counting:
            self._waiting += change

    def _lock_file(self, deadline: float) -> int:
        try:
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unavailable(str(error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _FileWait(lock).join_or_abandon(deadline)
        return lock


class _FileWait(threading.Thread):
    """Waits for a flock; one that was abandoned gives the lock back as soon as it has it."""

    def __init__(self, lock: int) -> None:
        super().__init__(daemon=True)
        self._lock = lock
        self._settled = threading.Lock()
        self._granted = threading.Event()
        self._abandoned = False

    def run(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        with self._settled:
            self._granted.set()
            if self._abandoned:
                os.close(self._lock)

    def join_or_abandon(self, deadline: float) -> None:
        self.start()
        if self._granted.wait(max(0.0, deadline - monotonic())):
            return
        with self._settled:
            self._abandoned = not self._granted.is_set()
        if self._abandoned:
            raise _busy()


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite cannot lose commits by the WAL-reset bug (sqlite.org/wal.html)."""
    return version >= _FIXED_SQLITE[-1] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in _FIXED_SQLITE
    )


def file_of(url: str) -> Path:
    """Return the path of a SQLite URL's file."""
    return Path(sa.make_url(url).database or "")


def memory_url() -> str:
    """Return the URL of a new database that lives as long as this process."""
    return f"sqlite:///{private_folder()}/threads.db"


def private_folder() -> Path:
    """Make a folder, in memory where there is some, that is gone with this process.

    Folders left behind by processes that were killed are removed first: the lock on a folder
    ends with the last process of its server, and no folder has its name before it is locked.
    """
    home = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())  # noqa: S108
    for folder in home.glob(f"{_MEMORY_PREFIX}*"):
        _remove_left(folder)
    unlocked = Path(tempfile.mkdtemp(prefix=f".{_MEMORY_PREFIX}{os.getpid()}-", dir=home))
    fcntl.flock(os.open(unlocked, os.O_RDONLY), fcntl.LOCK_EX)
    folder = unlocked.rename(home / unlocked.name[1:])
    atexit.register(_remove_own, folder, os.getpid())
    return folder


def secret_beside(database: Path) -> str:
    """Return the key that signs the browse page's cookies, made by whoever asks first.

    It gets its name only when it is whole, and a name can be given once: of workers that start
    together, all read the same key.
    """
    path = database.with_name(f"{database.name}-secret")
    if not path.exists():
        draft = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text()


def refuse_old_schema(url: str) -> None:
    """Stop a worker whose database is not at this program's schema, in a way gunicorn obeys.

    Status 4 is gunicorn's APP_LOAD_ERROR: any other SystemExit is restarted for ever.
    """
    try:
        if is_current(url):
            return
        reason = f"The database is not at schema {SCHEMA_REVISION}: start with make run."
    except SystemExit as error:
        reason = str(error.code)
    log.error(reason)
    raise SystemExit(4)


def is_current(url: str) -> bool:
    """Tell whether a database has this program's schema.

    Raises SystemExit with one line when it is newer, or no database.
    """
    found = _look_up(file_of(url), "SELECT version_num FROM alembic_version")
    if found and found > SCHEMA_REVISION:
        sys.exit(f"The database has schema {found}; this version knows {SCHEMA_REVISION}: update.")
    return bool(found == SCHEMA_REVISION)


def _look_up(path: Path, query: str) -> Any:
    """Return one value of a database that no engine holds, or None where it has no such table."""
    if not path.exists():
        return None
    connection = sqlite.connect(f"{path.as_uri()}?mode=rw", uri=True)
    try:
        row = connection.execute(query).fetchone()
        return row[0] if row else None
    except sqlite.DatabaseError as error:
        if "no such table" in str(error):
            return None
        cause = error if free_bytes(path) else "its disk is full"
        sys.exit(f"The database {path} cannot be read: {cause}.")
    finally:
        connection.close()


def _on_connect(dbapi: Any, durability: str) -> None:
    dbapi.isolation_level = None
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
        dbapi.execute(f"PRAGMA {pragma}")


def _on_begin(connection: sa.Connection) -> None:
    statement = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
    if statement:
        connection.exec_driver_sql(statement)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise _busy() from error
    except sa.exc.DBAPIError as error:
        if str(error.orig).startswith("UNIQUE"):
            raise _repeated_id() from error
        raise _refusal(getattr(error.orig, "sqlite_errorname", "")) from error


def _refusal(name: str) -> ApiError:
    if name.startswith("SQLITE_BUSY"):
        return _busy()
    if name == "SQLITE_INTERRUPT":
        message = "The search took too long. Ask for a rarer word, or narrow the dates."
        return ApiError(400, message, "q", "search_too_broad")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _unavailable(name)
    log.error("database error: %s", name)
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):
        message = "The server's disk is full; nothing was written. Free some space, then retry."
        return ApiError(507, message, code="disk_full", headers={"x-should-retry": "false"})
    message = "The database failed; whether the change was stored is unknown. See the server's log."
    return ApiError(500, message, headers={"x-should-retry": "false"})


def _repeated_id() -> ApiError:
    message = "PUT /_mock/ids made an id that exists already. POST /_mock/reset first."
    return ApiError(400, message, code="id_exists")


def _unavailable(cause: str) -> ApiError:
    log.error("database error: %s", cause)
    message = "The database cannot be used; nothing was written. The server's log has the cause."
    return ApiError(503, message, code="database_unavailable", headers={"Retry-After": "5"})


def _busy() -> ApiError:
    message = "The database is busy; nothing was written. Try again in a second."
    return ApiError(503, message, code="database_busy", headers={"Retry-After": "1"})


def _remove_left(folder: Path) -> None:
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)


def _remove_own(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
