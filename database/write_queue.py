"""The turn to write on SQLite, and the commits that waiting calls of write() share.

SQLite lets one writer in at a time and makes the others poll. Here they queue: a lock between the
threads of a process, a file lock between processes.
"""

import fcntl
import logging
import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from time import monotonic
from typing import Any

from database.connection import Connection
from rules.refusals import busy, unavailable

log = logging.getLogger("threads")
LOOK_AGAIN_SECONDS = 0.1
Change = Callable[[Connection], Any]
"""What a write does, given a connection."""


class Turn:
    """One writer at a time, across threads and processes.

    A process that releases the file lock writes a byte to a pipe, for which the others wait. The
    kernel drops the lock of a killed process; for that alone a wait looks again now and then.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._owner = 0
        self._file = self._pipe = -1
        self._released = select.poll()

    @contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Hold the turn. Raises ApiError 503 when it does not come within some seconds."""
        self.acquire(seconds)
        try:
            yield
        finally:
            self.release()

    def acquire(self, seconds: float) -> None:
        """Take the turn. Raises ApiError 503, and RuntimeError in the thread that has it."""
        self.refuse_owner()
        deadline = monotonic() + seconds
        if not self._lock.acquire(timeout=max(0, seconds)):
            raise busy()
        try:
            self._lock_file(deadline)
        except BaseException:
            self._lock.release()
            raise
        self._owner = threading.get_ident()

    def refuse_owner(self) -> None:
        """Raise RuntimeError in the thread that has the turn: it would wait for itself."""
        if self._owner == threading.get_ident():
            raise RuntimeError("This thread writes already: commit db.session, or use one write().")

    def release(self) -> None:
        """Give the turn to the next."""
        self._owner = 0
        fcntl.flock(self._file, fcntl.LOCK_UN)
        with suppress(BlockingIOError):
            os.write(self._pipe, b"!")
        self._lock.release()

    def _lock_file(self, deadline: float) -> None:
        if self._file < 0:
            self._open()
        while not self._try_file():
            seconds = deadline - monotonic()
            if seconds <= 0:
                raise busy()
            if self._released.poll(min(seconds, LOOK_AGAIN_SECONDS) * 1000):
                with suppress(BlockingIOError):
                    os.read(self._pipe, 4096)

    def _try_file(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _open(self) -> None:
        pipe = f"{self._path}-pipe"
        try:
            with suppress(FileExistsError):
                os.mkfifo(pipe, 0o600)
            self._pipe = self._keep_open(pipe, os.O_RDWR | os.O_NONBLOCK)
            self._file = self._keep_open(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            log.error("database error: %s", error)
            raise unavailable() from error
        self._released.register(self._pipe, select.POLLIN)

    def _keep_open(self, path: str, flags: int) -> int:
        handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, handle)
        return handle


class Write:
    """One call of write() and how it ended: `result`, or `error` and whether the commit failed.

    Another thread may run it, in the context of its caller: Flask's `request` is the caller's.
    """

    def __init__(self, change: Change) -> None:
        self._change = change
        self._context = copy_context()
        self._signal = threading.Lock()
        self._signal.acquire()
        self.result: Any = None
        self.error: BaseException | None = None
        self.at_commit = self.is_stored = self.has_ended = False

    def run(self, connection: Connection) -> None:
        """Run the change, uncommitted."""
        try:
            self.result = self._context.run(self._change, connection)
        except Exception as error:
            self.error = error

    def end(self) -> None:
        """Say that it is stored or has failed."""
        if not self.is_stored and self.error is None:
            self.error = RuntimeError("The thread that stored this write was interrupted.")
        self.has_ended = True
        self.signal()

    def signal(self) -> None:
        """Let the thread that waits for this write look."""
        with suppress(RuntimeError):  # it has a signal already
            self._signal.release()

    def wait(self, seconds: float = -1) -> bool:
        """Wait for a signal, for ever or some seconds; return whether it came."""
        return self._signal.acquire(timeout=seconds)


class SharedCommits:
    """The writes of a process that wait; the thread that has the turn stores them in one commit.

    Each write is whole or leaves nothing, whatever becomes of the others.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._waiting: deque[Write] = deque()
        self._leading = threading.Lock()

    def store(self, connection: Connection, change: Change, seconds: float) -> Write:
        """Store a change, with those that wait beside it; return how it ended.

        Raises ApiError 503 when the turn does not come within some seconds; it is not stored then.
        """
        self._turn.refuse_owner()
        write, deadline = Write(change), monotonic() + seconds
        self._waiting.append(write)
        while not write.has_ended:
            rest = max(0, deadline - monotonic())
            if self._leading.acquire(blocking=False):
                self._lead(connection, write, rest)
            elif not write.wait(rest):
                self._withdraw(write)
        return write

    def _withdraw(self, write: Write) -> None:
        try:
            self._waiting.remove(write)
        except ValueError:
            write.wait()  # a leader has it: only its end says whether it is stored
        else:
            self._signal_next()  # the signal to lead may just have come
            raise busy()

    def _signal_next(self) -> None:
        with suppress(IndexError):
            self._waiting[0].signal()

    def _lead(self, connection: Connection, own: Write, seconds: float) -> None:
        writes: list[Write] = []
        try:
            if not own.has_ended:
                with self._turn.hold(seconds):
                    with suppress(IndexError):  # a write may be withdrawn at any moment
                        while True:
                            writes.append(self._waiting.popleft())
                    _store(connection, writes)
        finally:
            with suppress(ValueError):
                self._waiting.remove(own)
            for write in writes:
                write.end()
            self._leading.release()
            self._signal_next()


def _store(connection: Connection, writes: list[Write]) -> None:
    try:
        connection.change("BEGIN IMMEDIATE")
        for write in writes:
            _run(connection, write, is_alone=len(writes) == 1)
        _commit(connection, [write for write in writes if write.error is None])
    except Exception as error:
        for write in writes:
            write.error = write.error or error
    finally:
        connection.raw.rollback()


def _run(connection: Connection, write: Write, is_alone: bool) -> None:
    """Run a write so that it leaves nothing behind when it fails; the others go on.

    Raises its error where SQLite gave up the whole transaction (disk full, I/O error).
    """
    if is_alone:
        return write.run(connection)
    connection.change("SAVEPOINT write")
    write.run(connection)
    if write.error is not None:
        if not connection.raw.in_transaction:
            raise write.error
        connection.change("ROLLBACK TO write")


def _commit(connection: Connection, writes: list[Write]) -> None:
    try:
        if writes:
            connection.raw.commit()
    except Exception as error:
        for write in writes:
            write.error, write.at_commit = error, True
    else:
        for write in writes:
            write.is_stored = True
