"""The transactions the app works in and the checks at its start, whichever database serves.

What differs is in two small modules of one shape: sqlite.py and postgres.py.
"""

import atexit
import fcntl
import importlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa
from flask import Flask, current_app

import config
import sqlite
from errors import ApiError, busy, too_broad, unavailable
from group_commit import Change
from models import SCHEMA_REVISION, db
from sqlite import file_of, secret_beside

if TYPE_CHECKING:
    from postgres import PostgreSQL

Engine: TypeAlias = "sqlite.SQLite | PostgreSQL"
log = logging.getLogger("threads")

QUEUE_SECONDS = 2.5
COMMAND_SECONDS = 60
Statement = sa.Executable | str
Values = Mapping[str, Any]
_NONE: dict[str, Any] = {}
_COMPILED: dict[tuple[sa.Executable, sa.Dialect], tuple[str, dict[str, Any]]] = {}
_MOST_COMPILED = 1_000
_MEMORY_PREFIX = "threads-memory-"
FAILURES = (sa.exc.DBAPIError, sqlite.Error, OSError)
"""What a database raises before there is an app that answers."""


class Connection:
    """The driver's connection inside one transaction; runs Core statements, each compiled once.

    A SELECT costs 11 µs of CPU this way and 78 through sqlalchemy.Connection (checkout included).
    """

    def __init__(self, raw: Any, engine: Engine) -> None:
        self.raw = raw
        self._dialect = engine.pool.dialect

    def value(self, statement: Statement, values: Values = _NONE) -> Any:
        """Return the first column of the first row, or None."""
        rows = self._run(statement, values).fetchall()
        return rows[0][0] if rows else None

    def rows(self, statement: Statement, values: Values = _NONE) -> list[Any]:
        """Return all rows, as tuples with names."""
        cursor = self._run(statement, values)
        make = _row_type(tuple(column[0] for column in cursor.description))
        return [make(*row) for row in cursor.fetchall()]

    def batches(self, statement: Statement, values: Values, size: int) -> Iterator[list[Any]]:
        """Yield all rows, so many at a time, as plain tuples."""
        cursor = self._run(statement, values)
        while rows := cursor.fetchmany(size):
            yield rows

    def change(self, statement: Statement, values: Values = _NONE) -> int:
        """Run a statement that returns no rows; return how many it changed."""
        return int(self._run(statement, values).rowcount)

    def together(self, run: Callable[["Connection"], Any]) -> Any:
        """Run several statements that are one change, and do not look at the request."""
        return run(self)

    def change_many(self, statement: sa.Executable, rows: Sequence[dict[str, Any]]) -> None:
        """Run a statement for each dict of values."""
        sql, constants = _compiled(statement, self._dialect, rows[0])
        self.raw.cursor().executemany(sql, [constants | row for row in rows])

    def _run(self, statement: Statement, values: Values) -> Any:
        if isinstance(statement, str):
            return self.raw.execute(statement)
        sql, constants = _compiled(statement, self._dialect, values)
        return self.raw.execute(sql, {**constants, **values} if constants else values)


class Lone(Connection):
    """A connection for one change, which other threads may store with theirs (group_commit)."""

    def __init__(self, raw: Any, engine: Engine, seconds: float) -> None:
        super().__init__(raw, engine)
        self._engine, self._seconds = engine, seconds

    def value(self, statement: Statement, values: Values = _NONE) -> Any:
        """Return the first column of the first row, or None; it is stored by then."""
        return self.together(lambda connection: connection.value(statement, values), steps=False)

    def change(self, statement: Statement, values: Values = _NONE) -> int:
        """Return how many rows were changed; it is stored by then."""
        return int(self.together(lambda connection: connection.change(statement, values), False))

    def together(self, run: Callable[[Connection], Any], steps: bool = True) -> Any:
        """Run several statements, all or none; they are stored by then."""
        engine = self._engine
        change = Change(lambda raw: run(Connection(raw, engine)), steps)
        engine.store(self.raw, change, self._seconds)
        if change.error is not None:
            _refuse(engine, change.error, change.at_commit)
            raise change.error
        return change.found


def _compiled(statement: Any, dialect: Any, values: Values) -> tuple[str, dict[str, Any]]:
    """Return a statement's SQL and the values that are part of it.

    What is compiled has the names of the first values given: a statement has the same each time.
    """
    found = _COMPILED.get((statement, dialect))
    if found is None:
        compiled = statement.compile(dialect=dialect, column_keys=list(values))
        state = compiled.construct_expanded_state(values)
        constants = {key: value for key, value in state.parameters.items() if key not in values}
        if len(_COMPILED) >= _MOST_COMPILED:
            _COMPILED.clear()
        found = _COMPILED[statement, dialect] = state.statement, constants
    return found


@cache
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)


def cause_of(error: BaseException) -> str:
    """Return the first line of what one of FAILURES says."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def is_postgres(url: str) -> bool:
    """Tell whether a URL names a PostgreSQL database."""
    return url.startswith("postgresql")


def _module_of(url: str) -> Any:
    """Return the module of a URL's database; that of PostgreSQL is loaded by those who use it."""
    return importlib.import_module("postgres") if is_postgres(url) else sqlite


def current() -> Engine:
    """Return the app's database."""
    engine: Engine = current_app.extensions["database"]
    return engine


def prepare(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the Flask-SQLAlchemy settings for THREADS_DATABASE_URL and make its folder ready.

    Raises SystemExit with one line when there can be no database.
    """
    url = settings["DATABASE_URL"]
    if url == "memory":
        url = f"sqlite:///{private_folder()}/threads.db"
    options = _module_of(url).prepare(url, settings["WORKER_THREADS"]) | {"hide_parameters": True}
    home = file_of(config.DEFAULT_DATABASE_URL if is_postgres(url) else url)
    # A `flask` command signs nothing; `flask doctor` must leave no file behind.
    passing = secrets.token_hex(32) if "FLASK_RUN_FROM_CLI" in os.environ else None
    try:
        secret = settings["SECRET_KEY"] or passing or secret_beside(home)
    except OSError as error:
        sys.exit(f"The database folder {home.parent} cannot be used: {error.strerror}.")
    return {
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": options,
        "SECRET_KEY": secret,
    }


def make_folder(url: str) -> None:
    """Make the folder of a database file, at a start: a worker whose folder is gone answers 503.

    Raises SystemExit with one line.
    """
    if url.startswith("sqlite:"):
        sqlite.make_folder(url)


def init_app(app: Flask) -> None:
    """Bind the tables to the app and prepare each connection and transaction."""
    db.init_app(app)
    app.teardown_appcontext_funcs.clear()  # to look for a session that nobody opens costs 3 µs
    with app.app_context():
        pool = db.engine
    url = app.config["SQLALCHEMY_DATABASE_URI"]
    make = _module_of(url).PostgreSQL if is_postgres(url) else sqlite.SQLite
    app.extensions["database"] = make(app, pool)


class Transaction:
    """A connection for the length of a transaction, in a `with`; what fails is an ApiError.

    A class, not nested generators, for it is on the way of every request.
    """

    def __init__(self, engine: Engine, kind: str) -> None:
        self._engine, self._kind = engine, kind
        self._pooled: Any = None

    def __enter__(self) -> Connection:
        engine = self._engine
        try:
            self._pooled = engine.take()
            raw = self._pooled.dbapi_connection
            engine.begin(raw, self._kind)
        except Exception as error:
            self.__exit__(type(error), error, None)
            raise
        return Connection(raw, engine)

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if self._pooled:
            self._engine.give_back(self._pooled)
        if error is not None:
            _refuse(self._engine, error)


def read() -> Transaction:
    """Return a connection for one SELECT. Raises ApiError 503 when the database is busy."""
    return Transaction(current(), "read")


def snapshot() -> Transaction:
    """Return a connection whose SELECTs all see the same moment."""
    return Transaction(current(), "snapshot")


@contextmanager
def write(wait: float | None = None, alone: bool = False) -> Iterator[Connection]:
    """Yield a connection inside the one write transaction of its time; commit at the end.

    With `alone` the caller makes one change only (Lone).
    Raises ApiError 503 when the turn does not come within `wait` seconds (QUEUE_SECONDS), 507 when
    the disk is full.
    """
    engine, seconds = current(), QUEUE_SECONDS if wait is None else wait
    if alone:
        with Transaction(engine, "alone") as connection:
            yield Lone(connection.raw, engine, seconds)
        return
    with engine.turn(seconds), Transaction(engine, "write") as connection:
        yield connection
        try:
            connection.raw.commit()
        except engine.error as error:
            _refuse(engine, error, at_commit=True)


def health() -> dict[str, bool]:
    """Tell what of the database is as it must be; nothing is written to find out."""
    found = None
    with suppress(ApiError), read() as connection:
        found = connection.value("SELECT version_num FROM alembic_version")
    return {"schema": found == SCHEMA_REVISION} | current().health()


def is_memory(app: Flask) -> bool:
    """Tell whether the database ends with the process."""
    return file_of(app.config["SQLALCHEMY_DATABASE_URI"]).parent.name.startswith(_MEMORY_PREFIX)


def the_file() -> sqlite.SQLite:
    """Return the database where it is a file: mock controls copy it. Raises ApiError 403."""
    engine = current()
    if isinstance(engine, sqlite.SQLite):
        return engine
    message = "This control works with SQLite only; nothing was changed."
    raise ApiError(403, message, code="sqlite_only")


def has_keys(url: str) -> bool:
    """Tell, before the app is loaded, whether an API key was ever made."""
    return bool(_module_of(url).look_up(url, "SELECT count(*) FROM api_keys"))


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


def refuse_old_schema(app: Flask) -> None:
    """Stop a worker whose database has another schema than this program's.

    Status 4 is gunicorn's APP_LOAD_ERROR, which ends the server: any other SystemExit is restarted
    for ever. A database that is away stops no worker: each answers 503 until it is back.
    """
    url, engine = app.config["SQLALCHEMY_DATABASE_URI"], app.extensions["database"]
    try:
        found = _module_of(url).look_up(url, "SELECT version_num FROM alembic_version")
    except SystemExit as error:
        log.error(error.code)
    else:
        if is_postgres(url) or os.path.exists(file_of(url)):
            return _refuse_schema(found)
        log.error("The database %s is missing.", file_of(url))
    if isinstance(engine, sqlite.SQLite):
        engine.await_file()


def _refuse_schema(found: str | None) -> None:
    if found != SCHEMA_REVISION:
        log.error("The database has schema %s, not %s: start anew.", found, SCHEMA_REVISION)
        raise SystemExit(4)


def close(app: Flask) -> None:
    """Close what an app has open, so that SQLite's log ends up in its file."""
    app.extensions["database"].close()


def is_current(url: str) -> bool:
    """Tell whether a database has this program's schema.

    Raises SystemExit with one line when it is newer, or no database.
    """
    found = _module_of(url).look_up(url, "SELECT version_num FROM alembic_version")
    if found and found > SCHEMA_REVISION:
        sys.exit(f"The database has schema {found}; this version knows {SCHEMA_REVISION}: update.")
    return bool(found == SCHEMA_REVISION)


def _refuse(engine: Engine, error: BaseException, at_commit: bool = False) -> None:
    """Raise the ApiError that an error of the database stands for; leave others alone."""
    if isinstance(error, sa.exc.TimeoutError):
        raise busy() from error
    if isinstance(error, (sa.exc.DBAPIError, engine.error)):
        name = engine.name_of(getattr(error, "orig", error))
        kinds = engine.KINDS.items()
        kind = next((kind for start, kind in kinds if name.startswith(start)), "")
        raise _refusal(name, kind, at_commit) from error


def _refusal(name: str, kind: str, at_commit: bool) -> ApiError:
    if kind in _REFUSALS:
        return _REFUSALS[kind]()
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


_REFUSALS = {"busy": busy, "too broad": too_broad, "repeated": _repeated_id}


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
