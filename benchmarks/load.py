"""Loads a server and says what a request cost: rate, latency, and CPU of its processes."""

import http.client
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer any"}


class Request(NamedTuple):
    """One request: method, path and body; `{n}` in a path is a random number below `range_`."""

    method: str
    path: str
    body: str = ""
    range_: int = 1


class Figures(NamedTuple):
    """What a run measured."""

    rate: float
    cpu: float
    p50: float
    p99: float


def measure(
    pids: Sequence[int],
    address: tuple[str, int],
    request: Request,
    connections: int,
    seconds: float,
) -> Figures:
    """Load one request for some seconds; return requests a second, server CPU microseconds a
    request (user + system of the processes and their children), and latencies in milliseconds."""
    generate = _wrk if shutil.which("wrk") else _python
    before = cpu_seconds(pids)
    count, elapsed, p50, p99 = generate(address, request, connections, seconds)
    spent = cpu_seconds(pids) - before
    done = max(1, count)
    return Figures(done / elapsed, spent / done * 1e6, p50, p99)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU seconds of processes and their living and reaped children."""
    return sum(_ticks(one) for one in family(pids)) / _TICKS


def family(pids: Sequence[int]) -> list[int]:
    """Return processes and all that descend from them."""
    found = list(pids)
    for one in found:
        for tasks in Path(f"/proc/{one}/task").iterdir():
            with suppress(FileNotFoundError):  # a thread may end at any moment
                found += map(int, (tasks / "children").read_text().split())
    return found


def memory_mb(pids: Sequence[int]) -> float:
    """Return the megabytes of a process family: shared pages are counted once (PSS)."""
    total = 0
    for one in family(pids):
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    return total / 1024


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))  # own and reaped, user and system


_SCRIPT = """
wrk.method = "%(method)s"
wrk.body = %(body)s
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer any"
local path = "%(path)s"
function setup(thread) thread:set("id", math.random(1000000)) end
function init(args) math.randomseed(id) end
function request()
  local number = string.format("%%024d", math.random(0, %(range)d - 1))
  return wrk.format(nil, (path:gsub("{n}", number)))
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %%d %%d %%f %%f %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def _wrk(
    address: tuple[str, int], request: Request, connections: int, seconds: float
) -> tuple[int, float, float, float]:
    values = {
        "method": request.method,
        "body": f"[==[{request.body}]==]" if request.body else "nil",
        "path": request.path,
        "range": request.range_,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % values)
        script.flush()
        url = f"http://{address[0]}:{address[1]}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", script.name, url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\S+) (\S+) (\S+) (\S+) (\S+)", output)
    assert found, output
    count, microseconds, p50, p99, errors = map(float, found.groups())
    assert not errors, f"{errors:.0f} failed requests of {request}\n{output}"
    return int(count), microseconds / 1e6, p50 / 1e3, p99 / 1e3


def _python(
    address: tuple[str, int], request: Request, connections: int, seconds: float
) -> tuple[int, float, float, float]:
    """Stand in for wrk: threads of this process, which costs the machine more."""

    def work(session: http.client.HTTPConnection) -> None:
        number = int.from_bytes(os.urandom(4)) % request.range_
        path = request.path.replace("{n}", f"{number:024d}")
        session.request(request.method, path, request.body or None, HEADERS)
        answer = session.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()

    return in_threads(address, work, connections, seconds)


def in_threads(
    address: tuple[str, int],
    work: Callable[[http.client.HTTPConnection], None],
    connections: int,
    seconds: float,
) -> tuple[int, float, float, float]:
    """Repeat some work on each connection; return count, seconds, p50 and p99 milliseconds."""
    times: list[float] = []
    end = time.monotonic() + seconds

    def run() -> None:
        session = http.client.HTTPConnection(*address)
        while (began := time.monotonic()) < end:
            work(session)
            times.append(time.monotonic() - began)
        session.close()

    started = time.monotonic()
    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - started
    return len(times), elapsed, *_percentiles(times)


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3
