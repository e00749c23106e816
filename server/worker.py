"""gunicorn's threaded worker, with limits on how long a client may keep a thread waiting."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from time import monotonic, sleep
from typing import Any

from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader
from gunicorn.workers.gthread import ThreadWorker

from database.waits import waiting
from rules import refusals
from rules.errors import ApiError
from server.threads import Threads
from web.error_answers import envelope
from web.request import new_request_id

READ_SECONDS, SEND_SECONDS = 30, 60
"""How long all waits for one request, and for the client to take its answer, may last."""
READ_STALL_SECONDS, SEND_STALL_SECONDS = 5, 10
"""How long one wait may last; the kernel ends it."""
STOP_READ_SECONDS, STOP_SEND_SECONDS = 2, 5
"""How long one wait may last in a worker that stops."""
LINGER_SECONDS = 1
NEXT_MILLISECONDS = 5
"""How long a thread waits for the next request before it leaves the connection."""
_LINGER_BYTES = 64 << 10
_SMALL_BYTES = 64 << 10
_LOOK_SECONDS = 0.2
_AROUND_BYTES, _AROUND_PART = 256 << 10, 16
"""What may be around the bytes in the chunks of a body: so many bytes, and a 16th of those inside.
Each chunk costs time."""
_SLOW_REQUEST = "A client sent its request too slowly; its connection was closed"
_SLOW_READER = "A client took its answer too slowly; its connection was closed"
_STATUSES = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.UnsupportedTransferCoding: 501,
}


class ClientSocket(socket.socket):
    """A client's connection, which adds up how long the client keeps a thread waiting."""

    def __init__(self, plain: socket.socket, waits: "Waits") -> None:
        """Take over a socket. `waits` holds the sockets that wait at the moment."""
        super().__init__(fileno=plain.detach())
        super().setblocking(True)
        self._waits = waits
        self._poll = select.poll()
        self._poll.register(self, select.POLLIN)
        self.begin()

    def begin(self) -> None:
        """Begin a request."""
        self.request: Any = None
        self._head: bytes | None = None
        self._has_ended = False
        self._received = 0
        self._read_left, self._send_left = float(READ_SECONDS), float(SEND_SECONDS)

    def begin_body(self, request: Any) -> None:
        """Begin the body of a request."""
        self.request, reader = request, request.body.reader
        if isinstance(reader, ChunkedReader):
            reader.parser = self._bounded(reader.parser)

    def _bounded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the pieces in the chunks of a body. Raises ApiError 400 for chunks too small."""
        begin, inside = self._received, 0
        for piece in pieces:
            inside += len(piece)
            if self._received - begin - inside > _AROUND_BYTES + inside // _AROUND_PART:
                raise refusals.small_chunks()
            yield piece

    def close_after_answer(self) -> None:
        """Say `Connection: close` in the answer of this request."""
        if self.request:
            self.request.force_close()

    def setblocking(self, flag: bool, /) -> None:
        """Do nothing: this socket waits by the kernel's limits, whatever gunicorn asks for."""

    def has_next(self) -> bool:
        """Wait a moment for the next request; return whether it comes."""
        with waiting():
            return bool(self._poll.poll(NEXT_MILLISECONDS))

    def has_data(self) -> bool:
        """Wait for the first byte; return whether it came, or the end."""
        try:
            self.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        return True

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive bytes. Raises TimeoutError when the request comes too slowly."""
        if self._has_ended:  # gunicorn lingers again, in its only accepting thread
            return b""
        data = self._receive(size, flags)
        self._received += len(data)
        return data

    def _receive(self, size: int, flags: int) -> bytes:
        try:
            return super().recv(size, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            if flags & socket.MSG_DONTWAIT:
                raise
        try:
            with self._wait(STOP_READ_SECONDS) as wait:
                data = super().recv(size, flags)
        except BlockingIOError as error:
            raise TimeoutError(_SLOW_REQUEST) from error
        self._read_left -= wait.seconds
        if self._read_left < 0:
            raise TimeoutError(_SLOW_REQUEST)
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send bytes; the head of an answer waits for what follows, to be one packet with it.

        Raises TimeoutError when the client takes its answer too slowly.
        """
        if self._head is None:
            self._head = data
        elif len(data) <= _SMALL_BYTES:
            self._send(self._take_head() + data)
        else:
            self._send(self._take_head())
            self._send(data)

    def flush(self) -> bool:
        """Send the head of an answer that has nothing else; return whether the client took it."""
        try:
            self._send(self._take_head())
        except OSError:
            return False
        return True

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head or b""

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        with suppress(BlockingIOError):
            left = left and left[super().send(left, socket.MSG_DONTWAIT) :]
        while left:
            left = left[self._send_some(left) :]

    def linger(self) -> None:
        """Send no more, and drop what the client still sends: else it could lose the answer."""
        with suppress(OSError), self._wait(STOP_READ_SECONDS) as wait:
            self.shutdown(socket.SHUT_WR)
            self.settimeout(LINGER_SECONDS)
            while super().recv(_LINGER_BYTES) and wait.seconds < LINGER_SECONDS:
                pass
        self._has_ended = True

    def _send_some(self, data: memoryview) -> int:
        try:
            with self._wait(STOP_SEND_SECONDS) as wait:
                sent = super().send(data)
        except BlockingIOError as error:
            raise TimeoutError(_SLOW_READER) from error
        self._send_left -= wait.seconds
        if self._send_left < 0:
            raise TimeoutError(_SLOW_READER)
        return sent

    @contextmanager
    def _wait(self, most_at_stop: int) -> Iterator["_Wait"]:
        """Wait for the client. A worker that stops ends the wait after some seconds."""
        wait = self._waits[self] = _Wait(most_at_stop)
        try:
            with waiting():
                yield wait
        finally:
            del self._waits[self]


class _Wait:
    """A wait that goes on."""

    def __init__(self, most_at_stop: int) -> None:
        self.most_at_stop, self._began = most_at_stop, monotonic()

    @property
    def seconds(self) -> float:
        """How long it lasts by now."""
        return monotonic() - self._began


Waits = dict[ClientSocket, _Wait]


class Worker(ThreadWorker):  # type: ignore[misc]
    """The worker: its threads wait for clients, and no client keeps one for long."""

    processor = 0
    """The number of the processor that it keeps to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits: Waits = {}

    def get_thread_pool(self) -> Threads:
        """Return the threads for the requests."""
        return Threads(self.cfg.threads, self.cfg.worker_connections)

    def handle(self, conn: Any) -> Any:
        """Serve a connection while requests come; return whether it goes on."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket(conn.sock, self._waits)
            conn.data_ready = conn.sock.has_data()
        goes_on = conn.data_ready and self._answer(conn)
        while goes_on and self.tpool.are_idle() and _has_next(conn):
            goes_on = self._answer(conn)
        if not goes_on:
            conn.sock.linger()
        return goes_on

    def _answer(self, conn: Any) -> Any:
        conn.sock.begin()
        goes_on = super().handle(conn)
        return conn.sock.flush() and goes_on

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is read. Raises what `handle_error` answers."""
        conn.sock.begin_body(req)
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
        """Stop: finish the requests and runs in work, and wait for no silent client."""
        super().handle_exit(sig, frame)
        for end in (self._end_waits, self._stop_players):
            threading.Thread(target=end, daemon=True).start()

    def _stop_players(self) -> None:
        if app := getattr(self, "wsgi", None):  # a worker that begins has none
            app.extensions["players"].stop()

    def _end_waits(self) -> None:
        while True:
            sleep(_LOOK_SECONDS)
            for client, wait in self._waits.copy().items():
                if wait.seconds > wait.most_at_stop:
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)


def _has_next(conn: Any) -> bool:
    """Return whether the next request is here, or comes in a moment."""
    return bool(conn.parser.unreader.buf.getvalue()) or conn.sock.has_next()


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
