"""Waits of a thread. Those of gunicorn's threads let others work meanwhile (server/threads.py)."""

import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Any

from rules.refusals import busy

PLACE_SECONDS = 10


def waiting() -> AbstractContextManager[Any]:
    """Return the context in which the current thread waits."""
    return getattr(threading.current_thread(), "waiting", nullcontext)()


class Places:
    """A number of places, each for one thread at a time: a quicker semaphore."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self.give_back()

    def take(self) -> None:
        """Take a place. Raises ApiError 503 when none is free within PLACE_SECONDS."""
        with suppress(Empty):
            return self._free.get_nowait()
        with waiting(), suppress(Empty):
            return self._free.get(timeout=PLACE_SECONDS)
        raise busy()

    def give_back(self) -> None:
        """Free a place."""
        self._free.put(None)
