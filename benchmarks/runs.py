"""Runs that the script plays: polled by eight clients, and many streams at once."""

import asyncio
import http.client
import json
import statistics
import time
import urllib.request
from typing import Any, NamedTuple

from benchmarks import contenders
from benchmarks.contenders import Running
from benchmarks.load import HEADERS, Figures, Request, cpu_seconds, in_threads, measure, memory_mb

STREAMS, EVENTS_A_SECOND = 100, 20
PIECE = 5
THREAD = {"messages": [{"role": "user", "content": "Hello, how are you?"}]}
_POLL_SECONDS = 0.02


class Streams(NamedTuple):
    """What many streams at once came to; times are in milliseconds."""

    events: int
    rate: float
    fastest: float
    first_p50: float
    retrieve_p99_alone: float
    retrieve_p99: float
    megabytes: float


def polled(one: Running, seconds: float, clients: int = 8) -> Figures:
    """Measure runs from their creation to the list of messages; figures are per run."""
    assistant = make_assistant(one)
    body = json.dumps({"assistant_id": assistant, "thread": THREAD})

    def work(connection: http.client.HTTPConnection) -> None:
        def call(method: str, path: str, body: str | None = None) -> Any:
            connection.request(method, path, body, HEADERS)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            return json.loads(answer.read())

        run = call("POST", "/v1/threads/runs", body)
        path = f"/v1/threads/{run['thread_id']}"
        run = call("GET", f"{path}/runs/{run['id']}")
        while run["status"] != "completed":
            time.sleep(_POLL_SECONDS)  # as the SDK does
            run = call("GET", f"{path}/runs/{run['id']}")
        assert len(call("GET", f"{path}/messages")["data"]) == 2

    before = cpu_seconds(one.pids)
    count, elapsed, p50, p99 = in_threads(one.address, work, clients, seconds)
    return Figures(count / elapsed, (cpu_seconds(one.pids) - before) / count * 1e6, p50, p99)


def many_streams(url: str, seconds: int) -> Streams:
    """Read STREAMS streams at once, and retrieve a thread meanwhile. Each has all its events."""
    settings = {"WORKERS": "1", "RUNS": str(STREAMS)}
    with contenders.ours(url, **settings) as one:
        retrieve = Request("GET", f"/v1/threads/{make_thread(one)}")
        alone = measure(one.pids, one.address, retrieve, 1, 3)
        memory = memory_mb(one.pids)
        first, fastest = asyncio.run(_first_event(one)), asyncio.run(_fastest(one))
        _script(one, seconds * EVENTS_A_SECOND, 1_000 // EVENTS_A_SECOND)
        text = _text(seconds * EVENTS_A_SECOND)
        found = asyncio.run(_read_beside(one, retrieve, alone, memory, text, seconds))
        return found._replace(first_p50=first, fastest=fastest)


async def _first_event(one: Running) -> float:
    """Return the median of the milliseconds to the first event of one stream alone."""
    _script(one, 10, 0)
    assistant = make_assistant(one)
    found = [await _read(one.address, assistant, _text(10)) for _ in range(30)]
    return statistics.median(first for _, first in found)


async def _fastest(one: Running) -> float:
    """Return the events a second of a few streams whose script does not wait."""
    _script(one, 2_000, 0)
    assistant, began = make_assistant(one), time.monotonic()
    found = await asyncio.gather(*(_read(one.address, assistant, _text(2_000)) for _ in range(8)))
    return sum(count for count, _ in found) / (time.monotonic() - began)


async def _read_beside(
    one: Running, retrieve: Request, alone: Figures, memory: float, text: str, seconds: int
) -> Streams:
    assistant, began = make_assistant(one), time.monotonic()
    readers = [asyncio.create_task(_read(one.address, assistant, text)) for _ in range(STREAMS)]
    await asyncio.sleep(2)
    loaded = await asyncio.to_thread(
        measure, one.pids, one.address, retrieve, 1, max(1, seconds - 5)
    )
    most = memory_mb(one.pids)
    found = await asyncio.gather(*readers)
    events = sum(count for count, _ in found)
    rate = events / (time.monotonic() - began)
    return Streams(events, rate, 0, 0, alone.p99, loaded.p99, most - memory)


async def _read(address: tuple[str, int], assistant: str, text: str) -> tuple[int, float]:
    """Read a stream; return its number of events, and the milliseconds to the first one."""
    body = json.dumps({"assistant_id": assistant, "thread": THREAD, "stream": True})
    reader, writer = await asyncio.open_connection(*address)
    head = f"POST /v1/threads/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    began = time.monotonic()
    writer.write(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
    count, first, said = 0, 0.0, ""
    async for line in reader:
        if line.startswith(b"event: "):
            first = first or (time.monotonic() - began) * 1e3
            count += 1
        elif b'"thread.message.delta"' in line:
            delta = json.loads(line.removeprefix(b"data: "))["delta"]
            said += delta["content"][0]["text"]["value"]
        elif line.startswith(b"data: [DONE]"):
            break
    writer.close()
    assert said == text, "events are lost or out of order"
    return count, first


def _text(pieces: int) -> str:
    return "".join(f"{number:0{PIECE}d}" for number in range(pieces))


def _script(one: Running, pieces: int, milliseconds: int) -> None:
    reply = {"text": _text(pieces), "chunk_characters": PIECE, "chunk_ms": milliseconds}
    _call(one, "PUT", "/_mock/replies", {"rules": [{"replies": [reply]}]})


def make_assistant(one: Running) -> str:
    return str(_call(one, "POST", "/v1/assistants", {"model": "m"})["id"])


def make_thread(one: Running) -> str:
    return str(_call(one, "POST", "/v1/threads", {})["id"])


def _call(one: Running, method: str, path: str, body: Any) -> Any:
    url = f"http://{one.address[0]}:{one.address[1]}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), HEADERS, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())
