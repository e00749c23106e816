"""All that may hold a server up, at random, beside honest clients: they lose nothing."""

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, until
from harness import WHOLE, WRITERS, Client, Load, stored, unexplained

SECONDS = 600
ATTACKERS = 4
PAUSE_SECONDS = 1
MOST_STALLED = 400
MOST_GROWTH = 50 << 20
POST = b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
STALLS = (b"", POST[:30], POST + b"Content-Length: 100\r\n\r\n{", POST + b"Content-Length: 9000000")


def bodies() -> dict[str, bytes]:
    """Bodies that cost much, or would."""
    keys = ",".join(f'"key{number}":1' for number in range(20_000))
    message = {"role": "user", "content": "word " * 5_000}
    table = "|a" * 4_000 + "\n" + "|-" * 4_000
    return {
        "keys": f'{{{keys},"key0":2}}'.encode(),
        "zeros": b'{"messages":[' + b"0," * 400_000 + b"0]}",
        "lists": b'{"messages":[' + b"[]," * 400_000 + b"[]]}",
        "large": json.dumps({"messages": [message] * 40}).encode(),
        "table": json.dumps({"messages": [{"role": "user", "content": table}]}).encode(),
    }


class Attack:
    """One attacker: every second something else, until it stops."""

    def __init__(self, server: Server, number: int, thread: str) -> None:
        self._server, self._chance, self._thread = server, random.Random(number), thread
        self._stop = threading.Event()
        self._stalled: list[socket.socket] = []
        self._bodies = list(bodies().values())
        self.failures: list[str] = []
        self._runner = threading.Thread(target=self._run)

    def __enter__(self) -> "Attack":
        self._runner.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._runner.join()
        for each in self._stalled:
            each.close()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS * self._chance.random()):
            step = self._chance.choice((self._stall, self._stall, self._send, self._read))
            with suppress(OSError):
                step()

    def _stall(self) -> None:
        data = self._chance.choice((*STALLS, self._get(f"/v1/threads/{self._thread}/messages")))
        for _ in range(10):
            client = socket.create_connection(self._server.address, timeout=30)
            client.sendall(data)
            self._stalled.append(client)
        for each in self._stalled[: -MOST_STALLED // ATTACKERS]:
            each.close()
        del self._stalled[: -MOST_STALLED // ATTACKERS]

    def _send(self) -> None:
        self._make("/v1/threads", self._chance.choice(self._bodies))

    def _read(self) -> None:
        paths = ("/v1/threads?q=word", f"/admin/threads/{self._thread}", "/metrics", "/admin/?q=a")
        path = self._chance.choice((*paths, ""))
        if path:
            self._ask("GET", path)
        else:
            self._make(f"/v1/threads/{self._thread}/copy")

    def _make(self, path: str, body: bytes | None = None) -> None:
        """Make a thread, if it is not refused, and delete it."""
        made = self._ask("POST", path, body)
        if "id" in made:
            self._ask("DELETE", f"/v1/threads/{made['id']}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        with closing(Client(self._server)) as client:
            status, _, answer = client.send(method, path, body and body.decode())
        if status >= 500 and status != 503:
            self.failures.append(f"{method} {path} {status} {answer}")
        return answer

    @staticmethod
    def _get(path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def memory(server: Server) -> int:
    """Return the bytes of the workers' memory."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in server.workers()]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) * 1024


def large_thread(server: Server) -> str:
    """Store a thread whose list of messages is 5 MB; return its id."""
    with server.sdk() as sdk:
        thread = sdk.beta.threads.create().id
        for _ in range(20):
            sdk.beta.threads.messages.create(thread, role="user", content="word " * 50_000)
    return thread


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 99 // 100] * 1000


@contextmanager
def attacked(server: Server, thread: str) -> Iterator[list[Attack]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Attack(server, each, thread)) for each in range(ATTACKERS)]


@pytest.mark.timeout(900)
@pytest.mark.skipif(not WHOLE, reason="tests/server/test_worker.py has the short forms")
def test_an_attack_of_all_kinds_loses_nothing(serve: Callable[..., Any], database_url: str) -> None:
    with serve(WORKERS=2, DATABASE_URL=database_url) as server:
        thread = large_thread(server)
        with Load(server, WRITERS) as idle:
            assert until(lambda: idle.acknowledged > 10_000, seconds=60)
        before = memory(server)
        with Load(server, WRITERS) as load, attacked(server, thread) as attacks:
            threading.Event().wait(SECONDS)
        assert [failure for each in attacks for failure in each.failures] == []
        assert load.failures == []
        assert set(load.refusals) <= {(503, "database_busy")}
        records = idle.records + load.records
        assert unexplained(records, stored(server)) == []
        print(
            f"{load.acknowledged} acknowledged, {load.refusals}, "
            f"p99 {p99(idle.seconds):.1f} ms alone, {p99(load.seconds):.1f} ms attacked, "
            f"memory {before >> 20} MB before, {memory(server) >> 20} MB after"
        )
        assert until(lambda: memory(server) - before < MOST_GROWTH, seconds=60)
