"""The floor: the same statements through SQLite alone, without HTTP, Flask or SQLAlchemy."""

import time
from pathlib import Path

from benchmarks import data
from database import sqlite

_PRAGMAS = ("busy_timeout=3000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
_READ = "SELECT id, created_at, metadata, tool_resources FROM threads WHERE project = ? AND id = ?"
_WRITE = (
    "INSERT INTO threads (project, id, created_at, metadata, tool_resources)"
    " VALUES ('default', ?, 1700000000, '{\"user\":\"u1\"}', '{}')"
)


def measure(path: Path, count: int) -> dict[str, float]:
    """Return the CPU microseconds and the rate of one read and of one durable write."""
    if not path.exists():
        data.fill(f"sqlite:///{path}", 1_000)
    connection = sqlite.dbapi.connect(path, isolation_level=None)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    found = {}
    for name, step in (("read", _read), ("write", _write)):
        cpu, clock = time.process_time(), time.perf_counter()
        for number in range(count):
            step(connection, number)
        found[f"{name} cpu"] = (time.process_time() - cpu) / count * 1e6
        found[f"{name} rate"] = count / (time.perf_counter() - clock)
    connection.close()
    return found


def _read(connection: sqlite.dbapi.Connection, number: int) -> None:
    connection.execute(_READ, ("default", f"thread_{number % 1_000:024d}")).fetchone()


def _write(connection: sqlite.dbapi.Connection, number: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_WRITE, (f"thread_floor{time.perf_counter_ns()}{number}",))
    connection.execute("COMMIT")
