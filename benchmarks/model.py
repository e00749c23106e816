"""What the server costs between a model's endpoint and the reader of a stream."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from benchmarks import contenders, runs
from benchmarks.contenders import Running
from benchmarks.load import Figures, Request, cpu_seconds, measure
from config import ROOT

RUNS, TOKENS_A_SECOND = 50, 20
_SHORT, _FAST, _STEADY = "50/2", "20000/0", "2000/1"
Address = tuple[str, int]


class Cost(NamedTuple):
    """Milliseconds to deltas and of a retrieval; CPU microseconds a token."""

    first_direct: float  # asked without this server
    first: float
    last_direct: float
    last: float
    cpu_fast: float  # tokens as fast as they come
    cpu_steady: float  # one each millisecond
    retrieve_p99_alone: float
    retrieve_p99: float  # beside RUNS runs


def cost(url: str, rounds: int, seconds: int) -> Cost:
    """Measure: `rounds` of one stream, then RUNS streams of some seconds."""
    with _endpoint() as there:
        settings = {"WORKERS": "1", "RUNS": str(RUNS), "MODEL_URL": f"http://127.0.0.1:{there[1]}"}
        with contenders.ours(url, MOCK="off", **settings) as one:
            return asyncio.run(_cost(one, there, rounds, seconds))


@contextmanager
def _endpoint() -> Iterator[Address]:
    command = [sys.executable, "-m", "benchmarks.endpoint"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield "127.0.0.1", int(process.stdout.readline())
        finally:
            process.kill()


async def _cost(one: Running, there: Address, rounds: int, seconds: int) -> Cost:
    direct, through = [], []
    for _ in range(rounds):
        direct.append(await _directly(there, _SHORT))
        through.append(await _through(one, _SHORT))
    cpu = [await _cpu(one, name) for name in (_FAST, _STEADY)]
    alone, beside = await _retrievals(one, seconds)
    times = [_median(found, place) for place in (0, -1) for found in (direct, through)]
    return Cost(*times, *cpu, alone.p99, beside.p99)


async def _cpu(one: Running, name: str) -> float:
    before = cpu_seconds(one.pids)
    count = len(await _through(one, name))
    return (cpu_seconds(one.pids) - before) / count * 1e6


async def _retrievals(one: Running, seconds: int) -> tuple[Figures, Figures]:
    """Retrieve a thread alone, then beside RUNS runs."""
    retrieve = Request("GET", f"/v1/threads/{runs.make_thread(one)}")

    async def load() -> Figures:
        length = max(1, seconds - 3)
        return await asyncio.to_thread(measure, one.pids, one.address, retrieve, 1, length)

    alone = await load()
    model = f"{seconds * TOKENS_A_SECOND}/{1_000 // TOKENS_A_SECOND}"
    readers = [asyncio.create_task(_through(one, model)) for _ in range(RUNS)]
    await asyncio.sleep(1)
    beside = await load()
    for deltas in await asyncio.gather(*readers):
        assert len(deltas) == seconds * TOKENS_A_SECOND
    return alone, beside


async def _directly(there: Address, model: str) -> list[float]:
    body = {"model": model, "messages": [], "stream": True}
    return await _deltas(there, "/chat/completions", body, b'"content"')


async def _through(one: Running, model: str) -> list[float]:
    body = {"assistant_id": runs.make_assistant(one), "thread": runs.THREAD}
    body |= {"model": model, "stream": True}
    return await _deltas(one.address, "/v1/threads/runs", body, b'"thread.message.delta"')


async def _deltas(address: Address, path: str, body: Any, mark: bytes) -> list[float]:
    """Return the milliseconds to each line of a stream that has a mark."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    began, found = time.perf_counter(), []
    writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + data)
    async for line in reader:
        if line.startswith(b"data: [DONE]"):
            break
        if mark in line:
            found.append((time.perf_counter() - began) * 1e3)
    writer.close()
    return found


def _median(found: list[list[float]], place: int) -> float:
    return statistics.median(times[place] for times in found)
