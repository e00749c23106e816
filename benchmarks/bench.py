"""`make bench`: measures everything that docs/performance.md says, and writes it."""

import argparse
import http.client
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import contenders, data, floor, model, report, runs
from benchmarks.contenders import Running
from benchmarks.load import (
    HEADERS,
    Figures,
    Request,
    cpu_seconds,
    in_threads,
    measure,
    memory_mb,
)
from config import ROOT
from database import sqlite
from tests import clusters

TEXT = "Hello, how are you? I would like to know what the weather will be tomorrow in my town."
MESSAGE = {"role": "user", "content": TEXT}
ONE_PAIR = json.dumps({"metadata": {"user": "u1"}})
THREE_MESSAGES = json.dumps({"messages": [MESSAGE] * 3})
SIZE = 1_000
GROWTH = (1_000, 100_000, 1_000_000)
QUICK_GROWTH = (1_000, 10_000)
_PACKAGES = ("gunicorn", "Flask", "SQLAlchemy")


def workloads(threads: int) -> dict[str, Request]:
    """Return the requests of each workload on a database of benchmarks.data."""
    one = "/v1/threads/thread_{n}"
    middle = threads // 2
    second = data.FIRST_SECOND + middle * data.SECONDS_APART
    dates = f"created_after={second - 1}&created_before={second + 10 * data.SECONDS_APART}"
    full = "/v1/threads/thread_full/messages"
    after = f"thread_{threads // 10:024d}"
    common, twentieth = "/admin/?q=weather", f"thread_{threads - 19:024d}"
    return {
        "retrieve a thread": Request("GET", one, range_=threads),
        "create, one metadata pair": Request("POST", "/v1/threads", ONE_PAIR),
        "append a message": Request("POST", f"{one}/messages", json.dumps(MESSAGE), threads),
        "create with 3 messages": Request("POST", "/v1/threads", THREE_MESSAGES),
        "modify a thread": Request("POST", one, ONE_PAIR, threads),
        "list 20 messages": Request("GET", full),
        "list 100 messages": Request("GET", f"{full}?limit=100"),
        "list 20 threads": Request("GET", "/v1/threads"),
        "list 20 threads by activity": Request("GET", "/v1/threads?sort=last_active_at"),
        "page after 90 % of threads": Request("GET", f"/v1/threads?after={after}"),
        "filter by metadata": Request("GET", f"/v1/threads?metadata[user]=u{middle // 10}"),
        "range of dates": Request("GET", f"/v1/threads?{dates}"),
        "search a rare word": Request("GET", f"/v1/threads?q=rare{middle // 10}"),
        "search a word of every message": Request("GET", "/v1/threads?q=weather&limit=20"),
        "browse page: list by activity": Request("GET", "/admin/"),
        "browse page: list by creation": Request("GET", "/admin/?sort=created_at"),
        "browse page: search": Request("GET", f"/admin/?q=rare{middle // 10}"),
        "browse page: search a word of every message": Request("GET", common),
        "browse page: page 2 of that search": Request("GET", f"{common}&after={twentieth}"),
        "browse page: 50 messages shown before": Request("GET", "/admin/threads/thread_full"),
        "browse page: 10 messages at first sight": Request("GET", f"/admin{one[3:]}", "", threads),
    }


def session_of_a_chat(connection: http.client.HTTPConnection) -> None:
    """Create, four appends, two lists, modify, delete: nine requests."""

    def call(method: str, path: str, body: Any = None) -> Any:
        connection.request(method, path, body and json.dumps(body), HEADERS)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())

    path = f"/v1/threads/{call('POST', '/v1/threads', {'metadata': {'user': 'u1'}})['id']}"
    for turn in range(4):
        call("POST", f"{path}/messages", MESSAGE)
        if turn % 2:
            call("GET", f"{path}/messages")
    call("POST", path, {"metadata": {"user": "u2"}})
    call("DELETE", path)


class Bench:
    """One run: its folder, its length, and what it found."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self.rounds, self.seconds = (1, 1.0) if quick else (5, 3.0)
        self.growth, self.growth_rounds = (QUICK_GROWTH, 1) if quick else (GROWTH, 5)

    def compare(self, running: list[Running], connections: int, size: int) -> dict[str, Any]:
        """Measure the contenders in turn, several rounds; return medians by workload and name.

        The peers come first, then this server and its ceiling; append follows create: a machine
        drifts, and least between what stands side by side.
        """
        runs: dict[tuple[str, str], list[Figures]] = {
            (name, one.name): [] for name in workloads(size) for one in running
        }
        for number in range(self.rounds):
            for name, request in workloads(size).items():
                for one in reversed(running):
                    if not (asked := _for_contender(one.name, name, request)):
                        continue
                    _tell(f"round {number + 1}: {name}, {connections} connections, {one.name}")
                    runs[name, one.name].append(
                        measure(one.pids, one.address, asked, connections, self.seconds)
                    )
        return {key: _median(figures) for key, figures in runs.items() if figures}

    def grow(self) -> tuple[dict[tuple[str, int], Figures], list[dict[str, Any]]]:
        """Measure every workload on databases of growing size."""
        paths = {size: self._database(size) for size in self.growth}
        runs: dict[tuple[str, int], list[Figures]] = defaultdict(list)
        facts = [
            {"threads": size, "bytes": _bytes(path), "seconds": seconds}
            for size, (path, seconds) in paths.items()
        ]
        with ExitStack() as stack:
            servers = {
                size: stack.enter_context(contenders.ours(f"sqlite:///{path}"))
                for size, (path, _) in paths.items()
            }
            for number in range(self.growth_rounds):
                for path, _ in paths.values():
                    _read(path)
                for name in workloads(1_000):
                    for size, one in servers.items():
                        _tell(f"round {number + 1}: {name}, {size:,} threads")
                        request = workloads(size)[name]
                        runs[name, size].append(
                            measure(one.pids, one.address, request, 8, self.seconds)
                        )
        return {key: _median(figures) for key, figures in runs.items()}, facts

    def _database(self, size: int) -> tuple[Path, float]:
        path = self.folder / f"{size}.db"
        started = time.monotonic()
        if not path.exists():
            data.fill(f"sqlite:///{path}", size)
        return path, time.monotonic() - started

    def memory(self, requests: int) -> list[tuple[int, float]]:
        """Return the server's megabytes after some requests, a few times on the way."""
        with contenders.ours(f"sqlite:///{self._database(1_000)[0]}") as one:
            found = [(0, memory_mb(one.pids))]
            served = 0
            request = Request("GET", "/v1/threads/thread_{n}", range_=1_000)
            create = Request("POST", "/v1/threads", ONE_PAIR)
            while served < requests:
                for each in (request, create):
                    rate = measure(one.pids, one.address, each, 8, self.seconds).rate
                    served += int(rate * self.seconds)
                found.append((served, memory_mb(one.pids)))
                _tell(f"memory after {served:,} requests: {found[-1][1]:.0f} MB")
        return found

    def imported(self, threads: int) -> dict[str, float]:
        """Measure `flask import` of so many threads: messages a second, megabytes, file size."""
        dump, target = self.folder / "threads.jsonl", self.folder / "imported.db"
        target.unlink(missing_ok=True)
        _flask(self._database(threads)[0], "export", "--output", str(dump))
        started = time.monotonic()
        megabytes = _flask(target, "import", str(dump))
        seconds = time.monotonic() - started
        messages = threads * data.MESSAGES + data.FULL_MESSAGES
        return {
            "messages": messages,
            "rate": messages / seconds,
            "megabytes": megabytes,
            "bytes": _bytes(target) / messages,
        }

    def polled_runs(self) -> dict[str, Figures]:
        """Measure runs that eight clients and one client poll."""
        with contenders.ours(f"sqlite:///{self.folder}/runs.db", WORKERS="1") as one:
            found = {
                "eight clients": runs.polled(one, self.seconds * 2),
                "one client": runs.polled(one, self.seconds * 2, 1),
            }
        if clusters.BINARIES and self.rounds > 2:
            with contenders.on_postgres(1_000, WORKERS="1") as one:
                found["eight clients, PostgreSQL"] = runs.polled(one, self.seconds * 2)
        return found

    def chat(self) -> Figures:
        """Measure sessions of a chat with eight clients; figures are per request."""
        with contenders.ours(f"sqlite:///{self.folder}/chat.db") as one:
            before = cpu_seconds(one.pids)
            length = self.seconds * 3
            count, seconds, p50, p99 = in_threads(one.address, session_of_a_chat, 8, length)
            spent = cpu_seconds(one.pids) - before
        return Figures(count * 9 / seconds, spent / count / 9 * 1e6, p50 / 9, p99 / 9)


def _bytes(path: Path) -> int:
    """Return the size of a database file and of what is still in its log."""
    wal = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)


def _read(path: Path) -> None:
    """Have a file in memory: kernels take pages back that were not used for a minute."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _flask(database: Path, *arguments: str) -> float:
    """Run a command on a database file; return the most memory it held, in megabytes."""
    environment = os.environ | {"THREADS_DATABASE_URL": f"sqlite:///{database}"}
    command = [sys.executable, "-m", "flask", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return usage.ru_maxrss / 1024


def _for_contender(contender: str, workload: str, request: Request) -> Request | None:
    """Return a workload as a contender knows it, or None where it has none."""
    if contender in (contenders.OURS, contenders.ON_POSTGRES):
        return request
    reads, writes = workload.startswith("retrieve"), workload.startswith("create, one")
    if not (reads or writes):
        return None
    if contender == "json-server":
        path = "/threads/1" if reads else "/threads"
        return Request(request.method, path, request.body)
    if contender == "myla":
        return request._replace(path="/api/v1/threads/thread_1" if reads else "/api/v1/threads")
    if contender == "Prism":
        return request._replace(path=request.path.removeprefix("/v1"))
    return request


def _median(figures: list[Figures]) -> Figures:
    return Figures(*(statistics.median(column) for column in zip(*figures, strict=True)))


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def _started(folder: Path, quick: bool, peers: bool) -> Iterator[list[Running]]:
    with ExitStack() as stack:
        running = [
            stack.enter_context(contenders.bare()),
            stack.enter_context(contenders.ours(f"sqlite:///{folder}/compared.db")),
        ]
        if clusters.BINARIES and not quick:
            running.append(stack.enter_context(contenders.on_postgres(SIZE)))
        if peers:
            running.append(stack.enter_context(contenders.json_server(folder / "json-server")))
            running.append(stack.enter_context(contenders.prism(folder / "prism")))
            running.append(stack.enter_context(contenders.myla(folder / "myla")))
        yield running


def main() -> None:
    given = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it leaves no server behind
    with tempfile.TemporaryDirectory(dir=given.folder and given.folder.parent) as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        result = _measured(folder, given.quick, given.peers)
    text = report.as_markdown(result)
    print(text)
    if given.write:
        report.write(text, result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes, small databases")
    parser.add_argument("--peers", action="store_true", help="also json-server, Prism and myla")
    parser.add_argument("--folder", type=Path, help="keep the databases here")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    return parser.parse_args()


def _measured(folder: Path, quick: bool, peers: bool) -> dict[str, Any]:
    """Return the figures of the whole report, by section."""
    bench, compared = Bench(folder, quick), folder / "compared.db"
    result: dict[str, Any] = {"machine": _machine(), "quick": quick}
    if not compared.exists():
        data.fill(f"sqlite:///{compared}", SIZE)
    with _started(folder, quick, peers) as running:
        result["eight"] = bench.compare(running, 8, SIZE)
        result["one"] = {} if quick else bench.compare(running[:2], 1, SIZE)
    streams, behind = f"sqlite:///{folder}/streams.db", f"sqlite:///{folder}/model.db"
    result["runs"] = bench.polled_runs()
    result["streams"] = runs.many_streams(streams, 5 if quick else 30)
    result["model"] = model.cost(behind, *((10, 4) if quick else (100, 30)))
    result["start"] = contenders.seconds_to_start(f"sqlite:///{compared}")
    result["floor"] = floor.measure(folder / "floor.db", 500 if quick else 3_000)
    result["chat"] = bench.chat()
    result["growth"], result["files"] = bench.grow()
    result["import"] = bench.imported(bench.growth[0 if quick else 1])
    result["memory"] = bench.memory(5_000 if quick else 100_000)
    return result


def _machine() -> dict[str, str]:
    model = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "on": f"{datetime.now(UTC):%Y-%m-%d}",
        "with": f"{os.cpu_count()} cores of {model or platform.machine()}",
        "Linux": platform.release(),
        "Python": platform.python_version(),
        "SQLite": sqlite.dbapi.sqlite_version,
        **versions,
    }


if __name__ == "__main__":
    main()
