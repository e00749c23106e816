"""A chat completions endpoint that plays what a test tells it, faults and all."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Wire = dict[str, Any]
Play = Callable[["Handler"], None]
KEY = "sk-of-the-model-0123456789"
USAGE = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}


class Request:
    """A request that came: its path, its headers, its body."""

    def __init__(self, handler: "Handler") -> None:
        self.path, self.headers = handler.path, dict(handler.headers)
        size = int(handler.headers.get("Content-Length", 0))
        self.body: Wire = json.loads(handler.rfile.read(size) or "{}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "FakeModel"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.close_connection = True
        self.server.requests.append(Request(self))
        with suppress(ConnectionError):
            self.server.next_play()(self)

    do_GET = do_POST

    def send(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        line = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.flush()

    def end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def is_left(self) -> bool:
        """Wait until the client closes the connection; tell whether it did."""
        self.connection.settimeout(10)
        with suppress(TimeoutError):
            return self.connection.recv(1) == b""
        return False


class FakeModel(ThreadingHTTPServer):
    """The endpoint. Without a play for a request it says `Hello.`"""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Request] = []
        self.left: list[float] = []
        self._plays: list[Play] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def bodies(self) -> list[Wire]:
        return [request.body for request in self.requests]

    def play(self, *plays: Play) -> None:
        """Answer the next requests so; the last play serves those after it, too."""
        self._plays = list(plays)

    def next_play(self) -> Play:
        with self._lock:
            if len(self._plays) > 1:
                return self._plays.pop(0)
            return self._plays[0] if self._plays else says("Hel", "lo.")


@contextmanager
def endpoint() -> Iterator[FakeModel]:
    with FakeModel() as model:
        threading.Thread(target=model.serve_forever, args=(0.01,), daemon=True).start()
        yield model
        model.shutdown()


def chunk(delta: Wire, finish: str | None = None) -> Wire:
    return {"object": "chat.completion.chunk", "choices": [_choice(delta, finish)]}


def _choice(delta: Wire, finish: str | None) -> Wire:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def streams(*events: Any, usage: Wire | None = USAGE, is_done: bool = True) -> Play:
    """Stream events: chunks, or text as it is."""

    def play(handler: Handler) -> None:
        handler.begin()
        for event in events:
            handler.event(event)
        if usage:
            handler.event({"choices": [], "usage": usage})
        if is_done:
            handler.event("[DONE]")
        handler.end()

    return play


def says(*pieces: str, finish: str = "stop", usage: Wire | None = USAGE) -> Play:
    texts = [chunk({"role": "assistant", "content": piece}) for piece in pieces]
    return streams(*texts, chunk({}, finish), usage=usage)


def call(name: str, *arguments: str, index: int = 0) -> list[Wire]:
    """Return the chunks of a call, whose arguments come in pieces."""
    first = {"index": index, "id": f"call_{index}", "type": "function"}
    pieces: list[Wire] = [{**first, "function": {"name": name, "arguments": ""}}]
    pieces += [{"index": index, "function": {"arguments": each}} for each in arguments]
    return [chunk({"tool_calls": [piece]}) for piece in pieces]


def calls(*chunks: list[Wire], finish: str = "tool_calls") -> Play:
    return streams(*(each for chunk in chunks for each in chunk), chunk({}, finish))


def refuses(status: int, message: str = "no", **headers: str) -> Play:
    return lambda handler: handler.send(status, {"error": {"message": message}}, **headers)


def sends(status: int, body: Any, **headers: str) -> Play:
    return lambda handler: handler.send(status, body, **headers)


def stalls(*pieces: str, is_silent: bool = False) -> Play:
    """Say some pieces, or not even a status, and then nothing until the client leaves."""

    def play(handler: Handler) -> None:
        if not is_silent:
            handler.begin()
        for piece in pieces:
            handler.event(chunk({"content": piece}))
        if handler.is_left():
            handler.server.left.append(1)

    return play


def breaks(*pieces: str) -> Play:
    """Say some pieces, and end the connection within a chunk."""

    def play(handler: Handler) -> None:
        handler.begin()
        for piece in pieces:
            handler.event(chunk({"content": piece}))
        handler.wfile.write(b"ff\r\ndata: {")
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    return play
