"""gunicorn's threaded worker, with limits on how long a client may keep a thread waiting."""

import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from time import monotonic, sleep
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from rules import refusals
from rules.errors import ApiError
from web.error_answers import envelope
from web.request import new_request_id

READ_SECONDS, SEND_SECONDS = 30, 60
"""How long all waits for one request, and for the client to take its answer, may last."""
READ_STALL_SECONDS, SEND_STALL_SECONDS = 5, 10
"""How long one wait may last; the kernel ends it."""
STOP_READ_SECONDS, STOP_SEND_SECONDS = 2, 5
"""How long one wait may last in a worker that stops."""
LINGER_SECONDS = 1
_LINGER_BYTES = 64 << 10
_LOOK_SECONDS = 0.2
_SLOW_REQUEST = "A client sent its request too slowly; its connection was closed"
_SLOW_READER = "A client took its answer too slowly; its connection was closed"
_STATUSES = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.UnsupportedTransferCoding: 501,
}


class ClientSocket(socket.socket):
    """A client's connection, which adds up how long the client keeps it waiting."""

    def __init__(
        self, plain: socket.socket, waits: dict["ClientSocket", tuple[float, int]]
    ) -> None:
        """Take over a socket. `waits` holds the sockets that wait: since when, and for how long
        a worker that stops lets them."""
        super().__init__(fileno=plain.detach())
        self._waits = waits
        self.begin()

    def begin(self) -> None:
        """Begin to wait for a request."""
        self.request: Any = None
        self._has_ended = False
        self._read_left, self._send_left = float(READ_SECONDS), float(SEND_SECONDS)
        self._waits[self] = monotonic(), STOP_READ_SECONDS

    def end(self) -> None:
        """Wait no more."""
        self._waits.pop(self, None)

    def linger(self) -> None:
        """Send no more, and drop what the client still sends: else it could lose the answer."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_WR)
            self.settimeout(LINGER_SECONDS)
            deadline = monotonic() + LINGER_SECONDS
            while super().recv(_LINGER_BYTES) and monotonic() < deadline:
                pass
        self._has_ended = True

    def close_after_answer(self) -> None:
        """Say `Connection: close` in the answer of this request."""
        if self.request:
            self.request.force_close()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive bytes. Raises TimeoutError when the request comes too slowly."""
        if flags:
            return super().recv(size, flags)
        if self._has_ended:  # gunicorn lingers again, in its only accepting thread
            return b""
        began = monotonic()
        self._waits[self] = began, STOP_READ_SECONDS
        try:
            data = super().recv(size)
        except BlockingIOError as error:
            raise TimeoutError(_SLOW_REQUEST) from error
        finally:
            self.end()
        self._read_left -= monotonic() - began
        if self._read_left < 0:
            raise TimeoutError(_SLOW_REQUEST)
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send bytes. Raises TimeoutError when the client takes its answer too slowly."""
        left = memoryview(data)
        while left:
            left = left[self._send_some(left) :]

    def _send_some(self, data: memoryview) -> int:
        began = monotonic()
        self._waits[self] = began, STOP_SEND_SECONDS
        try:
            sent = super().send(data)
        except BlockingIOError as error:
            raise TimeoutError(_SLOW_READER) from error
        finally:
            self.end()
        self._send_left -= monotonic() - began
        if self._send_left < 0:
            raise TimeoutError(_SLOW_READER)
        return sent


Waits = dict[ClientSocket, tuple[float, int]]
"""Since when each socket waits (monotonic), and how many seconds a stopping worker lets it."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """The worker: its threads wait for clients, and no client keeps one for long."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits: Waits = {}

    def handle(self, conn: Any) -> Any:
        """Serve one request of a connection."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket(conn.sock, self._waits)
        conn.sock.begin()
        try:
            goes_on = super().handle(conn)
        finally:
            conn.sock.end()
        if not goes_on:
            conn.sock.linger()
        return goes_on

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is read. Raises what `handle_error` answers."""
        conn.sock.request = req
        _refuse_early(req, self.wsgi.config["MAX_BODY_BYTES"])
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer a request that is no valid HTTP with the envelope, and close its connection."""
        refusal = _refusal_of(exc)
        if refusal.status == 500:
            self.log.exception("Error handling request")
        elif not isinstance(exc, ApiError):
            self.log.warning("Invalid request from ip=%s", addr[0] if addr else "")
        body, status = envelope(refusal), HTTPStatus(refusal.status)
        lines = [
            f"HTTP/1.1 {status} {status.phrase}",
            "Connection: close",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"x-request-id: {new_request_id()}",
        ]
        with suppress(OSError):
            client.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """Stop: finish the requests in work, and wait for no silent client."""
        super().handle_exit(sig, frame)
        threading.Thread(target=self._end_waits, daemon=True).start()

    def _end_waits(self) -> None:
        while True:
            sleep(_LOOK_SECONDS)
            now = monotonic()
            late = [who for who, (began, most) in self._waits.copy().items() if now - began > most]
            for client in [*late, *(conn.sock for conn in self.pending_conns.copy())]:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)


def _refuse_early(req: Any, most: int) -> None:
    """Refuse a body that cannot be read, before the client hears 100 Continue."""
    headers = dict(req.headers)
    if "TRANSFER-ENCODING" in headers:
        codings = headers["TRANSFER-ENCODING"].lower().replace(" ", "").split(",")
        if set(codings) - {"chunked", "identity"}:
            raise errors.UnsupportedTransferCoding(headers["TRANSFER-ENCODING"])
    if "EXPECT" in headers and int(headers.get("CONTENT-LENGTH", 0)) > most:
        raise refusals.body_too_large()


def _refusal_of(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    statuses = (status for kind, status in _STATUSES.items() if isinstance(error, kind))
    default = 400 if isinstance(error, errors.ParseException) else 500
    return refusals.malformed_request(next(statuses, default))
