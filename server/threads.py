"""The threads of a worker: few work at once, and those that wait do not count."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


class Threads(Executor):
    """Runs jobs. A job that waits in `database.waits.waiting()` makes room for another thread."""

    def __init__(self, at_work: int, most: int) -> None:
        """`at_work` bounds the threads that do not wait, `most` all of them."""
        self._at_work, self._most = at_work, most
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = self._busy = self._waiting = 0

    def are_idle(self) -> bool:
        """Return whether no job waits, and no thread but the current one works."""
        return self._jobs.empty() and self._busy - self._waiting <= 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Run a function in one of the threads."""
        future: Future[Any] = Future()
        self._jobs.put((future, fn, args))
        with self._lock:
            self._grow()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after their jobs. Nothing waits for those that wait for clients."""
        for _ in range(self._count):
            self._jobs.put(None)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait: meanwhile another thread may work."""
        with self._lock:
            self._waiting += 1
            if not self._jobs.empty():
                self._grow()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def work(self) -> None:
        """Run jobs, as long as this thread is needed."""
        while job := self._jobs.get():
            with self._lock:
                self._busy += 1
            _run(*job)
            del job  # an idle thread keeps nothing of its last job
            if self._shrink():
                break

    def _grow(self) -> None:
        if self._count - self._waiting < self._at_work and self._count < self._most:
            self._count += 1
            _Thread(self).start()

    def _shrink(self) -> bool:
        with self._lock:
            self._busy -= 1
            is_needed = self._count - self._waiting <= self._at_work
            self._count -= not is_needed
        return not is_needed


def _run(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        future.set_result(fn(*args))
    except BaseException as error:
        future.set_exception(error)


class _Thread(threading.Thread):
    def __init__(self, threads: Threads) -> None:
        super().__init__(target=threads.work, daemon=True)
        self.waiting = threads.waiting
