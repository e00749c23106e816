"""Writes that wait for the same turn share a commit; each has an end of its own."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import until
from sqlalchemy.dialects import sqlite

from database import Connection
from database.write_queue import SharedCommits, Write
from rules.errors import ApiError
from rules.refusals import busy

CLIENTS = 6
TABLES = """
    CREATE TABLE parents (id INTEGER PRIMARY KEY);
    CREATE TABLE children (
        id INTEGER PRIMARY KEY,
        parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED
    );
"""


class Threads:
    """Threads that write, and a turn that the test holds back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.shared = SharedCommits(self, self.lent)  # type: ignore[arg-type]
        self.commits: list[str] = []
        self.pool = ThreadPoolExecutor(CLIENTS)
        with sqlite3.connect(path) as raw:
            raw.executescript(TABLES)

    @contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        if not self.lock.acquire(timeout=seconds):
            raise busy()
        try:
            yield
        finally:
            self.lock.release()

    def store(self, *statements: str, seconds: float = 10) -> Future[Write]:
        """Store a change in a thread of its own."""
        return self.pool.submit(self._store, statements, seconds)

    def _store(self, statements: tuple[str, ...], seconds: float) -> Write:
        def change(connection: Connection) -> list[Any]:
            return [run(connection, sql) for sql in statements]

        return self.shared.store(change, seconds)

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """Lend the connection of the one writer, new each time."""
        raw = sqlite3.connect(self.path, isolation_level=None)
        raw.execute("PRAGMA foreign_keys=ON")
        raw.set_trace_callback(lambda sql: sql == "COMMIT" and self.commits.append(sql))
        try:
            yield Connection(raw, sqlite.dialect())
        finally:
            raw.close()

    def refuse_owner(self) -> None:
        """No thread of these tests writes while it writes."""

    def held_back(self, *changes: Callable[[], Future[Write]]) -> list[Future[Write]]:
        """Start changes while the turn is taken; release it when all wait. The first one leads."""
        started: list[Future[Write]] = []
        with self.lock:
            for change in changes:
                started.append(change())
                assert until(
                    lambda: self.shared._leading.locked() and self.waiting() == len(started)
                )
        return started

    def waiting(self) -> int:
        return len(self.shared._waiting)

    def stored(self) -> list[int]:
        with sqlite3.connect(self.path) as raw:
            return [row[0] for row in raw.execute("SELECT id FROM parents ORDER BY id")]


def run(connection: Connection, statement: str) -> None:
    if statement == "interrupt":
        raise SystemExit
    connection.change(statement)


@pytest.fixture
def threads(tmp_path: Path) -> Iterator[Threads]:
    threads = Threads(tmp_path / "group.db")
    with threads.pool:
        yield threads


def insert(number: int) -> str:
    return f"INSERT INTO parents VALUES ({number})"


def errors_of(changes: list[Future[Write]]) -> list[Any]:
    return [change.result().error for change in changes]


def test_changes_that_wait_are_stored_by_one_commit(threads: Threads) -> None:
    changes = threads.held_back(*(lambda n=n: threads.store(insert(n)) for n in range(CLIENTS)))
    assert errors_of(changes) == [None] * CLIENTS
    assert threads.stored() == list(range(CLIENTS))
    assert len(threads.commits) == 1


def test_a_change_that_fails_leaves_nothing_and_the_others_stored(threads: Threads) -> None:
    threads.store(insert(7)).result()
    changes = threads.held_back(
        lambda: threads.store(insert(1)),
        lambda: threads.store(insert(2), insert(7)),
        lambda: threads.store(insert(7)),
        lambda: threads.store(insert(3), insert(4)),
    )
    first, several, single, last = errors_of(changes)
    assert (first, last) == (None, None)
    assert isinstance(several, sqlite3.IntegrityError)
    assert isinstance(single, sqlite3.IntegrityError)
    assert threads.stored() == [1, 3, 4, 7]


def test_a_commit_that_fails_is_an_error_for_every_change_in_it(threads: Threads) -> None:
    changes = threads.held_back(
        lambda: threads.store(insert(1)),
        lambda: threads.store("INSERT INTO children VALUES (1, 99)"),
    )
    assert [type(error) for error in errors_of(changes)] == [sqlite3.IntegrityError] * 2
    assert all(change.result().at_commit for change in changes)
    assert threads.stored() == []


def test_a_transaction_that_sqlite_gave_up_fails_for_all(threads: Threads) -> None:
    """INSERT OR ROLLBACK stands for a full disk, at which SQLite does the same."""
    threads.store(insert(7)).result()
    changes = threads.held_back(
        lambda: threads.store(insert(1)),
        lambda: threads.store("INSERT OR ROLLBACK INTO parents VALUES (7)"),
        lambda: threads.store(insert(2)),
    )
    assert [type(error) for error in errors_of(changes)] == [sqlite3.IntegrityError] * 3
    assert not any(change.result().at_commit for change in changes)
    assert threads.stored() == [7]


def test_a_change_refused_as_busy_is_never_stored(threads: Threads) -> None:
    with threads.lock:
        patient = threads.store(insert(1))
        assert until(lambda: threads.waiting() == 1)
        hasty = [threads.store(insert(n), seconds=0.1) for n in (2, 3)]
        for change in hasty:
            with pytest.raises(ApiError, match="busy"):
                change.result()
    assert patient.result().error is None
    assert threads.stored() == [1]


def test_when_the_leader_gives_up_another_leads(threads: Threads) -> None:
    with threads.lock:
        hasty = threads.store(insert(1), seconds=1)
        assert until(lambda: threads.waiting() == 1)
        patient = threads.store(insert(2))
        with pytest.raises(ApiError, match="busy"):
            hasty.result()
    assert patient.result().error is None
    assert threads.stored() == [2]


def test_a_change_that_failed_by_itself_keeps_its_own_error(threads: Threads) -> None:
    threads.store(insert(7)).result()
    changes = threads.held_back(
        lambda: threads.store(insert(7)),
        lambda: threads.store("INSERT OR ROLLBACK INTO parents VALUES (7)"),
    )
    first, second = errors_of(changes)
    assert first is not second


def test_an_interrupted_leader_stores_nothing_and_all_get_an_error(threads: Threads) -> None:
    changes = threads.held_back(
        lambda: threads.store("PRAGMA user_version", "interrupt"),
        lambda: threads.store(insert(1)),
        lambda: threads.store(insert(2)),
    )
    with pytest.raises(SystemExit):
        changes[0].result()
    assert [type(error) for error in errors_of(changes[1:])] == [RuntimeError] * 2
    assert threads.stored() == []


def test_many_threads_lose_nothing(threads: Threads) -> None:
    numbers = range(300)
    changes = [threads.store(insert(number)) for number in numbers]
    assert errors_of(changes) == [None] * len(numbers)
    assert threads.stored() == list(numbers)
    assert len(threads.commits) < len(numbers)
