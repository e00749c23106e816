"""The transactions the app works in and the checks at its start, whichever database serves.

What differs is in two small modules of one shape: sqlite.py and postgres.py.
"""

import atexit
import fcntl
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from flask import Flask, current_app

import config
import postgres
import sqlite
from errors import ApiError, busy, too_broad, unavailable
from models import SCHEMA_REVISION, db
from sqlite import file_of, secret_beside

log = logging.getLogger("threads")

POOL_SECONDS = 5
_MEMORY_PREFIX = "threads-memory-"


class Engine(Protocol):
    """What a module must have to be a database of the app."""

    KINDS: Mapping[str, str]
    """What an error is, by how its name begins."""
    SEARCHES: Mapping[str, str]
    """SQL over the text of messages: `count`, and the conditions `rare` and `common`."""

    def prepare(self, url: str) -> dict[str, Any]: ...
    def init_app(self, app: Flask, engine: sa.Engine) -> None: ...
    def turn(self, wait: bool) -> AbstractContextManager[None]: ...
    def upgrading(self, engine: sa.Engine) -> AbstractContextManager[sa.Connection]: ...
    def time_limit(
        self, connection: sa.Connection, seconds: float
    ) -> AbstractContextManager[None]: ...
    def name_of(self, error: sa.exc.DBAPIError) -> str: ...
    def health(self) -> dict[str, bool]: ...
    def look_up(self, url: str, query: str) -> Any: ...


def is_postgres(url: str) -> bool:
    """Tell whether a URL names a PostgreSQL database."""
    return url.startswith("postgresql")


def _engine_of(url: str) -> Engine:
    return postgres if is_postgres(url) else sqlite


def _engine() -> Engine:
    return _engine_of(current_app.config["SQLALCHEMY_DATABASE_URI"])


def prepare(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the Flask-SQLAlchemy settings for THREADS_DATABASE_URL and make its folder ready.

    Raises SystemExit with one line when there can be no database.
    """
    url = memory_url() if settings["DATABASE_URL"] == "memory" else settings["DATABASE_URL"]
    options = _engine_of(url).prepare(url) | {
        "pool_size": settings["WORKER_THREADS"],
        "max_overflow": 0,
        "pool_timeout": POOL_SECONDS,
        "pool_use_lifo": True,
        "hide_parameters": True,
    }
    home = file_of(config.DEFAULT_DATABASE_URL if is_postgres(url) else url)
    try:
        secret = settings["SECRET_KEY"] or secret_beside(home)
    except OSError as error:
        sys.exit(f"The database folder {home.parent} cannot be used: {error.strerror}.")
    return {
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": options,
        "SECRET_KEY": secret,
    }


def init_app(app: Flask) -> None:
    """Bind the tables to the app and prepare each connection and transaction."""
    db.init_app(app)
    with app.app_context():
        _engine().init_app(app, db.engine)


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
    engine = current_app.extensions["write_engine"]
    with _refusals(), _engine().turn(wait), engine.connect() as connection:
        connection.begin()
        yield connection
        with _refusals(at_commit=True):
            connection.commit()


def upgrading() -> AbstractContextManager[sa.Connection]:
    """Return the transaction of an upgrade, of which there is one at a time."""
    return _engine().upgrading(db.engine)


def time_limit(connection: sa.Connection, seconds: float) -> AbstractContextManager[None]:
    """Stop the statements inside after so many seconds. Raises ApiError 400 for `q`."""
    return _engine().time_limit(connection, seconds)


def search(way: str) -> str:
    """Return the SQL of one way to search the text of messages."""
    return _engine().SEARCHES[way]


def health() -> dict[str, bool]:
    """Tell what of the database is as it must be; nothing is written to find out."""
    return {"schema": _has_schema()} | _engine().health()


def _has_schema() -> bool:
    try:
        with read() as connection:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    except ApiError:
        return False
    return bool(found == SCHEMA_REVISION)


def is_memory(app: Flask) -> bool:
    """Tell whether the database ends with the process."""
    return file_of(app.config["SQLALCHEMY_DATABASE_URI"]).parent.name.startswith(_MEMORY_PREFIX)


def take_snapshot() -> Any:
    """Return a copy of the whole database in memory, for restore_snapshot."""
    require_copies()
    return sqlite.take_snapshot()


def restore_snapshot(copy: Any) -> None:
    """Put a snapshot in place of everything but the API keys, which a copy must not bring back.

    Raises ApiError 503 when writers are busy.
    """
    sqlite.restore_snapshot(copy)


def require_copies() -> None:
    """Let none of the mock controls that need a copy of the database touch PostgreSQL."""
    if is_postgres(current_app.config["SQLALCHEMY_DATABASE_URI"]):
        message = "This control works with SQLite only; nothing was changed."
        raise ApiError(403, message, code="sqlite_only")


def has_keys(url: str) -> bool:
    """Tell, before the app is loaded, whether an API key was ever made."""
    return bool(_engine_of(url).look_up(url, "SELECT count(*) FROM api_keys"))


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
    found = _engine_of(url).look_up(url, "SELECT version_num FROM alembic_version")
    if found and found > SCHEMA_REVISION:
        sys.exit(f"The database has schema {found}; this version knows {SCHEMA_REVISION}: update.")
    return bool(found == SCHEMA_REVISION)


@contextmanager
def _refusals(at_commit: bool = False) -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise busy() from error
    except sa.exc.DBAPIError as error:
        name = _engine().name_of(error)
        kinds = _engine().KINDS.items()
        kind = next((kind for start, kind in kinds if name.startswith(start)), "")
        raise _refusal(name, kind, at_commit) from error


def _refusal(name: str, kind: str, at_commit: bool) -> ApiError:
    if kind == "busy":
        return busy()
    if kind == "too broad":
        return too_broad()
    if kind == "repeated":
        return _repeated_id()
    log.error("database error: %s", name)
    if kind == "full":
        message = "The server's disk is full; nothing was written. Free some space, then retry."
        return ApiError(507, message, code="disk_full", headers={"x-should-retry": "false"})
    # A connection that is lost while it commits leaves open whether it has.
    if kind == "unavailable" and not at_commit:
        return unavailable()
    message = "The database failed; whether the change was stored is unknown. See the server's log."
    return ApiError(500, message, headers={"x-should-retry": "false"})


def _repeated_id() -> ApiError:
    message = "PUT /_mock/ids made an id that exists already. POST /_mock/reset first."
    return ApiError(400, message, code="id_exists")


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
