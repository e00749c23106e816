"""A 2xx is on disk: the kernel is asked to sync between the request and its answer."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import GUNICORN, Server, await_ready, launched
from harness import WHOLE, Client, require, rounds

WRITES = len(rounds(12, 52))
SYSCALLS = "recvfrom,sendto,fdatasync,fsync"
STRACE = ["strace", "-f", "-y", "-s", "16", "-e", f"trace={SYSCALLS}"]
SYNC = re.compile(r"^(\d+) +f(?:data)?sync\(\d+<[^>]*/threads\.db(?:-wal)?>")
SYNCED = re.compile(r"^(\d+) +(?:f(?:data)?sync\(|<\.\.\. f(?:data)?sync resumed>).*\) += 0$")

pytestmark = pytest.mark.sqlite_only("PostgreSQL's own processes write and sync its log")


@contextmanager
def traced(folder: Path, **settings: str) -> Iterator[tuple[Server, Path]]:
    """A server under strace, and the file with the trace."""
    trace = folder / "trace"
    command = [*STRACE, "-o", str(trace), *GUNICORN]
    url = f"sqlite:///{folder / 'threads.db'}"
    with launched(folder / "log", command, DATABASE_URL=url, **settings) as process:
        yield await_ready(process, folder / "log"), trace


def write(server: Server) -> int:
    """Send writes of every kind, one after another; return how many there were."""
    with closing(Client(server)) as client:
        for turn in range(WRITES // 4):
            body = {"messages": [{"role": "user", "content": str(turn)}]}
            address = f"/v1/threads/{client.expect('POST', '/v1/threads', body)['id']}"
            client.expect("POST", f"{address}/messages", {"role": "user", "content": "x"})
            client.expect("POST", address, {"metadata": {"turn": str(turn)}})
            client.expect("DELETE", address)
    return WRITES // 4 * 4


def syncs_before_answers(trace: str) -> list[int]:
    """How many successful syncs of database or log lie between each write request and its 200."""
    counts, syncs, ours = [], -1, set()
    for line in trace.splitlines():
        if begun := SYNC.match(line):
            ours.add(begun[1])
        if re.search(r'recvfrom\(.*"(POST|DELETE) /', line) or '"POST /' in line:
            syncs = 0
        elif (ended := SYNCED.match(line)) and ended[1] in ours:
            ours.remove(ended[1])
            syncs += syncs >= 0
        elif '"HTTP/1.1 200' in line and syncs >= 0:
            counts.append(syncs)
            syncs = -1
    return counts


@pytest.mark.parametrize(
    ("name", "count"), [("threads.db", 2), ("threads.db-wal", 2), ("threads.db-queue", 0), ("x", 0)]
)
def test_syncs_of_database_and_log_alone_are_counted(name: str, count: int) -> None:
    trace = f"""
7 recvfrom(9<socket:[1]>, "POST /v1/threads"..., 8192, 0, NULL, NULL) = 99
7 fdatasync(5</tmp/{name}> <unfinished ...>
8 fsync(6</tmp/other>) = 0
7 <... fdatasync resumed>) = 0
7 fsync(5</tmp/{name}>) = 0
7 fsync(5</tmp/{name}>) = -1 EIO (Input/output error)
7 sendto(9<socket:[1]>, "HTTP/1.1 200 OK"..., 99, 0, NULL, 0) = 99
"""
    assert syncs_before_answers(trace) == [count]


def test_every_write_is_synced_before_its_answer(tmp_path: Path) -> None:
    require_strace()
    with traced(tmp_path) as (server, trace):
        writes = write(server)
    counts = syncs_before_answers(trace.read_text())
    print(f"{len(counts)} writes, syncs before each answer: {min(counts)} to {max(counts)}")
    assert len(counts) == writes
    assert min(counts) >= 1


@pytest.mark.skipif(not WHOLE, reason="explains, and protects nothing")
def test_normal_durability_answers_before_the_sync(tmp_path: Path) -> None:
    """The proof can fail: in the documented faster mode, answers do not wait."""
    require_strace()
    with traced(tmp_path, DURABILITY="normal") as (server, trace):
        writes = write(server)
    counts = syncs_before_answers(trace.read_text())
    assert len(counts) == writes
    assert counts.count(0) > writes // 2


def require_strace() -> None:
    require(shutil.which("strace"), "strace")
