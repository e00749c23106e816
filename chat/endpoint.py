"""The endpoint of a model over HTTP: one request a connection, which a Stop ends at once.

The client is Python's own: it follows no redirect, reads no proxy from the environment, and its
socket can be shut down while another thread waits for it.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR, SOCK_STREAM, getaddrinfo, socket
from typing import Any
from urllib.parse import urlsplit

import orjson

from players.answers import Stop
from rules import model_faults
from store.objects import Object

MOST_BYTES = 16 << 20
"""How much one answer may be."""
CONNECT_SECONDS = 5.0
_PIECE_BYTES = 65_536


class Endpoint:
    """An OpenAI-compatible endpoint. Nothing but its requests has the key."""

    def __init__(self, url: str, key: str | None, seconds: float) -> None:
        """`seconds` is how long it may send nothing."""
        self._parts, self._key, self._seconds = urlsplit(url), key, seconds

    @contextmanager
    def ask(self, path: str, body: Object | None, stop: Stop) -> Iterator["Answer"]:
        """Send a POST with a body, or a GET; yield the answer. Raises AnswerError, Stopped."""
        connection, sock = self._connect(stop), None
        try:
            sock = connection.sock
            with stop.cutting(lambda: _cut(sock)):
                data = None if body is None else orjson.dumps(body)
                method = "GET" if body is None else "POST"
                connection.request(method, self._parts.path + path, data, self._headers)
                with connection.getresponse() as response:
                    yield Answer(response, self._without_key)
        except TimeoutError:
            stop.wait(0)
            raise model_faults.stalled(self._seconds) from None
        except (OSError, HTTPException) as error:
            stop.wait(0)
            raise model_faults.cut_off(error) from None
        finally:
            connection.close()

    def _connect(self, stop: Stop) -> HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        connection = HTTPConnection(host, port)
        if self._parts.scheme == "https":
            connection = HTTPSConnection(host, port, context=self._context)
        try:
            connection.sock = self._first_socket(connection, stop)
        except (OSError, ValueError) as error:
            raise model_faults.unreachable(error) from None
        connection.sock.settimeout(self._seconds)
        return connection

    def _first_socket(self, connection: HTTPConnection, stop: Stop) -> socket:
        """Return a socket to the first address of the host that answers. Raises OSError.

        The system looks up the addresses: that has the system's limit, and no stop ends it.
        """
        refusal = OSError("it has no address")
        for address in getaddrinfo(connection.host, connection.port, type=SOCK_STREAM):
            try:
                return self._socket(address, stop)
            except OSError as error:
                stop.wait(0)
                refusal = error
        raise refusal

    def _socket(self, address: Any, stop: Stop) -> socket:
        """Connect, and agree on the encryption: a stop ends both waits."""
        family, kind, protocol, _, name = address
        with ExitStack() as stack:
            sock = stack.enter_context(socket(family, kind, protocol))
            sock.settimeout(min(CONNECT_SECONDS, self._seconds))
            with stop.cutting(lambda: _cut(sock)):
                stop.wait(0)
                sock.connect(name)
            if self._parts.scheme == "https":
                sock = stack.enter_context(self._encrypted(sock))
                with stop.cutting(lambda: _cut(sock)):
                    sock.do_handshake()
            stack.pop_all()
        return sock

    def _encrypted(self, sock: socket) -> ssl.SSLSocket:
        host = self._parts.hostname
        return self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    @property
    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        return headers | ({"Authorization": f"Bearer {self._key}"} if self._key else {})

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "(the key)") if self._key else text


class Answer:
    """An answer of the endpoint: its status, and what comes."""

    def __init__(self, response: HTTPResponse, without_key: Callable[[str], str]) -> None:
        self.status, self._response, self._without_key = response.status, response, without_key

    @property
    def is_stream(self) -> bool:
        """Whether it comes as events."""
        return self._response.headers.get_content_type() == "text/event-stream"

    def header(self, name: str) -> str:
        """Return a header, or nothing."""
        return str(self._response.headers.get(name, ""))

    def whole(self) -> bytes:
        """Return the body. Raises AnswerError if it is too large."""
        return b"".join(self._pieces())

    def object(self, data: bytes) -> Object:
        """Return JSON of the endpoint as an object. Raises AnswerError."""
        with suppress(orjson.JSONDecodeError):
            if isinstance(value := orjson.loads(data), dict):
                return value
        raise model_faults.no_json(self._without_key(data.decode(errors="replace")))

    def fault(self) -> str:
        """Return what it says of a fault, without the key."""
        text = self.whole()
        with suppress(orjson.JSONDecodeError):
            return self.said(orjson.loads(text))
        return self._without_key(text.decode(errors="replace").strip())

    def said(self, value: Any) -> str:
        """Return the sentence of an error object, without the key."""
        while isinstance(value, dict):
            told = (value[name] for name in ("error", "message", "detail") if value.get(name))
            value = next(told, orjson.dumps(value).decode() if value else "")
        return self._without_key(value if isinstance(value, str) else orjson.dumps(value).decode())

    def events(self) -> Iterator[bytes]:
        """Yield the data of each event as it comes. Raises AnswerError, OSError, HTTPException."""
        rest = b""
        for piece in self._pieces():
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line[5:].strip() for line in lines if line.startswith(b"data:"))
        if rest.startswith(b"data:"):
            yield rest[5:].strip()

    def _pieces(self) -> Iterator[bytes]:
        left = MOST_BYTES
        while piece := self._response.read1(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise model_faults.too_large()
            yield piece


def _cut(sock: Any) -> None:
    """End the waits for a connection, in whatever thread they are."""
    with suppress(OSError):
        socket.shutdown(sock, SHUT_RDWR)
