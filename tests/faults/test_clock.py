"""The clock jumps, a day back and ten years on: order, paging, keys and sign-ins behave."""

import re
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, until
from harness import Client, ask, require, rounds

OFFSETS = ("+0", "-1d", "+10y", "-1d", "+0") * len(rounds(1, 4))
LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib")
SLEEP = "import select, time; time.sleep = lambda seconds: select.select([], [], [], seconds)"
WRITES = 6
SECONDS_OF = {"+0": 0, "-1d": -86_400, "+10y": 315_360_000}

Clock = Callable[[Server, str], None]


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set the clock of servers that are started from now on, while they run."""
    found = [
        path for folder in LIBRARIES if (path := Path(folder, "faketime/libfaketime.so.1")).exists()
    ]
    require(found, "libfaketime (the Debian package faketime)")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(found[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("NO_FAKE_STAT", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    # libfaketime 0.9.10 breaks clock_nanosleep, by which Python sleeps.
    (tmp_path / "sitecustomize.py").write_text(SLEEP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    known = []

    def jump(server: Server, by: str) -> None:
        known.append(now(server) if not known else known[0])
        offset.write_text(by)
        assert until(lambda: abs(now(server) - known[0] - SECONDS_OF[by]) < 7200)

    return jump


def now(server: Server) -> int:
    """The server's own clock, as its log has it."""
    ask(server, "GET", "/healthz")
    stamps = re.findall(r'"time":"([^"]+)"', server.log.read_text())
    return int(datetime.fromisoformat(stamps[-1]).timestamp())


@pytest.mark.timeout(200)
def test_order_and_paging_do_not_depend_on_the_clock(
    serve: Callable[..., Any], database_url: str, clock: Clock
) -> None:
    with serve(DATABASE_URL=database_url) as server, closing(Client(server)) as client:
        address = f"/v1/threads/{client.expect('POST', '/v1/threads')['id']}/messages"
        messages, threads = [], []
        for offset in OFFSETS:
            clock(server, offset)
            for _ in range(WRITES):
                message = {"role": "user", "content": offset}
                messages.append(client.expect("POST", address, message)["id"])
                threads.append(client.expect("POST", "/v1/threads", {})["id"])
        assert paged(client, address, "asc") == messages
        assert paged(client, address, "desc") == messages[::-1]
        page = paged(client, "/v1/threads", "asc")
        assert page == paged(client, "/v1/threads", "desc")[::-1]
        assert sorted(page) == sorted({*threads, address.split("/")[3]})


def paged(client: Client, address: str, order: str) -> list[str]:
    ids, after = [], ""
    while True:
        page = client.expect("GET", f"{address}?limit=7&order={order}{after}")
        ids += [entry["id"] for entry in page["data"]]
        if not page["has_more"]:
            return ids
        after = f"&after={page['last_id']}"


@pytest.mark.timeout(200)
def test_keys_and_idempotency_follow_the_clock_both_ways(
    serve: Callable[..., Any], database_url: str, clock: Clock, new_key: Callable[..., str]
) -> None:
    lasting, passing = new_key("default"), new_key("default", "--expires", "1h")
    with serve(DATABASE_URL=database_url) as server:

        def status(key: str) -> int:
            return ask(server, "GET", "/v1/threads", Authorization=f"Bearer {key}")[0]

        for offset, wanted in (("+0", 200), ("-1d", 200), ("+10y", 401), ("+0", 200)):
            clock(server, offset)
            assert (offset, status(lasting), status(passing)) == (offset, 200, wanted)
        once = {"Authorization": f"Bearer {lasting}", "Idempotency-Key": "once"}
        first = ask(server, "POST", "/v1/threads", {}, **once)[2]
        clock(server, "-1d")
        assert ask(server, "POST", "/v1/threads", {}, **once)[2] == first


@pytest.mark.timeout(200)
def test_a_clock_set_back_locks_nobody_out_of_the_page(
    serve: Callable[..., Any], database_url: str, clock: Clock, new_key: Callable[..., str]
) -> None:
    key = new_key("default")
    with serve(DATABASE_URL=database_url) as server:
        clock(server, "+10y")
        assert until(lambda: sign_in(server, "wrong")[0] == 429, seconds=60)
        clock(server, "+0")
        status, headers = sign_in(server, key)
        assert status == 303
        cookie = headers["set-cookie"].partition(";")[0]
        for offset, wanted in (("+0", 200), ("+10y", 302), ("+0", 200)):
            clock(server, offset)
            assert ask(server, "GET", "/admin/", Cookie=cookie)[0] == wanted


def sign_in(server: Server, key: str) -> tuple[int, dict[str, str]]:
    """Fill in the form of the browse page."""
    _, headers, page = ask(server, "GET", "/admin/sign-in")
    token = re.search(rb'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token
    cookie = headers["set-cookie"].partition(";")[0]
    form = f"csrf_token={token[1].decode()}&key={key}"
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    return ask(server, "POST", "/admin/sign-in", form, **kind)[:2]
