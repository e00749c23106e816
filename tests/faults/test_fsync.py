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
SYNCED = re.compile(r"f(?:data)?sync(?:\(.*| resumed>.*)\) += 0$")

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


def syncs_before_answers(trace: Path) -> list[int]:
    """How many successful syncs lie between each write request and its 200."""
    counts, syncs = [], -1
    for line in trace.read_text().splitlines():
        if re.search(r'recvfrom\(.*"(POST|DELETE) /', line) or '"POST /' in line:
            syncs = 0
        elif SYNCED.search(line):
            syncs += syncs >= 0
        elif '"HTTP/1.1 200' in line and syncs >= 0:
            counts.append(syncs)
            syncs = -1
    return counts


def test_every_write_is_synced_before_its_answer(tmp_path: Path) -> None:
    """Seen to fail: with THREADS_DURABILITY=normal, as the next test shows."""
    require_strace()
    with traced(tmp_path) as (server, trace):
        sent = write(server)
    counts = syncs_before_answers(trace)
    print(f"{len(counts)} writes, syncs before each answer: {min(counts)} to {max(counts)}")
    assert len(counts) == sent
    assert min(counts) >= 1


@pytest.mark.skipif(not WHOLE, reason="explains, and protects nothing")
def test_normal_durability_answers_before_the_sync(tmp_path: Path) -> None:
    """The proof can fail: in the documented faster mode, answers do not wait."""
    require_strace()
    with traced(tmp_path, DURABILITY="normal") as (server, trace):
        sent = write(server)
    counts = syncs_before_answers(trace)
    assert len(counts) == sent
    assert counts.count(0) > sent // 2


def require_strace() -> None:
    require(shutil.which("strace"), "strace")
