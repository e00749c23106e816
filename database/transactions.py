"""The transactions of the app, and the refusals for errors of the database."""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app

from database.connection import Connection
from database.sqlite import Error, SQLite
from database.waits import Places
from models import SCHEMA_REVISION, db
from rules import refusals
from rules.errors import ApiError

if TYPE_CHECKING:
    from database.postgres import PostgreSQL

Engine: TypeAlias = "SQLite | PostgreSQL"
Result = TypeVar("Result")
log = logging.getLogger("threads")

FAILURES = (sa.exc.DBAPIError, Error, OSError)
"""The errors of a database outside of a request."""


def module_of(url: str) -> Any:
    """Return the module of a URL's database. PostgreSQL's is imported only when it is used."""
    return importlib.import_module(f"database.{'postgres' if is_postgres(url) else 'sqlite'}")


def is_postgres(url: str) -> bool:
    """Return whether a URL names a PostgreSQL database."""
    return url.startswith("postgresql")


def init_app(app: Flask) -> None:
    """Bind the tables to the app and prepare its connections."""
    db.init_app(app)
    url = app.config["SQLALCHEMY_DATABASE_URI"]
    make = module_of(url).PostgreSQL if is_postgres(url) else SQLite
    with app.app_context():
        app.extensions["database"] = make(app, db.engine)
    app.extensions["places"] = Places(max(1, app.config["WORKER_THREADS"] - 1))


def current() -> Engine:
    """Return the app's database."""
    engine: Engine = current_app.extensions["database"]
    return engine


def the_file() -> SQLite:
    """Return the database if it is a SQLite file. Raises ApiError 403."""
    engine = current()
    if isinstance(engine, SQLite):
        return engine
    raise refusals.sqlite_only()


class _Reading:
    """A connection for the length of a `with`; an error of the database becomes an ApiError."""

    def __init__(self, is_snapshot: bool) -> None:
        self._engine, self._is_snapshot = current(), is_snapshot
        self._connection: Connection | None = None

    def __enter__(self) -> Connection:
        try:
            connection = self._connection = self._engine.take()
            self._engine.begin(connection, self._is_snapshot)
        except Exception as error:
            self.__exit__(type(error), error, None)
            raise
        return connection

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if self._connection:
            self._engine.give_back(self._connection)
        if error is not None and (refusal := refusal_of(error, other=refusals.read_failed)):
            raise refusal from error


def read() -> _Reading:
    """Return a connection for one SELECT. Raises ApiError 503 when the database is busy."""
    return _Reading(is_snapshot=False)


def snapshot(is_long: bool = False) -> AbstractContextManager[Connection]:
    """Return a connection for several SELECTs that all see the same moment.

    Few long ones read at once, so that the others find a connection. Raises ApiError 503 when those
    take too long.
    """
    return _long_snapshot() if is_long else _Reading(is_snapshot=True)


@contextmanager
def _long_snapshot() -> Iterator[Connection]:
    places: Places = current_app.extensions["places"]
    places.take()
    try:
        with _Reading(is_snapshot=True) as connection:
            yield connection
    finally:
        places.give_back()


def write(change: Callable[[Connection], Result], seconds: float | None = None) -> Result:
    """Run a function in one write transaction: all is stored, or nothing. Return its result.

    Another thread may run it, with the Flask request of the caller. Raises ApiError 503 when the
    turn to write does not come within `seconds` (2.5 by default), 507 when the disk is full.
    """
    after_commit: list[Callable[[], None]] = []

    def noting(connection: Connection) -> Result:
        connection.after_commit = after_commit
        return change(connection)

    result, error, at_commit = current().write(noting, seconds)
    if error is not None:
        raise refusal_of(error, at_commit) or error
    for call in after_commit:
        call()
    stored: Result = result
    return stored


def health() -> dict[str, bool]:
    """Check the schema and the rest of the database, without a write."""
    revision = None
    with suppress(ApiError), read() as connection:
        revision = connection.value("SELECT version_num FROM alembic_version")
    return {"schema": revision == SCHEMA_REVISION} | current().health()


def cause_of(error: BaseException) -> str:
    """Return the first line of the message of one of FAILURES."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def refusal_of(
    error: BaseException,
    at_commit: bool = False,
    other: Callable[[], ApiError] = refusals.outcome_unknown,
) -> ApiError | None:
    """Return the refusal for an error of the database, None for other errors.

    An error of the database that has no refusal of its own gets `other`.
    """
    engine = current()
    if isinstance(error, sa.exc.TimeoutError):
        return refusals.busy()
    if not isinstance(error, (sa.exc.DBAPIError, engine.error, MemoryError)):
        return None
    name = engine.name_of(getattr(error, "orig", error))
    refusal = next((make for code, make in engine.REFUSALS.items() if name.startswith(code)), None)
    if refusal not in (refusals.busy, refusals.search_too_broad, refusals.id_exists):
        log.error("database error: %s", name or type(error).__name__)
    # A connection that is lost during the commit leaves unknown whether the commit succeeded.
    if refusal is None or (refusal is refusals.unavailable and at_commit):
        return other()
    return refusal()
