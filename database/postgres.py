"""PostgreSQL: many writers at once, so rows are locked instead of the file (docs/postgres.md)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from flask import Flask

from database.connection import Connection
from database.write_queue import Change
from rules.refusals import search_too_broad

try:
    import psycopg
except ImportError:
    sys.exit("PostgreSQL needs psycopg: .venv/bin/pip install -r requirements-postgres.txt")

_POOL_SECONDS = 5
_UPGRADE_LOCK = 0x54485244
_SESSION = {
    "statement_timeout": "30s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "60s",
    "client_min_messages": "warning",
    "jit": "off",
}
_CONNECT = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
}
_TIMED_OUT, _NO_TABLE, _NO_CONNECTION = "57014", "42P01", "08000"

KINDS = {
    "40": "busy",  # serialization failure, deadlock
    "55P03": "busy",  # lock_timeout
    _TIMED_OUT: "busy",
    "23505": "busy",  # another transaction stored it first: nothing is written, again is right
    "53100": "full",
    "08": "unavailable",
    "25006": "unavailable",  # a standby answered
    "28": "unavailable",
    "3D": "unavailable",
    "53": "unavailable",
    "57P": "unavailable",  # the server stops or starts
}

SEARCHES = {
    "count": "SELECT count(*) FROM"
    " (SELECT 1 FROM messages WHERE message_text @@ (SELECT message_query(:q))"
    " LIMIT :most) AS found",
    # An array, lest the planner, who cannot know how few matches there are, walk all threads.
    "rare": "threads.project = :project AND threads.seq = ANY (ARRAY"
    "(SELECT messages.thread_seq FROM messages WHERE message_text @@ (SELECT message_query(:q))))",
    # OFFSET 0 keeps the planner from collecting all matches where threads must drive.
    "common": "EXISTS (SELECT 1 FROM messages WHERE messages.thread_seq = threads.seq"
    " AND message_text @@ (SELECT message_query(:q)) OFFSET 0)",
}


def options(url: str, threads: int) -> dict[str, Any]:
    """Return the engine's options; a restart of the server costs no request (pre_ping)."""
    return {
        "pool_size": threads,
        "max_overflow": 0,
        "pool_timeout": _POOL_SECONDS,
        "pool_use_lifo": True,
        "pool_pre_ping": True,
        "connect_args": _connecting(url),
    }


def _connecting(url: str) -> dict[str, Any]:
    """Return a connection's parameters: ours, unless the URL says otherwise; options add up."""
    given = {name: value for name, value in sa.make_url(url).query.items() if name in _CONNECT}
    if "options" in given:
        given["options"] = f"{_CONNECT['options']} {given['options']}"
    return _CONNECT | given


class PostgreSQL:
    """A database of a PostgreSQL server."""

    KINDS = KINDS
    SEARCHES = SEARCHES
    error: type[Exception] = psycopg.Error

    def __init__(self, app: Flask, engine: sa.Engine) -> None:
        self._engine = engine
        sa.event.listen(engine, "begin", lambda begun: _set(begun.connection.dbapi_connection))

    def take(self) -> Connection:
        """Return a connection of the pool."""
        pooled = self._engine.raw_connection()
        return Connection(pooled.dbapi_connection, self._engine.dialect, pooled)

    def give_back(self, connection: Connection) -> None:
        """Return a connection to the pool, unless it is of no more use."""
        if connection.raw.closed:
            connection.pooled.invalidate()
        connection.pooled.close()

    def begin(self, connection: Connection, is_snapshot: bool) -> None:
        """Let the driver begin with the first statement; one SELECT alone needs no transaction."""
        _set(connection.raw, is_snapshot, autocommit=not is_snapshot)

    def write(
        self, connection: Connection, change: Change, seconds: float | None
    ) -> tuple[Any, Any, bool]:
        """Store a change; return its result, its error, and whether the commit failed."""
        _set(connection.raw)
        at_commit = False
        try:
            result = change(connection)
            at_commit = True
            connection.raw.commit()
        except Exception as error:
            return None, error, at_commit
        return result, None, False

    @contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """Yield a connection for an upgrade that no other runs beside; whole or not at all."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
            if connection.exec_driver_sql("SHOW server_encoding").scalar() != "UTF8":
                raise SystemExit("The database needs the encoding UTF8.")
            yield connection

    @contextmanager
    def searching(self, connection: Connection, seconds: float) -> Iterator[None]:
        """Stop each statement inside after some seconds. Raises ApiError 400 for `q`."""
        connection.change(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}")
        try:
            yield
        except psycopg.errors.QueryCanceled as error:
            raise search_too_broad() from error
        connection.change("SET LOCAL statement_timeout TO DEFAULT")

    def name_of(self, error: BaseException) -> str:
        """Return the SQLSTATE of an error, as KINDS has it."""
        return _name_of(error)

    def health(self) -> dict[str, bool]:
        """Return nothing: the server has answered for the schema."""
        return {}

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._engine.dispose()


def _set(raw: Any, is_snapshot: bool = False, autocommit: bool = False) -> None:
    """Set how a connection begins; db.session and write() have the same transactions."""
    raw.autocommit = autocommit
    raw.read_only = is_snapshot or None
    raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if is_snapshot else None


def _name_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of an error; one without is a connection that was lost or never came."""
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return str(getattr(error, "sqlstate", None) or (lost and _NO_CONNECTION) or "")


def look_up(url: str, query: str) -> Any:
    """Return one value of a database that no engine holds, or None where it has no such table.

    Raises SystemExit with one line when the server does not answer.
    """
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=_connecting(url))
        with engine.connect() as connection:
            return connection.exec_driver_sql(query).scalar()
    except sa.exc.DBAPIError as error:
        if _name_of(error.orig) == _NO_TABLE:
            return None
        cause = str(error.orig).strip().partition("\n")[0]
        shown = sa.make_url(url).set(query={})  # there may be a password in it, too
        sys.exit(f"The database {shown!r} cannot be read: {cause}")
