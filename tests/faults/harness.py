"""Shared by the fault tests: two forms, a load that records what is acknowledged, a client.

`make test` runs the short form, `make test-faults` the whole one (FAULTS=whole).
"""

import http.client
import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from conftest import Server, give_up

WHOLE = os.environ.get("FAULTS") == "whole"
WRITERS = 8
RESTART_SECONDS = 2 if WHOLE else 10
INITIAL_MESSAGES = (0, 3, 7)
SECONDS_TO_ANSWER = 20
_LOADS = count()

State = tuple[int, tuple[str, ...]] | None
"""A thread as stored: how often it was modified, and its messages. None: there is no such thread"""


def rounds(short: int, whole: int) -> range:
    """Numbers to parametrise or loop over: few in `make test`, all in `make test-faults`."""
    return range(whole if WHOLE else short)


def require(available: object, reason: str) -> None:
    """Skip where a tool or a right is missing; on CI, where it must not be, fail."""
    if not available:
        give_up(f"needs {reason}")


class Client:
    """A plain HTTP client on one kept connection: quick, and it never retries."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=SECONDS_TO_ANSWER)

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Send text as it is and the rest as JSON; return status, headers (lower case) and body.

        Raises OSError and HTTPException.
        """
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        all_headers = {"Content-Type": "application/json", **headers}
        try:
            self._connection.request(method, path, data, all_headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        named = {name.lower(): value for name, value in response.getheaders()}
        is_json = named.get("content-type") == "application/json"
        return response.status, named, json.loads(content) if is_json else content

    def expect(self, method: str, path: str, body: Any = None) -> Any:
        """Return the body of an answer, which must be 200."""
        status, _, answer = self.send(method, path, body)
        assert status == 200, answer
        return answer

    def close(self) -> None:
        self._connection.close()


def ask(
    server: Server, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """Send one request on a connection of its own."""
    with closing(Client(server)) as client:
        return client.send(method, path, body, **headers)


@dataclass
class Record:
    """One thread of one writer: its acknowledged states, and the one not yet answered."""

    tag: str
    id: str = ""
    history: list[State] = field(default_factory=lambda: [None])
    pending: list[State] = field(default_factory=list)
    message_ids: list[str] = field(default_factory=list)


class Load:
    """Eight writers on separate threads, so that every stored state has one known writer."""

    def __init__(self, server: Server, writers: int = WRITERS) -> None:
        self._server, self._number = server, next(_LOADS)
        self._stop = threading.Event()
        self.records: list[Record] = []
        self.refusals: Counter[tuple[int, str | None]] = Counter()
        self.dropped = 0
        self.acknowledged = 0
        self.seconds: list[float] = []  # of each answer
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(writers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def marks(self) -> dict[str, int]:
        """How many states of each thread are acknowledged by now."""
        return {record.tag: len(record.history) for record in list(self.records)}

    def _write(self, number: int) -> None:
        with closing(Client(self._server)) as client:
            self._write_with(client, number)

    def _write_with(self, client: Client, number: int) -> None:
        chance = random.Random(number)
        own: list[Record] = []
        for turn in count():
            if self._stop.is_set():
                return
            try:
                self._step(chance, client, own, f"{self._number}-{number}-{turn}")
            except (OSError, http.client.HTTPException):
                self.dropped += 1
                own.clear()
                self._stop.wait(0.02)

    def _step(self, chance: random.Random, client: Client, own: list[Record], tag: str) -> None:
        if not own or chance.random() < 0.3:
            self._create(client, own, tag, chance.choice(INITIAL_MESSAGES))
            return
        record = chance.choice(own)
        turn, texts = record.history[-1] or (0, ())
        kind = chance.random()
        if kind < 0.15:
            own.remove(record)
            self._send(client, record, None, "DELETE", "")
        elif kind < 0.5:
            modified = {"metadata": {"tag": record.tag, "turn": str(turn + 1)}}
            self._send(client, record, (turn + 1, texts), "POST", "", modified)
        elif kind < 0.65 and record.message_ids:
            gone = (turn, texts[:-1])
            path = f"/messages/{record.message_ids[-1]}"
            if self._send(client, record, gone, "DELETE", path):
                record.message_ids.pop()
        else:
            message = {"role": "user", "content": tag}
            after = (turn, (*texts, tag))
            if added := self._send(client, record, after, "POST", "/messages", message):
                record.message_ids.append(added["id"])

    def _create(self, client: Client, own: list[Record], tag: str, messages: int) -> None:
        record = Record(tag)
        texts = tuple(f"{tag} {number}" for number in range(messages))
        body = {
            "metadata": {"tag": tag, "turn": "0"},
            "messages": [{"role": "user", "content": text} for text in texts],
        }
        self.records.append(record)
        if created := self._send(client, record, (0, texts), "POST", None, body):
            record.id = created["id"]
            own.append(record)

    def _send(
        self,
        client: Client,
        record: Record,
        after: State,
        method: str,
        path: str | None,
        body: Any = None,
    ) -> Any:
        """Send one change. A refusal changes nothing; a lost answer may have."""
        address = "/v1/threads" if path is None else f"/v1/threads/{record.id}{path}"
        record.pending = [after]
        began = time.monotonic()
        status, headers, answer = client.send(method, address, body)
        self.seconds.append(time.monotonic() - began)
        if status == 200:
            record.history.append(after)
            self.acknowledged += 1
        record.pending = []
        if status != 200:
            code = answer["error"]["code"] if isinstance(answer, dict) else None
            self.refusals[status, code] += 1
            if status == 500 or (status == 507) != (headers.get("x-should-retry") == "false"):
                self.failures.append(f"{status} {headers} {answer}")
            self._stop.wait(0.02)
            return None
        return answer


def stored(server: Server) -> dict[str, State]:
    """Every thread that the server has, by its tag, with all its messages."""
    states: dict[str, State] = {}
    status, _, export = ask(server, "GET", "/admin/threads/export?as=jsonl")
    assert status == 200, export
    for line in export.decode().splitlines():
        entry = json.loads(line)
        metadata = entry["thread"]["metadata"]
        if "tag" not in metadata:  # it is of no Load
            continue
        texts = tuple(message["content"][0]["text"]["value"] for message in entry["messages"])
        assert metadata["tag"] not in states
        states[metadata["tag"]] = (int(metadata["turn"]), texts)
    return states


def unexplained(
    records: list[Record], states: dict[str, State], marks: dict[str, int] | None = None
) -> list[str]:
    """Describe each thread that was lost, came back or is stored in part.

    With marks, later acknowledged writes may be stored or not: a copy has its own moment.
    """
    wrong = []
    for record in records:
        since = len(record.history) if marks is None else marks.get(record.tag, 1)
        allowed = record.history[since - 1 :] + record.pending
        if states.get(record.tag) not in allowed:
            wrong.append(f"{record.tag}: {states.get(record.tag)} is none of {allowed}")
    known = {record.tag for record in records}
    return wrong + [f"{tag}: nobody made it" for tag in states if tag not in known]


def settle(records: list[Record], states: dict[str, State]) -> None:
    """Treat what is stored as acknowledged: from now on it must stay."""
    for record in records:
        record.history, record.pending = [states.get(record.tag)], []


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of some megabytes, on which a disk can be full; unmounted afterwards."""
    require(os.geteuid() == 0, "root, to mount a tmpfs")
    folder.mkdir()
    require(
        run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder),
        "the right to mount",
    )
    try:
        yield folder
    finally:
        run("umount", "--lazy", folder)


def run(*command: str | Path) -> bool:
    """Run a command and tell whether it succeeded."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def error_lines(server: Server) -> list[str]:
    """The messages of the log's error lines, without requests."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line[:1] == "{"]
    return [line["message"] for line in lines if line.get("level") == "error"]
