"""What the mock controls cost: server CPU of a request with them and without, and a reset.

Both servers run at once and take turns, so that a busy machine slows both alike.
"""

import http.client
import json
import signal
import statistics
import sys
import time
from contextlib import ExitStack

from benchmarks.bench import ONE_PAIR, THREE_MESSAGES
from benchmarks.contenders import Running, ours
from benchmarks.load import HEADERS, Request, measure

ROUNDS = 21
SECONDS = 2.0
RESETS = 200


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it leaves no server behind
    with ExitStack() as stack:
        off, on = (
            stack.enter_context(ours("memory", MOCK=mock, WORKERS="1")) for mock in ("off", "on")
        )
        for name in ("retrieve", "create"):
            requests = [(one, _request(name, one)) for one in (off, on)]
            _compare(name, requests)
        _time_resets(on)


def _request(name: str, server: Running) -> Request:
    if name == "create":
        return Request("POST", "/v1/threads", ONE_PAIR)
    return Request("GET", f"/v1/threads/{json.loads(_call(server, '/v1/threads', ONE_PAIR))['id']}")


def _compare(name: str, servers: list[tuple[Running, Request]]) -> None:
    """Print the medians of all rounds, and of what the controls added in each."""
    spent: list[list[float]] = [[], []]
    for number in range(ROUNDS):
        for place in (0, 1) if number % 2 else (1, 0):
            server, request = servers[place]
            spent[place].append(measure(server.pids, server.address, request, 1, SECONDS).cpu)
        print(f"{name}: round {number + 1} of {ROUNDS}", file=sys.stderr)
    added = statistics.median(on / off for off, on in zip(*spent, strict=True)) - 1
    off, on = map(statistics.median, spent)
    print(f"{name}: {off:.0f} µs of CPU without the controls, {on:.0f} with: {added:+.1%}")


def _time_resets(server: Running) -> None:
    taken = []
    for _ in range(RESETS):
        _call(server, "/v1/threads", THREE_MESSAGES)
        started = time.perf_counter()
        _call(server, "/_mock/reset")
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    print(f"reset: {taken[RESETS // 2]:.1f} ms, 99 of 100 in {taken[RESETS * 99 // 100]:.1f} ms")


def _call(server: Running, path: str, body: str = "") -> bytes:
    connection = http.client.HTTPConnection(*server.address)
    connection.request("POST", path, body or None, HEADERS)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text
    return text


if __name__ == "__main__":
    main()
