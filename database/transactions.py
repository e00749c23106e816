"""The transactions of the app, and the refusals that errors of the database stand for."""

import importlib
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app

from database.connection import Connection
from database.sqlite import Error, SQLite
from models import SCHEMA_REVISION, db
from rules import refusals
from rules.errors import ApiError

if TYPE_CHECKING:
    from database.postgres import PostgreSQL

Engine: TypeAlias = "SQLite | PostgreSQL"
Result = TypeVar("Result")
log = logging.getLogger("threads")

FAILURES = (sa.exc.DBAPIError, Error, OSError)
"""What a database raises before there is an app that answers."""


def module_of(url: str) -> Any:
    """Return the module of a URL's database; PostgreSQL's is loaded only where it is used."""
    return importlib.import_module(f"database.{'postgres' if is_postgres(url) else 'sqlite'}")


def is_postgres(url: str) -> bool:
    """Return whether a URL names a PostgreSQL database."""
    return url.startswith("postgresql")


def init_app(app: Flask) -> None:
    """Bind the tables to the app and prepare its connections."""
    db.init_app(app)
    with app.app_context():
        engine = db.engine
    url = app.config["SQLALCHEMY_DATABASE_URI"]
    make = module_of(url).PostgreSQL if is_postgres(url) else SQLite
    app.extensions["database"] = make(app, engine)


def current() -> Engine:
    """Return the app's database."""
    engine: Engine = current_app.extensions["database"]
    return engine


def the_file() -> SQLite:
    """Return the database where it is a file: mock controls copy it. Raises ApiError 403."""
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
        if error is not None and (refusal := refusal_of(error)):
            raise refusal from error


def read() -> _Reading:
    """Return a connection for one SELECT. Raises ApiError 503 when the database is busy."""
    return _Reading(is_snapshot=False)


def snapshot() -> _Reading:
    """Return a connection whose SELECTs all see the same moment."""
    return _Reading(is_snapshot=True)


def write(change: Callable[[Connection], Result], seconds: float | None = None) -> Result:
    """Run a function with a connection in one write transaction; return its result once stored.

    All that it changes is stored, or nothing when it raises. Another thread may run it, in the
    context of the caller: Flask's `request` is the caller's. Raises ApiError 503 when the turn to
    write does not come within `seconds` (2.5 by default), 507 when the disk is full.
    """
    engine = current()
    with _Reading(is_snapshot=False) as connection:
        result, error, at_commit = engine.write(connection, change, seconds)
    if error is not None:
        raise refusal_of(error, at_commit) or error
    stored: Result = result
    return stored


def health() -> dict[str, bool]:
    """Return what of the database is as it must be; nothing is written to find out."""
    revision = None
    with suppress(ApiError), read() as connection:
        revision = connection.value("SELECT version_num FROM alembic_version")
    return {"schema": revision == SCHEMA_REVISION} | current().health()


def cause_of(error: BaseException) -> str:
    """Return the first line of what one of FAILURES says."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def refusal_of(error: BaseException, at_commit: bool = False) -> ApiError | None:
    """Return the refusal that an error of the database stands for, None for other errors."""
    engine = current()
    if isinstance(error, sa.exc.TimeoutError):
        return refusals.busy()
    if not isinstance(error, (sa.exc.DBAPIError, engine.error)):
        return None
    name = engine.name_of(getattr(error, "orig", error))
    kind = next((kind for start, kind in engine.KINDS.items() if name.startswith(start)), "")
    if kind in _QUIET:
        return _QUIET[kind]()
    log.error("database error: %s", name)
    if kind == "full":
        return refusals.disk_full()
    # A connection that is lost while it commits leaves open whether it has.
    is_unwritten = kind == "unavailable" and not at_commit
    return refusals.unavailable() if is_unwritten else refusals.outcome_unknown()


_QUIET = {
    "busy": refusals.busy,
    "too broad": refusals.search_too_broad,
    "repeated": refusals.id_exists,
}
