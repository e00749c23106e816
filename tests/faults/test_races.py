"""Many clients at once: pages under writers, dying threads, a lock that is not released."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any

import pytest
from conftest import until
from flask import Flask
from harness import WHOLE, Client, Load, ask, error_lines, rounds, stored, unexplained
from test_sqlite import HOLDERS, hold_lock

import database

MESSAGES = len(rounds(150, 1000))
OPERATIONS = len(rounds(400, 2000))
HELD_SECONDS = 30
ORPHANS = "SELECT count(*) FROM messages WHERE thread_seq NOT IN (SELECT seq FROM threads)"
BUSY_SECONDS = 6


@contextmanager
def in_background(work: Callable[[int, threading.Event], None], clients: int) -> Iterator[None]:
    """Let clients work in the background; raise at the end what one of them raised."""
    stop = threading.Event()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(work, number, stop) for number in range(clients)]
        try:
            yield
        finally:
            stop.set()
        for future in running:
            future.result()


@pytest.mark.timeout(300)
def test_pages_under_writers_show_each_surviving_message_once(
    serve: Callable[..., Any], database_url: str
) -> None:
    with (
        serve(WORKERS=2, DATABASE_URL=database_url) as server,
        closing(Client(server)) as client,
    ):
        address = f"/v1/threads/{client.expect('POST', '/v1/threads')['id']}/messages"
        messages = [{"role": "user", "content": str(number)} for number in range(MESSAGES)]
        initial = [client.expect("POST", address, message)["id"] for message in messages]
        doomed = initial[::5]
        lasting = [id_ for id_ in initial if id_ not in set(doomed)]

        def disturb(number: int, stop: threading.Event) -> None:
            chance, own = random.Random(number), doomed[number::4]
            with closing(Client(server)) as writer:
                while not stop.is_set():
                    if own and chance.random() < 0.5:
                        gone = own.pop(chance.randrange(len(own)))
                        assert writer.send("DELETE", f"{address}/{gone}")[0] in (200, 404)
                    else:
                        new = {"role": "user", "content": "new"}
                        own.append(writer.expect("POST", address, new)["id"])

        with in_background(disturb, clients=4):
            ascending = paged(client, address, "asc", set(doomed[::2]))
            descending = paged(client, address, "desc", set(doomed))
    assert [id_ for id_ in ascending if id_ in set(lasting)] == lasting
    assert [id_ for id_ in descending if id_ in set(lasting)] == lasting[::-1]
    assert max(Counter(ascending).values()) == max(Counter(descending).values()) == 1


def paged(client: Client, address: str, order: str, doomed: set[str]) -> list[str]:
    """Page with limit 7 as far as new rows follow; delete what is doomed while it is the cursor."""
    ids, after = [], ""
    while len(ids) < 3 * MESSAGES:
        page = client.expect("GET", f"{address}?limit=7&order={order}{after}")
        ids += [message["id"] for message in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
        if page["last_id"] in doomed:
            assert client.send("DELETE", f"{address}/{page['last_id']}")[0] in (200, 404)
    return ids


@pytest.mark.timeout(300)
def test_messages_on_dying_threads_are_stored_or_refused_and_never_orphans(
    serve: Callable[..., Any], database_url: str, app: Flask
) -> None:
    statuses: Counter[int] = Counter()
    with serve(WORKERS=2, DATABASE_URL=database_url) as server:
        threads = [ask(server, "POST", "/v1/threads")[2]["id"] for _ in range(OPERATIONS // 20)]

        def act(number: int, stop: threading.Event) -> None:
            chance, mine = random.Random(number), Counter[int]()
            messages: list[str] = []
            with closing(Client(server)) as client:
                for turn in range(OPERATIONS // 8):
                    address = f"/v1/threads/{threads[turn * 8 // 20 % len(threads)]}"
                    kind = chance.random()
                    if kind < 0.06:
                        answer = client.send("DELETE", address)
                    elif kind < 0.3 and messages:
                        answer = client.send("DELETE", messages.pop())
                    else:
                        message = {"role": "user", "content": "x"}
                        answer = client.send("POST", f"{address}/messages", message)
                        if answer[0] == 200:
                            messages.append(f"{address}/messages/{answer[2]['id']}")
                    mine[answer[0]] += 1
            statuses.update(mine)

        with in_background(act, clients=8):
            pass
    assert set(statuses) == {200, 404}
    assert statuses.total() == OPERATIONS // 8 * 8
    with app.app_context(), database.read() as connection:
        assert connection.value(ORPHANS) == 0
        assert connection.value("SELECT count(*) FROM threads") < len(threads)


@pytest.mark.skipif(not WHOLE, reason="tests/database/test_sqlite.py has the short form")
@pytest.mark.sqlite_only("the lock is on the file or its queue")
@pytest.mark.timeout(120)
@HOLDERS
def test_a_lock_that_is_not_released_is_503_within_six_seconds(
    serve: Callable[..., Any], tmp_path: Any, script: str
) -> None:
    url = f"sqlite:///{tmp_path / 'threads.db'}"
    with serve(WORKERS=2, WORKER_THREADS=8, DATABASE_URL=url) as server:
        thread = ask(server, "POST", "/v1/threads", {"metadata": {"tag": "kept", "turn": "0"}})[2]
        pause = threading.Event()
        with hold_lock(script, url) as let_go, Load(server) as load:
            began = monotonic()
            while monotonic() - began < HELD_SECONDS:
                assert ask(server, "GET", f"/v1/threads/{thread['id']}")[2] == thread
                pause.wait(0.1)
            assert load.acknowledged == 0
            let_go()
            assert until(lambda: load.acknowledged > 20)
        assert set(load.refusals) == {(503, "database_busy")}
        assert max(load.seconds) < BUSY_SECONDS
        assert load.failures == error_lines(server) == []
        states = stored(server)
        del states["kept"]
        assert unexplained(load.records, states) == []
