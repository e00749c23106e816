"""What reaches the port: bad input on every route, random bytes, clients that never end."""

import json
import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pytest
from conftest import Server
from flask import Flask
from harness import WHOLE, Client, ask, error_lines
from test_request_body import FRAMINGS, INVALID_JSON, NOT_AN_OBJECT, NUL, TWICE, UNREADABLE

JSON = "Content-Type: application/json\r\n"
CHUNKED = f"{JSON}Transfer-Encoding: chunked\r\n"
GOOD = b'{"metadata":{"k":"v"}}'
REFUSED, ANY = range(400, 500), range(200, 500)
MAX_BODY = 1 << 20
FUZZ_SECONDS = 90 if WHOLE else 2
SLOW_SECONDS = 40
READ_SECONDS = 15
MOST_GROWTH = 50 << 20


class Input(NamedTuple):
    """A request that is wrong in one way: its row in the list of 44, and what may come of it."""

    row: int
    data: bytes
    allowed: range = ANY


def head(method: str, target: str, headers: str = "", host: str = "Host: localhost\r\n") -> bytes:
    return f"{method} {target} HTTP/1.1\r\n{host}{headers}".encode("latin-1") + b"\r\n"


def bodies() -> Iterator[tuple[int, bytes]]:
    """Rows 1 to 14: what a body may hold that is not JSON, or not storable."""
    for row, cases in ((3, UNREADABLE), (4, NUL), (5, INVALID_JSON)):
        yield from ((row, case) for case in cases.values())
    yield 1, b'{"metadata":{"k":"\\ud800"}}'
    yield 2, b'{"metadata":{"\\ud800":"v"}}'
    yield 6, b'{"metadata":{"k":9223372036854775808}}'
    yield 7, b'{"metadata":{"k":' + b"9" * 5000 + b"}}"
    yield from ((8, b'{"metadata":{"k":%s}}' % word) for word in (b"NaN", b"Infinity", b"1e999"))
    yield 9, b'{"metadata":NaN}'
    yield from ((10, case) for case, _ in TWICE.values())
    yield 11, '{"metadata":{}}'.encode("utf-16")
    yield 12, b'{"metadata":{"k":"\xff"}}'
    yield 13, b"  "
    yield from ((14, case.encode()) for case in NOT_AN_OBJECT)
    yield 17, '{"metadata":{"k":1.5,"l":"٣"}}'.encode()


def of_body(method: str, target: str, allowed: range) -> Iterator[Input]:
    """Rows 1 to 25: requests with a body."""
    for row, body in bodies():
        length = f"Content-Length: {len(body)}\r\n"
        yield Input(row, head(method, target, JSON + length) + body, allowed)
    sized = f"Content-Length: {len(GOOD)}\r\n"
    yield Input(
        11,
        head(method, target, f"{JSON}Content-Length: {len(GOOD) + 3}\r\n") + b"\xef\xbb\xbf" + GOOD,
    )
    yield Input(13, head(method, target, f"{JSON}Content-Length: 0\r\n"))
    yield Input(15, head(method, target, sized) + GOOD, allowed)
    yield Input(15, head(method, target, f"Content-Type: text/plain\r\n{sized}") + GOOD, allowed)
    for kind in ('application/json; charset="', "application/vnd.api+json"):
        yield Input(16, head(method, target, f"Content-Type: {kind}\r\n{sized}") + GOOD)
    yield Input(18, head(method, target, CHUNKED) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD))
    for chunks in (b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}", b"2\r\n{}\r\n"):
        yield Input(19, head(method, target, CHUNKED) + chunks, allowed)
    for length in (len(GOOD) + 1, 4096):
        yield Input(20, head(method, target, f"{JSON}Content-Length: {length}\r\n") + GOOD, allowed)
    gzip = f"{JSON}Content-Encoding: gzip\r\nContent-Length: 4\r\n"
    yield Input(23, head(method, target, gzip) + b"\x1f\x8b\x08\x00", allowed)
    long = b'{"metadata":{"k":"' + b"x" * MAX_BODY + b'"}}'
    yield Input(24, head(method, target, f"{JSON}Content-Length: {len(long)}\r\n") + long, allowed)
    yield Input(25, head(method, target, f"{JSON}Content-Length: 10000000000\r\n"), allowed)
    chunk = b"%x\r\n" % (MAX_BODY + 2) + b" " * MAX_BODY + b"{}\r\n0\r\n\r\n"
    yield Input(25, head(method, target, CHUNKED) + chunk, allowed)


def of_framing(method: str, target: str) -> Iterator[Input]:
    """Row 22: where a request ends is in doubt."""
    for headers in FRAMINGS:
        yield Input(22, head(method, target, JSON + headers) + b"{}", REFUSED)
    yield Input(22, head(method, target).replace(b"\r\n", b"\n"))


def of_address(method: str, target: str) -> Iterator[Input]:
    """Rows 26 to 38: query, path and method."""
    queries = ("abc", "", "1.5", "1e9", "0x10", "%00", "%FF", "9" * 22, "-1", "%D9%A3", "1_000")
    for row, value in enumerate((*queries, "+5", "%205", "1000000000"), 1):
        yield Input(min(25 + row, 30), head(method, f"{target}?limit={value}"))
        yield Input(min(25 + row, 30), head(method, f"{target}?after={value}&before={value}"))
    last = target.rpartition("/")[0]
    for bad in ("%00", "thread_%00"):
        yield Input(31, head(method, f"{last}/{bad}"))
    for bad in ("%FF", "%ED%A0%80", "thread_%C3%A9", "thread_" + "a" * 3900):
        yield Input(32, head(method, f"{last}/{bad}"))
    yield Input(33, head(method, f"{last}/{'a' * 10_000}"), REFUSED)
    for bad in ("a%2Fb", "../", "..%2F..%2Fapp.py"):
        yield Input(34, head(method, f"{last}/{bad}"))
    yield Input(35, head(method, target.replace("/", "//", 2)))
    yield Input(36, head(method, f"{target.rstrip('/')}/"))
    yield from (Input(37, head(other, target)) for other in ("HEAD", "OPTIONS"))
    yield from (Input(38, head(other, target)) for other in ("TRACE", "PUT", "NONSENSE"))


def of_headers(method: str, target: str) -> Iterator[Input]:
    """Rows 39 to 44."""
    yield Input(39, head(method, target, "X-Forwarded-Proto: https\r\n"), REFUSED)
    yield Input(40, head(method, target, "X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Host: e\r\n"))
    for host in ('evil"><script>', "", "  ", "[::1", "evil.example"):
        yield Input(41, head(method, target, host=f"Host: {host}\r\n"), REFUSED)
    yield Input(42, head(method, target, host=""))
    yield Input(43, head(method, target, "".join(f"X-{n}: x\r\n" for n in range(120))), REFUSED)
    yield Input(43, head(method, target, f"X-Long: {'x' * 9000}\r\n"), REFUSED)
    yield Input(44, head(method, target, "Authorization: Bearer \xff\xfe\r\n"))


def exchange(server: Server, data: bytes) -> bytes:
    """Send bytes, end the sending side, and return all that comes back."""
    with socket.create_connection(server.address, timeout=20) as connection:
        with suppress(OSError):  # a refusal may come before all of it is sent
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
    return received


STATUS = re.compile(rb"^HTTP/1\.1 ([0-9]{3})", re.MULTILINE)


def routes(app: Flask) -> list[tuple[str, str]]:
    """Every method and address pattern; the short form leaves the twins under /v1 and pages out."""
    pairs = [
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"})
    ]
    return pairs if WHOLE else [route for route in pairs if route[1].startswith("/threads")]


@pytest.mark.timeout(600)
def test_none_of_44_bad_inputs_is_a_500_on_any_route(
    serve: Callable[..., Any], database_url: str, app: Flask
) -> None:
    counts: Counter[int] = Counter()
    wrong = []
    with (
        serve(DATABASE_URL=database_url, MAX_BODY_BYTES=MAX_BODY) as server,
        closing(Client(server)) as client,
    ):
        assert client.expect("GET", "/healthz")
        workers = server.workers()
        for method, pattern in routes(app):
            for case in inputs(method, lambda: address(client, pattern)):  # noqa: B023
                answer = exchange(server, case.data)
                counts[case.row] += 1
                if fault := fault_of(answer, case, pattern):
                    wrong.append(f"{method} {pattern} row {case.row}: {fault} {case.data[:200]!r}")
                assert client.expect("GET", "/healthz") == {"status": "ok"}
        assert wrong == []
        assert error_lines(server) == []
        assert server.workers() == workers
    assert set(counts) == set(range(1, 45)) - {21}  # left open: the slow clients below
    print(f"{counts.total()} requests on {len(routes(app))} routes, no 5xx")


def inputs(method: str, target: Callable[[], str]) -> Iterator[Input]:
    """All inputs for one route; each group gets a new address."""
    if method in ("POST", "PUT"):
        api = target().startswith(("/threads", "/v1/threads"))
        yield from of_body(method, target(), REFUSED if api else ANY)
    for group in (of_framing, of_address, of_headers):
        yield from group(method, target())


def address(client: Client, pattern: str) -> str:
    """Fill a pattern in with a thread and a message that exist."""
    if "<" not in pattern:
        return pattern
    thread = client.expect("POST", "/threads")["id"]
    message_body = {"role": "user", "content": "x"}
    message = client.expect("POST", f"/threads/{thread}/messages", message_body)["id"]
    filled = pattern.replace("<thread_id>", thread).replace("<message_id>", message)
    return re.sub("<.*>", "swagger-ui.css", filled)


def fault_of(answer: bytes, case: Input, pattern: str) -> str:
    """Describe a wrong answer: its status, or an API error without the envelope."""
    head_, _, body = answer.partition(b"\r\n\r\n")
    match = STATUS.match(answer)
    status = int(match[1]) if match else 0
    if match and status not in case.allowed:
        return f"answered {status}"
    own = b"x-request-id" in head_ and pattern.startswith(("/threads", "/v1/threads"))
    if own and status >= 400 and body and not case.data.startswith(b"HEAD"):
        with suppress(ValueError, KeyError, TypeError):
            assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
            return ""
        return "no error envelope"
    return ""


# random bytes

SEEDS = [
    head("POST", "/v1/threads", f"{JSON}Content-Length: {len(GOOD)}\r\n") + GOOD,
    head("POST", "/v1/threads", CHUNKED) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    head("GET", "/v1/threads?limit=5&order=asc&metadata[k]=v&q=x", "Authorization: Bearer x\r\n"),
    head("GET", "/v1/threads/thread_x/messages?after=msg_1", "Connection: keep-alive\r\n") * 2,
    head("DELETE", "/v1/threads/thread_x/messages/msg_1", "Idempotency-Key: x\r\n"),
    head("GET", "/admin/?q=x", "Cookie: session=x\r\nRange: bytes=0-1\r\n"),
]
TOKENS = (
    *(b"\r\n", b"\0", b"\xff", b" ", b":", b"%", b"/" * 50, b"{" * 50, b"0\r\n\r\n", b"chunked"),
    *(b"HTTP/1.1", b"Content-Length: 9", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"),
)


def mutated(chance: random.Random) -> bytes:
    """A request with some of its bytes changed, cut, doubled or put in."""
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                data[at:at] = data[at : at + chance.randint(1, 40)]
            case 3:
                data[at:at] = chance.choice(TOKENS)
            case _:
                data[at:] = b""
    return bytes(data)


def memory_of(pids: set[int]) -> int:
    """The resident bytes of processes."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return sum(pages) * 4096


@pytest.mark.timeout(300)
def test_random_bytes_are_refused_and_harm_nothing(serve: Callable[..., Any]) -> None:
    chance, statuses = random.Random(7), Counter[int]()
    with serve(WORKERS=2) as server, closing(Client(server)) as client:
        for _ in range(50):
            exchange(server, SEEDS[0])
        workers, memory, began = server.workers(), memory_of(server.workers()), monotonic()
        while monotonic() - began < FUZZ_SECONDS:
            data = mutated(chance)
            answers = [int(status) for status in STATUS.findall(exchange(server, data))]
            statuses.update(answers)
            assert not {500, 502, 503, 504} & set(answers), data
        assert client.expect("GET", "/healthz") == {"status": "ok"}
        assert error_lines(server) == []
        assert server.workers() == workers
        growth = memory_of(workers) - memory
        assert growth < MOST_GROWTH
    print(f"{statuses.total()} answers {dict(statuses)}, {growth >> 20} MB more")


# slow clients

HALVES = (
    b"POST /v1/threads HTTP/1.1\r\nHost: loc",
    head("POST", "/v1/threads", f"{JSON}Content-Length: 100\r\n") + b'{"meta',
)


@pytest.mark.timeout(200)
@pytest.mark.skipif(not WHOLE, reason="tests/server/test_gunicorn.py has the short form")
def test_clients_that_never_end_hold_nobody_up_for_long(serve: Callable[..., Any]) -> None:
    with serve() as server, ExitStack() as stack:
        slowest, began = 0.0, monotonic()
        while monotonic() - began < SLOW_SECONDS:
            for half in HALVES * 4:  # two for each thread
                connection = stack.enter_context(socket.create_connection(server.address))
                connection.sendall(half)
            start = monotonic()
            assert ask(server, "POST", "/v1/threads")[0] == 200
            slowest = max(slowest, monotonic() - start)
        assert slowest < READ_SECONDS
        assert error_lines(server) == []
    print(f"slowest answer beside slow clients: {slowest:.1f} s")
