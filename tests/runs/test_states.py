"""The states of a run on PostgreSQL: writers of a run wait for each other, and none is refused."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from conftest import until
from flask.testing import FlaskClient
from runs_client import CALL, RunsClient, of

from players import pool

WAITERS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
def runs(client_with: Callable[..., FlaskClient]) -> RunsClient:
    return RunsClient(client_with(MOCK="on"))


@pytest.fixture
def writer(engine: str, database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The transaction of another process."""
    if engine != "postgres":
        pytest.skip("PostgreSQL only: SQLite lets one writer in at a time")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        yield connection


def has_waiter(database_url: str) -> bool:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        found = connection.execute(WAITERS).fetchone()
        return bool(found and found[0])


def test_an_expiry_waits_for_a_player_that_writes(
    runs: RunsClient, writer: psycopg.Connection[Any], database_url: str
) -> None:
    run = runs.waiting(runs.thread("Hello"), runs.assistant())
    writer.execute("UPDATE runs SET lease_end = lease_end")  # as a player keeps its lease
    runs.move_clock(600)
    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(runs.call, "GET", of(run))
        assert until(lambda: has_waiter(database_url))
        writer.execute("UPDATE run_steps SET usage = usage")
        writer.commit()
        assert answer.result().json["status"] == "expired"


@pytest.mark.parametrize("reply", [{"text": "Hi."}, {"text": "Hi.", "tool_calls": [CALL]}])
def test_a_player_waits_for_a_deletion_of_its_thread(
    runs: RunsClient,
    writer: psycopg.Connection[Any],
    database_url: str,
    reply: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs.reply({**reply, "delay_ms": 300})
    run = runs.wait(runs.run(runs.thread("Hello"), runs.assistant()), "in_progress")
    writer.execute("SELECT seq FROM threads FOR UPDATE")  # as a deletion does
    assert until(lambda: has_waiter(database_url))
    writer.execute("DELETE FROM threads")
    writer.commit()
    assert runs.call("GET", of(run)).status_code == 404
    assert until(lambda: not runs.client.application.extensions["players"]._plays)
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_a_reader_hears_of_an_expiry_that_comes_before_the_player(
    client_with: Callable[..., FlaskClient],
    writer: psycopg.Connection[Any],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 1000)
    runs = RunsClient(client_with(MOCK="on", RUNS=1))
    assistant, thread = runs.assistant(), runs.thread("next")
    address = f"/v1/threads/{thread}/runs"
    first = runs.slow(runs.thread("first"), assistant)
    runs.move_clock(-300)
    with ThreadPoolExecutor(1) as executor:
        body = {"assistant_id": assistant, "stream": True}
        stream = executor.submit(runs.call, "POST", address, body)
        assert until(lambda: bool(runs.get(address)["data"]))
        runs.move_clock(300)
        writer.execute("SELECT seq FROM threads WHERE id = %s FOR UPDATE", [thread])
        runs.cancel(first)
        assert until(lambda: has_waiter(database_url))
        writer.execute("UPDATE threads SET active_run = NULL WHERE id = %s", [thread])
        writer.execute(
            "UPDATE runs SET status = 'expired', expires_at = NULL, player = NULL"
            " WHERE status = 'queued'"
        )
        writer.commit()
        names = [line for line in stream.result().text.splitlines() if line[:6] == "event:"]
    assert names[-2:] == ["event: thread.run.expired", "event: done"]
