"""The log on stderr. It never blocks: lines that nobody reads are dropped, and counted."""

import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from threading import RLock

import orjson

_STDERR = 2


class LogStream:
    """Writes whole lines to stderr while there is room for them."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rest = b""  # of a line that is written in part
        self._dropped = 0

    def write(self, line: str | bytes) -> None:
        """Write a line, or drop it. Raises OSError when the log cannot be written."""
        data = line.encode() if isinstance(line, str) else line
        if self._rest or self._dropped:
            return self._catch_up(data)
        try:
            written = self._put(data)
        except BlockingIOError:
            self._dropped += 1
        else:
            self._rest = data[written:]

    def flush(self) -> None:
        """Do nothing: each line is written at once."""

    def _catch_up(self, data: bytes) -> None:
        with self._lock:
            try:
                data = self._rest + self._notice() + data
                self._rest = data[self._put(data) :]
                self._dropped = 0
            except BlockingIOError:
                self._dropped += 1

    @cached_property
    def _put(self) -> Callable[[bytes], int]:
        return _without_waiting()

    def _notice(self) -> bytes:
        if not self._dropped:
            return b""
        message = f"{self._dropped} lines are missing here: nobody read this log"
        return orjson.dumps({"level": "warning", "message": message}) + b"\n"


def _without_waiting() -> Callable[[bytes], int]:
    """Return a function that writes to stderr what there is room for.

    O_NONBLOCK on stderr itself would hold for every program that shares it.
    """
    mode = os.fstat(_STDERR).st_mode
    if stat.S_ISREG(mode):
        return partial(os.write, _STDERR)
    with suppress(OSError):
        if stat.S_ISSOCK(mode):  # systemd's journal
            client = socket.socket(fileno=os.dup(_STDERR))
            return lambda data: client.send(data, socket.MSG_DONTWAIT)
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return partial(os.write, os.open(f"/dev/fd/{_STDERR}", flags))
    return partial(_write_if_room, RLock())  # stderr is another user's


def _write_if_room(lock: RLock, data: bytes) -> int:
    """Write a beginning of some bytes. A pipe that is ready has room for PIPE_BUF bytes."""
    with lock:
        if not select.select([], [_STDERR], [], 0)[1]:
            raise BlockingIOError
        return os.write(_STDERR, data[: select.PIPE_BUF])


stream = LogStream()
"""The one log of a process."""
