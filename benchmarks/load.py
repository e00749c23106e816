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
_ENDED = (FileNotFoundError, ProcessLookupError)
"""A process or a thread ends at any moment."""
_ACCEPT_SECONDS, _LOOK_SECONDS = 2.0, 0.02
_Load = tuple[int, float, float, float]  # requests, seconds, p50 and p99 in milliseconds
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
    request (user + system of the processes and their children), and latencies in milliseconds.

    wrk's connections are opened again until each worker has as many: by chance one can have all.
    """
    generate, load = _wrk if shutil.which("wrk") else _python, None
    while not load:
        before = cpu_seconds(pids)
        load = generate(pids, address, request, connections, seconds)
    count, elapsed, p50, p99 = load
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
        for tasks in _entries(one, "task"):
            with suppress(*_ENDED):
                found += map(int, (tasks / "children").read_text().split())
    return found


def memory_mb(pids: Sequence[int]) -> float:
    """Return the megabytes of a process family: shared pages are counted once (PSS)."""
    total = 0
    for one in family(pids):
        with suppress(*_ENDED):
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    return total / 1024


def shares(pids: Sequence[int], port: int) -> list[int]:
    """Return how many connections to a port each of the processes that accept them has."""
    listening, connected = _sockets(port, "0A"), _sockets(port, "01")
    files = [_files(pid) for pid in family(pids)]
    found = [len(each & connected) for each in files if each & listening]
    return found[1:] or found  # the first of several only starts the others


def _sockets(port: int, state: str) -> set[str]:
    rows = map(str.split, Path("/proc/net/tcp").read_text().splitlines())
    return {
        f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == state
    }


def _files(pid: int) -> set[str]:
    found = set()
    for file in _entries(pid, "fd"):
        with suppress(*_ENDED):
            found.add(os.readlink(file))
    return found


def _entries(pid: int, folder: str) -> list[Path]:
    with suppress(*_ENDED):
        return [*Path(f"/proc/{pid}/{folder}").iterdir()]
    return []


def _is_even(pids: Sequence[int], port: int, connections: int) -> bool:
    """Wait until all connections are accepted; return whether each worker has its share."""
    deadline = time.monotonic() + _ACCEPT_SECONDS
    while sum(found := shares(pids, port)) < connections and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return sum(found) == connections and max(found) - min(found) <= 1


def _ticks(pid: int) -> int:
    with suppress(*_ENDED):  # its parent has its time then
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15]))  # own and reaped, user and system
    return 0


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
    pids: Sequence[int],
    address: tuple[str, int],
    request: Request,
    connections: int,
    seconds: float,
) -> _Load | None:
    """Return what wrk found, or None when the workers' shares of the connections differ."""
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
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout=30s"]
        command += ["-s", script.name, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            if not _is_even(pids, address[1], connections):
                return process.kill()
            output = process.communicate()[0]
    found = re.search(r"RESULT (\S+) (\S+) (\S+) (\S+) (\S+)", output)
    assert found, output
    count, microseconds, p50, p99, errors = map(float, found.groups())
    assert not errors, f"{errors:.0f} failed requests of {request}\n{output}"
    return int(count), microseconds / 1e6, p50 / 1e3, p99 / 1e3


def _python(
    pids: Sequence[int],
    address: tuple[str, int],
    request: Request,
    connections: int,
    seconds: float,
) -> _Load:
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
) -> _Load:
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
