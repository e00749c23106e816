"""A stream: the events of a run on their way from its player to one reader (Server-Sent Events)."""

from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue

import orjson

from database.waits import waiting
from players.events import Event

QUIET_SECONDS = 15
"""A stream without an event for so long gets a comment, so that no proxy ends it."""
_LAST = tuple(
    f"thread.run.{status}"
    for status in ("requires_action", "completed", "incomplete", "failed", "cancelled", "expired")
)
_COMMENT = b": the run goes on\n\n"
_DONE = b"event: done\ndata: [DONE]\n\n"
_CUT_SHORT = {
    "message": "The server cannot go on with this stream. Retrieve the run: it may be queued.",
    "type": "server_error",
    "param": None,
    "code": None,
}


class Stream:
    """The events of one run, until it ends or waits for outputs."""

    def __init__(self) -> None:
        self._events: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        self._is_read, self._has_ended = True, False

    def tell(self, events: Iterable[Event]) -> None:
        """Add events as they are now: the objects may grow. Nothing happens without a reader."""
        if self._is_read:
            for name, data in events:
                self._has_ended = self._has_ended or name in _LAST
                self._events.put((name, orjson.dumps(data)))

    def cut_short(self) -> None:
        """End the stream with an error, unless it has ended."""
        if not self._has_ended:
            self.tell([("error", {"error": _CUT_SHORT})])

    def read(self) -> Iterator[bytes]:
        """Yield the events as they come, as bytes."""
        name = ""
        try:
            while name not in (*_LAST, "error"):
                name, data = self._next()
                yield b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name else _COMMENT
            if name != "error":
                yield _DONE
        finally:
            self._is_read = False

    def _next(self) -> tuple[str, bytes]:
        """Return the name and data of the next event; both are empty if none comes for long."""
        try:
            with waiting():
                return self._events.get(timeout=QUIET_SECONDS)
        except Empty:
            return "", b""
