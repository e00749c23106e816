"""PostgreSQL: several writers at once, which lock rows instead of the file (docs/postgres.md)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from flask import Flask

from database.connection import Connection
from database.write_queue import Change, Ending
from rules.refusals import busy, disk_full, search_too_broad, unavailable

try:
    import psycopg
except ImportError:
    sys.exit("PostgreSQL needs psycopg: .venv/bin/pip install -r requirements-postgres.txt")

_UPGRADE_LOCK = 0x54485244
_OPTIONS = (
    "-c statement_timeout=30s -c lock_timeout=3s -c idle_in_transaction_session_timeout=60s"
    " -c client_min_messages=warning -c jit=off"
)
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_CONNECT = {"connect_timeout": 3, "tcp_user_timeout": 10_000, "options": _OPTIONS} | _KEEPALIVES
_NO_TABLE, _NO_CONNECTION = "42P01", "08000"

REFUSALS = {
    "40": busy,  # serialization failure, deadlock
    "55P03": busy,  # lock_timeout
    "57014": busy,  # statement_timeout
    "23505": busy,  # another transaction stored the same id first: a second try is right
    "53100": disk_full,
} | dict.fromkeys(("08", "25006", "28", "3D", "53", "57P"), unavailable)  # 25006: a standby


def options(url: str, threads: int) -> dict[str, Any]:
    """Return the engine's options. With pre_ping no request fails after a restart of the server."""
    pool = {"pool_size": threads, "max_overflow": 0, "pool_timeout": 5, "pool_use_lifo": True}
    return pool | {"pool_pre_ping": True, "connect_args": _connecting(url)}


def _connecting(url: str) -> dict[str, Any]:
    """Return a connection's parameters. Those in the URL win, but its options are added to ours."""
    own = {name: value for name, value in sa.make_url(url).query.items() if name in _CONNECT}
    if "options" in own:
        own["options"] = f"{_OPTIONS} {own['options']}"
    return _CONNECT | own


def _name_of(error: BaseException | None) -> str:
    """Return an error's SQLSTATE; the driver has none for a connection that fails or is lost."""
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return str(getattr(error, "sqlstate", None) or (lost and _NO_CONNECTION) or "")


class PostgreSQL:
    """A database of a PostgreSQL server."""

    REFUSALS = REFUSALS
    FOLDS_TEXT = True
    name_of = staticmethod(_name_of)
    error: type[Exception] = psycopg.Error

    def __init__(self, app: Flask, engine: sa.Engine) -> None:
        self._engine = engine
        sa.event.listen(engine, "begin", lambda begun: _set(begun.connection.dbapi_connection))

    def take(self) -> Connection:
        """Return a connection of the pool."""
        pooled = self._engine.raw_connection()
        return Connection(pooled.dbapi_connection, self._engine.dialect, pooled)

    def give_back(self, connection: Connection) -> None:
        """Return a connection to the pool, unless it is closed."""
        if connection.raw.closed:
            connection.pooled.invalidate()
        connection.pooled.close()

    def begin(self, connection: Connection, is_snapshot: bool) -> None:
        """Let the first statement begin a snapshot. One SELECT alone needs no transaction."""
        _set(connection.raw, is_snapshot, autocommit=not is_snapshot)

    def write(self, change: Change, seconds: float | None) -> Ending:
        """Store a change; return how that ended."""
        connection, at_commit = None, False
        try:
            connection = self.take()
            _set(connection.raw)
            result = change(connection)
            at_commit = True
            connection.raw.commit()
        except Exception as error:
            return None, error, at_commit
        finally:
            if connection:
                self.give_back(connection)
        return result, None, False

    @contextmanager
    def upgrading(self) -> Iterator[sa.Connection]:
        """Yield a connection for an upgrade, in one transaction and one upgrade at a time."""
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

    def health(self) -> dict[str, bool]:
        """Return no checks: the check of the schema shows that the server answers."""
        return {}

    def close(self) -> None:
        """Close the idle connections."""
        self._engine.dispose()


def _set(raw: Any, is_snapshot: bool = False, autocommit: bool = False) -> None:
    """Set how a connection begins a transaction."""
    raw.autocommit = autocommit
    raw.read_only = is_snapshot or None
    raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if is_snapshot else None


def look_up(url: str, query: str) -> Any:
    """Return one value, None when the table is missing; no engine. Raises SystemExit."""
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
