"""Starts gunicorn as a fork of a process that has imported what it needs.

Imports are most of what a start costs, and the tests start hundreds of servers.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, TextIO

ROOT = Path(__file__).parent.parent
LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None
SET_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36
"""Options of prctl(2)."""
REQUEST_BYTES = 100_000
IMPORTED = ("gunicorn.app.wsgiapp", "server.hooks", "server.worker", "schemas")
IMPORTED += ("flask_wtf", "flask_cors", "markdown_it", "apispec")
"""All that is slow and looks at no setting: web.metrics does, as it is imported."""


def of_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are read before a program begins."""
    return {key: environment[key] for key in environment if key.startswith(("LD_", "PYTHON"))}


OWN = of_interpreter(os.environ)


def end_with_parent() -> None:
    """Let this process be killed when its parent ends, however that ends."""
    if LIBRARY:
        LIBRARY.prctl(SET_DEATH_SIGNAL, signal.SIGKILL)


class Fork:
    """A gunicorn that a fork server started; it offers what `subprocess.Popen` does."""

    def __init__(self, pid: int, stdout: TextIO) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                select.select([descriptor], [], [], timeout)
            finally:
                os.close(descriptor)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("gunicorn", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The fork server of a process of the tests; it begins with its first start."""

    def __init__(self) -> None:
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def start(self, command: list[str], environment: dict[str, str], stderr: TextIO) -> Fork:
        """Start gunicorn in the project's folder, as the leader of a session of its own."""
        request = json.dumps({"command": command, "environment": environment}).encode()
        reading, writing = os.pipe()
        with self._lock, _adoption():
            requests = self._requests or self._open()
            socket.send_fds(requests, [request], [writing, stderr.fileno()])
            pid = int(requests.recv(REQUEST_BYTES))
            requests.recv(REQUEST_BYTES)  # it is a child of this process now
        os.close(writing)
        return Fork(pid, os.fdopen(reading))

    def close(self) -> None:
        if self._requests and self._process:
            self._requests.close()
            self._process.wait()

    def _open(self) -> socket.socket:
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(other.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        self._requests = own
        return own


@contextmanager
def _adoption() -> Iterator[None]:
    """Make this process the parent of its descendants whose own parents end."""
    assert LIBRARY
    LIBRARY.prctl(SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        LIBRARY.prctl(SET_CHILD_SUBREAPER, 0)


def main(requests: socket.socket) -> None:
    """Import what a server imports, then start one for each request until the tests end."""
    sys.path[0] = str(ROOT)
    gc.disable()
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    gc.enable()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 2)
        if not request:
            return
        is_adopted, adopted = os.pipe()
        if middle := os.fork():
            os.waitpid(middle, 0)
            os.write(adopted, b"1")
            requests.send(b"adopted")
        else:
            _start(requests, json.loads(request), descriptors, is_adopted)
        for descriptor in (*descriptors, is_adopted, adopted):
            os.close(descriptor)


def _start(
    requests: socket.socket, request: dict[str, Any], descriptors: list[int], is_adopted: int
) -> NoReturn:
    """Become gunicorn in a fork whose own parent ends at once: the tests adopt it."""
    if pid := os.fork():
        requests.send(str(pid).encode())
        os._exit(0)
    os.read(is_adopted, 1)
    end_with_parent()
    os.setsid()
    for descriptor, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, standard)
    os.closerange(3, 100)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["command"]
    from gunicorn.app.wsgiapp import run

    sys.exit(run())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
