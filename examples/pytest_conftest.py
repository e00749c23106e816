"""pytest fixtures that run a Threads server for a test suite: copy this into your conftest.py.

THREADS_SERVER names the folder of the server's checkout. The server starts once in each pytest
process, so once in each worker of pytest-xdist, and every test finds it as it was at its start:
empty, or with the threads of THREADS_SEED. A test takes `threads_client`, or calls code of yours
that makes its own `OpenAI()`: OPENAI_BASE_URL is set. A test that takes `threads_replies` says what
its runs answer; without that, a run repeats the last message of the user.
"""

import http.client
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from threading import Timer
from urllib.parse import urlsplit

import pytest
from openai import OpenAI

START_SECONDS = float(os.environ.get("THREADS_START_SECONDS", 120))  # the first start installs
STOP_SECONDS = 30
RESET = (
    ("POST", "/_mock/reset", None),
    ("DELETE", "/_mock/faults", None),
    ("DELETE", "/_mock/replies", None),
    ("DELETE", "/_mock/requests", None),
    ("PUT", "/_mock/ids", '{"seed": null}'),
    ("PUT", "/_mock/clock", "{}"),
)


@pytest.fixture(scope="session")
def threads_base_url() -> Iterator[str]:
    """The base_url of a server in memory that this process alone uses."""
    folder = os.environ.get("THREADS_SERVER")
    if not folder:
        pytest.fail("THREADS_SERVER must name the checkout of the Threads server.", pytrace=False)
    settings = {"THREADS_DATABASE_URL": "memory", "THREADS_BIND": "127.0.0.1:0"}
    # An outer make's flags would let this one print to stdout.
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            ["make", "-s", "-C", folder, "run"],
            env=environment | settings,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            ready = _await_ready(process)
            if ready is None:
                log.seek(0)
                message = f"The Threads server did not start in {START_SECONDS:g} s:\n{log.read()}"
                pytest.fail(message, pytrace=False)
            yield ready["base_url"]
            with suppress(ProcessLookupError):
                os.kill(ready["pid"], signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:
            _kill(process)


@pytest.fixture(autouse=True)
def threads_reset(threads_base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each test: put the server back as it was at its start, point `OpenAI()` at it."""
    _control(threads_base_url, *RESET)
    monkeypatch.setenv("OPENAI_BASE_URL", threads_base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")


@pytest.fixture
def threads_replies(threads_base_url: str) -> Callable[..., None]:
    """A function that sets the reply rules until the test ends (docs/runs.md of the server):

    threads_replies({"match": "*weather*", "replies": [{"text": "It is 20 degrees."}]})
    """

    def set_rules(*rules: dict) -> None:
        _control(threads_base_url, ("PUT", "/_mock/replies", json.dumps({"rules": rules})))

    return set_rules


@pytest.fixture(scope="session")
def threads_client(threads_base_url: str) -> Iterator[OpenAI]:
    """An official client of the server."""
    with OpenAI(base_url=threads_base_url, api_key="any") as client:
        yield client


def _control(base_url: str, *requests: tuple[str, str, str | None]) -> None:
    """Send requests to the mock controls; each must be answered with 200."""
    address = urlsplit(base_url).netloc
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        for method, path, body in requests:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, f"{method} {path}: {answer.status} {text}"


def _await_ready(process: subprocess.Popen[str]) -> dict | None:
    """Return the server's ready line, or None when it ends or START_SECONDS pass before."""
    timer = Timer(START_SECONDS, _kill, [process])
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    return json.loads(line) if line else None


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
