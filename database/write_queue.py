"""The turn to write on SQLite, and the commits that several calls of write() share."""

import fcntl
import logging
import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import copy_context
from time import monotonic
from typing import Any

from database.connection import Connection
from database.waits import waiting
from rules.refusals import busy, unavailable

log = logging.getLogger("threads")
LOOK_AGAIN_SECONDS = 0.1
SHORT_SECONDS = 0.05
"""A longer wait lets another thread work."""
Change = Callable[[Connection], Any]
Ending = tuple[Any, BaseException | None, bool]
"""The result of a change, its error, and whether the commit failed."""


class Turn:
    """One writer at a time: a lock between threads, and a file lock between processes.

    A process that releases the file lock writes a byte to a pipe, and wakes the others. A killed
    process writes none, so the others also look again every LOOK_AGAIN_SECONDS.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._owner = 0
        self._file = self._pipe = -1
        self._released = select.poll()

    @contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Hold the turn. Raises ApiError 503 when it does not come within `seconds`."""
        self.acquire(seconds)
        try:
            yield
        finally:
            self.release()

    def acquire(self, seconds: float) -> None:
        """Take the turn. Raises ApiError 503, and RuntimeError in a thread that has it already."""
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
        """Give the turn to the next writer."""
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
    """One call of write() and its end: a result, or an error and whether the commit failed."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._context = copy_context()  # another thread may run it, with the caller's request
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
        """Mark it as ended, stored or not."""
        if not self.is_stored and self.error is None:
            self.error = RuntimeError("The thread that stored this write was interrupted.")
        self.has_ended = True
        self.signal()

    def signal(self) -> None:
        """Wake the thread that waits for this write."""
        with suppress(RuntimeError):  # it has a signal already
            self._signal.release()

    def wait(self, seconds: float = -1) -> bool:
        """Wait for a signal, without end or for some seconds; return whether it came."""
        at_first = SHORT_SECONDS if seconds < 0 else min(SHORT_SECONDS, seconds)
        if self._signal.acquire(timeout=at_first):
            return True
        with waiting():
            return self._signal.acquire(timeout=seconds if seconds < 0 else seconds - at_first)


class SharedCommits:
    """The waiting writes of a process. The thread with the turn stores them in one commit."""

    def __init__(self, turn: Turn, connection: Callable[[], AbstractContextManager[Any]]) -> None:
        """`connection` lends the connection to write on."""
        self._turn = turn
        self._connection = connection
        self._waiting: deque[Write] = deque()
        self._leading = threading.Lock()

    def store(self, change: Change, seconds: float) -> Write:
        """Store a change and the other waiting ones; return its Write. Raises ApiError 503."""
        self._turn.refuse_owner()
        write, deadline = Write(change), monotonic() + seconds
        self._waiting.append(write)
        while not write.has_ended:
            rest = max(0, deadline - monotonic())
            if self._leading.acquire(blocking=False):
                self._lead(write, rest)
            elif not write.wait(rest):
                self._withdraw(write)
        return write

    def _withdraw(self, write: Write) -> None:
        try:
            self._waiting.remove(write)
        except ValueError:
            write.wait()  # a leader has it, and knows at the end whether it is stored
        else:
            self._signal_next()  # the signal to lead may just have come
            raise busy()

    def _signal_next(self) -> None:
        with suppress(IndexError):
            self._waiting[0].signal()

    def _lead(self, own: Write, seconds: float) -> None:
        writes: list[Write] = []
        try:
            if not own.has_ended:
                with self._turn.hold(seconds):
                    with suppress(IndexError):  # a write may be withdrawn at any moment
                        while True:
                            writes.append(self._waiting.popleft())
                    self._store(writes)
        finally:
            with suppress(ValueError):
                self._waiting.remove(own)
            for write in writes:
                write.end()
            self._leading.release()
            self._signal_next()

    def _store(self, writes: list[Write]) -> None:
        try:
            with self._connection() as connection:
                connection.change("BEGIN IMMEDIATE")
                for write in writes:
                    _run(connection, write, is_first=write is writes[0])
                _commit(connection, [write for write in writes if write.error is None])
        except Exception as error:
            for write in writes:
                write.error = write.error or error


def _run(connection: Connection, write: Write, is_first: bool) -> None:
    """Run a write; undo it alone when it fails. Raises when SQLite undid the whole transaction."""
    if not is_first:
        connection.change("SAVEPOINT write")
    write.run(connection)
    if write.error is None:
        return
    if not connection.raw.in_transaction:
        raise write.error
    if is_first:
        connection.raw.rollback()
        connection.change("BEGIN IMMEDIATE")
    else:
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
