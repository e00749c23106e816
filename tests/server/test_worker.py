"""The worker: no client holds others up, and what is no valid HTTP gets the envelope."""

import http.client
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, until

from server import worker

pytestmark = pytest.mark.sqlite_only("the worker is below the database")

HALF_HEAD = b"POST /v1/threads HTTP/1.1\r\nHost: loc"
POST = b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HALF_BODY = POST + b'Content-Length: 100\r\n\r\n{"metadata'
LARGE_HALF_BODY = POST + b"Content-Length: 16000000\r\n\r\n" + b"x" * 4_000_000
LARGE_LIST_BYTES = 3_000_000
STALLED, MANY_STALLED = 20, 60
ARENA_BYTES = 64 << 20


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def connect(stack: ExitStack) -> Callable[..., list[socket.socket]]:
    """Open connections that send some bytes and then nothing; they close after the test."""

    def connect(server: Server, data: bytes, count: int = STALLED) -> list[socket.socket]:
        sockets = [socket.create_connection(server.address, timeout=30) for _ in range(count)]
        for each in map(stack.enter_context, sockets):
            each.sendall(data)
        return sockets

    return connect


def list_request(server: Server) -> bytes:
    """Store a thread whose list of messages is large; return the request for that list."""
    with server.sdk() as sdk:
        thread = sdk.beta.threads.create().id
        for _ in range(20):
            content = "x" * (LARGE_LIST_BYTES // 20)
            sdk.beta.threads.messages.create(thread, role="user", content=content)
    return f"GET /v1/threads/{thread}/messages HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def is_open(client: socket.socket) -> bool:
    """Return whether the server keeps a connection that sends nothing new."""
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True


def memory(server: Server) -> int:
    """Return the bytes of memory of the workers."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in server.workers()]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) * 1024


def arenas(pid: int) -> int:
    """Return how many arenas a process has beside glibc's first: each reserves aligned 64 MB."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    ends = dict(spans)
    return sum(
        begin % ARENA_BYTES == 0 and ends.get(end) == begin + ARENA_BYTES for begin, end in spans
    )


# clients that stall


def test_stalled_clients_hold_nobody_up(
    serve: Callable[..., Any], connect: Callable[..., list[socket.socket]]
) -> None:
    with serve() as server:
        kinds = (b"", HALF_HEAD, HALF_BODY, list_request(server))
        for data in kinds:
            connect(server, data)
        with server.sdk(timeout=15) as sdk:
            assert sdk.beta.threads.create().id


def test_half_a_request_ends_by_itself(
    serve: Callable[..., Any], connect: Callable[..., list[socket.socket]]
) -> None:
    with serve() as server:
        clients = [*connect(server, HALF_HEAD, 1), *connect(server, HALF_BODY, 1)]
        answers = [b"".join(iter(partial(each.recv, 1000), b"")) for each in clients]
        first_lines = [answer.partition(b"\r\n")[0] for answer in answers]
        assert first_lines == [b"", b"HTTP/1.1 408 REQUEST TIMEOUT"]
        assert '"level":"error"' not in server.log.read_text()


@pytest.fixture
def pair() -> Iterator[tuple[worker.ClientSocket, socket.socket]]:
    """The server's end of a connection, and the client's."""
    ours, theirs = socket.socketpair()
    with closing(worker.ClientSocket(ours, {})) as server, closing(theirs):
        yield server, theirs


def test_a_request_that_comes_byte_by_byte_ends(
    pair: tuple[worker.ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "READ_SECONDS", 0.1)
    server, client = pair
    server.begin()
    sender = threading.Thread(target=_drip, args=(client,))
    sender.start()
    with pytest.raises(TimeoutError):
        list(iter(lambda: server.recv(1), b""))
    server.shutdown(socket.SHUT_RDWR)
    sender.join()


def _drip(client: socket.socket) -> None:
    pause = threading.Event()
    try:
        while not pause.wait(0.01):
            client.sendall(b"x")
    except OSError:
        pass


CHUNKED = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
OVERHEAD_BYTES = 300_000


@pytest.mark.parametrize("chunk", [b"1\r\n \r\n", b"1;%b\r\n \r\n" % (b"x" * 8000)])
def test_chunks_that_cost_more_than_they_bring_are_refused(server: Server, chunk: bytes) -> None:
    count = OVERHEAD_BYTES // (len(chunk) - 1)
    answer = answer_to(server, CHUNKED + count * chunk + b"2\r\n{}\r\n0\r\n\r\n")
    assert (answer.status, answer.headers["Connection"]) == (400, "close")
    assert "larger chunks" in json.loads(answer.read())["error"]["message"]


def test_chunks_of_a_program_that_streams_are_taken(server: Server) -> None:
    chunks = b"64\r\n%b\r\n" % (b" " * 100) * (OVERHEAD_BYTES // 6)
    answer = answer_to(server, CHUNKED + chunks + b"2\r\n{}\r\n0\r\n\r\n")
    assert answer.status == 200


def test_an_answer_that_is_taken_byte_by_byte_ends(
    pair: tuple[worker.ClientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SEND_SECONDS", 0.1)
    server, client = pair
    server.begin()
    reader = threading.Thread(target=_sip, args=(client,))
    reader.start()
    server.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(TimeoutError):
        server.sendall(b"x" * LARGE_LIST_BYTES)
    server.shutdown(socket.SHUT_RDWR)
    reader.join()


def _sip(client: socket.socket) -> None:
    pause = threading.Event()
    while client.recv(100_000):
        pause.wait(0.01)


def test_answers_that_nobody_takes_are_not_kept_in_memory(
    serve: Callable[..., Any], connect: Callable[..., list[socket.socket]]
) -> None:
    with serve() as server:
        request = list_request(server)
        assert server.call("GET", request.split()[1].decode()).status == 200
        before = memory(server)
        clients = connect(server, request, MANY_STALLED)
        assert until(lambda: server.log.read_text().count("/messages") >= 20 + 1 + MANY_STALLED)
        assert all(map(is_open, clients))
        assert memory(server) - before < MANY_STALLED * LARGE_LIST_BYTES / 3


def test_bodies_that_do_not_end_are_not_kept_in_memory(
    serve: Callable[..., Any], connect: Callable[..., list[socket.socket]]
) -> None:
    with serve() as server:
        assert server.call("POST", "/v1/threads", {}).status == 200
        before = memory(server)
        clients = connect(server, LARGE_HALF_BODY)
        assert server.call("POST", "/v1/threads", {}).status == 200
        assert all(map(is_open, clients))
        assert memory(server) - before < STALLED * 4_000_000 / 3


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_the_threads_of_a_worker_share_one_arena(
    serve: Callable[..., Any], connect: Callable[..., list[socket.socket]]
) -> None:
    with serve() as server:
        connect(server, HALF_BODY)
        assert server.call("POST", "/v1/threads", {}).status == 200
        assert list(map(arenas, server.workers())) == [0]


def test_a_termination_waits_for_no_stalled_client(
    serve: Callable[..., Any], connect: Callable[..., list[socket.socket]]
) -> None:
    with serve() as server:
        clients = connect(server, b"", 3) + connect(server, HALF_HEAD, 3)
        assert server.call("GET", "/healthz").status == 200
        server.process.send_signal(signal.SIGTERM)
        assert until(lambda: not any(map(is_open, clients)), seconds=worker.READ_STALL_SECONDS - 1)
        assert server.process.wait(timeout=30) == 0


# what is no valid HTTP


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([f"GET /{'x' * 8200} HTTP/1.1", "Host: localhost"], 414),
        (["GET /healthz HTTP/1.1", "Host: localhost", f"X-Long: {'x' * 8200}"], 431),
        (["GET /healthz HTTP/1.1", "Host: localhost", *(f"X-{n}: 1" for n in range(61))], 431),
        (["GET /healthz HTTP/1.1", "Host: localhost", "No colon"], 400),
        (["GET /healthz HTTP/1.1", "Host: localhost", "X_Forwarded_For: 1"], 400),
        (["GET /healthz HTTP/9", "Host: localhost"], 400),
        (["POST / HTTP/1.1", "Host: localhost", "Expect: 200-ok", "Content-Length: 1"], 417),
        (["POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding: gzip, chunked"], 501),
        (["POST / HTTP/1.1", "Host: localhost", "Transfer-Encoding: x, chunked"], 501),
    ],
    ids=["line", "header", "headers", "malformed", "underscore", "version", "expect", "gzip", "x"],
)
def test_what_is_no_valid_http_gets_the_envelope(
    server: Server, lines: list[str], status: int
) -> None:
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        error = json.loads(answer.read())["error"]
    assert (answer.status, error["type"]) == (
        status,
        "invalid_request_error" if status < 500 else "server_error",
    )
    assert answer.headers["Connection"] == "close"
    assert answer.headers["x-request-id"].startswith("req_")
    assert len(error["message"]) < 200


# one answer after another


def test_an_answer_is_one_packet(server: Server) -> None:
    with socket.create_connection(server.address, timeout=20) as connection:
        for _ in range(20):
            connection.sendall(POST + b"Content-Length: 2\r\n\r\n{}")
            head, _, body = connection.recv(4096).partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head
            assert json.loads(body)["object"] == "thread"


def test_a_head_without_a_body_is_sent(server: Server) -> None:
    with closing(http.client.HTTPConnection(*server.address, timeout=20)) as connection:
        for headers in ({}, {"Connection": "close"}):
            connection.request("HEAD", "/healthz", headers=headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")


def test_requests_that_come_at_once_are_answered_in_their_order(server: Server) -> None:
    requests = [f"GET /v1/threads/{n} HTTP/1.1\r\nHost: localhost\r\n" for n in range(9)]
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(("\r\n".join(requests) + "Connection: close\r\n\r\n").encode())
        answers = b"".join(iter(partial(connection.recv, 4096), b"")).split(b"HTTP/1.1 400")
    assert [re.findall(rb"'(\d)'", answer) for answer in answers[1:]] == [
        [str(number).encode()] for number in range(9)
    ]


# the end of a connection


def answer_to(server: Server, data: bytes) -> http.client.HTTPResponse:
    with socket.create_connection(server.address, timeout=20) as connection:
        with suppress(ConnectionError):  # the server may answer before the end
            connection.sendall(data)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer


def test_no_continue_comes_before_the_refusal_of_a_large_body(server: Server) -> None:
    head = b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(POST + head)
        assert connection.recv(12) == b"HTTP/1.1 413"


@pytest.mark.parametrize(
    ("head", "status", "connection"),
    [
        (POST + b"Content-Length: 99999999\r\n\r\n", 413, "close"),
        (POST.replace(b"threads", b"nowhere") + b"Content-Length: 9\r\n\r\n", 404, "close"),
        (POST + b"Content-Length: 2\r\n\r\n{}", 200, "keep-alive"),
        (POST + b"Content-Length: 2\r\n\r\n{]", 400, "keep-alive"),
    ],
    ids=["too-large", "no-view", "stored", "refused"],
)
def test_an_answer_to_an_unread_body_says_that_it_closes_the_connection(
    server: Server, head: bytes, status: int, connection: str
) -> None:
    answer = answer_to(server, head)
    assert (answer.status, answer.headers["Connection"]) == (status, connection)
