"""kill -9 under eight writers: every acknowledged write is stored, and nothing else is."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Server, await_ready, launched, until
from harness import RESTART_SECONDS, WHOLE, Load, Record, ask, rounds, settle, stored, unexplained

from database import sqlite

ROUNDS = rounds(2, 20)
WRITES_A_ROUND = 300 if WHOLE else 100

pytestmark = pytest.mark.sqlite_only("the killed process has the database file open")


def serves(server: Server) -> bool:
    return ask(server, "GET", "/v1/threads?limit=1")[0] == 200


@contextmanager
def stopped(processes: set[int]) -> Iterator[None]:
    """Stop processes for a while, so that only the others answer."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@pytest.mark.timeout(300)
def test_kill_9_of_the_whole_server_loses_nothing_acknowledged(
    tmp_path: Path, database_url: str
) -> None:
    path, log = tmp_path / "threads.db", tmp_path / "log"
    settings = {"DATABASE_URL": database_url, "WORKERS": 2}
    records: list[Record] = []
    restarts, acknowledged = [], 0
    for turn in (*ROUNDS, "last"):
        began = time.monotonic()
        with launched(log, **settings) as process:
            server = await_ready(process, log)
            assert serves(server)
            restarts.append(time.monotonic() - began)
            states = stored(server)
            assert unexplained(records, states) == []
            settle(records, states)
            if turn == "last":
                break
            with Load(server) as load:
                assert until(lambda: load.acknowledged >= WRITES_A_ROUND)
                os.killpg(process.pid, signal.SIGKILL)
            records += load.records
            acknowledged += load.acknowledged
            assert not load.refusals
        process.wait()
        assert sqlite.faults_of(path) == []
    assert max(restarts[1:]) < RESTART_SECONDS
    print(f"{acknowledged} acknowledged, restart at most {max(restarts[1:]):.2f} s")


@pytest.mark.timeout(300)
def test_kill_9_of_one_worker_loses_nothing_acknowledged(tmp_path: Path, database_url: str) -> None:
    path, log = tmp_path / "threads.db", tmp_path / "log"
    settings = {"DATABASE_URL": database_url, "WORKERS": 2}
    replaced = []
    with launched(log, **settings) as process:
        server = await_ready(process, log, workers=2)
        with Load(server) as load:
            for _ in ROUNDS:
                enough = load.acknowledged + WRITES_A_ROUND
                assert until(lambda: load.acknowledged >= enough)  # noqa: B023
                before, began = server.workers(), time.monotonic()
                assert len(before) == 2
                os.kill(before.pop(), signal.SIGKILL)
                assert until(lambda: len(server.workers() - before) == 1)  # noqa: B023
                with stopped(before):
                    assert serves(server)
                replaced.append(time.monotonic() - began)
        assert unexplained(load.records, stored(server)) == []
        assert set(load.refusals) <= {(503, "database_busy")}
        server.stop()
    assert sqlite.faults_of(path) == []
    assert max(replaced) < RESTART_SECONDS
    print(f"{load.acknowledged} acknowledged, replaced within {max(replaced):.2f} s")
