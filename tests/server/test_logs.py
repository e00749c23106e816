"""Logs without secrets, metrics, readiness, and the retry headers of a 5xx."""

import json
import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import GUNICORN, SECRET, Server, await_ready, bearer, launched, until
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

import app as application
import database
from config import ROOT
from database import files

FIELDS = {"time", "request_id", "method", "route", "status", "ms", "bytes", "key"}
PLANTED = "planted-secret"
BEYOND_THE_LOG = 1 << 20
PIPE_BYTES = 1 << 16
BROKEN_APP = """
import app

def create_app():
    made = app.create_app()

    @made.post("/broken/<name>")
    def broken(name):
        from flask import request
        given = request.get_data(as_text=True)
        raise RuntimeError("a fault of the program")

    return made
"""


@pytest.fixture
def logged(client: FlaskClient, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Send a request and return its log line and its answer."""

    def send(method: str, path: str, **options: Any) -> Any:
        capfd.readouterr()
        answer = client.open(path, method=method, **options)
        [line] = capfd.readouterr().err.splitlines()
        return json.loads(line), answer

    return send


# log lines


def test_a_log_line_tells_what_happened(logged: Callable[..., Any]) -> None:
    line, answer = logged("POST", "/v1/threads?x=1", json={"metadata": {"a": "b"}})
    assert line.keys() == FIELDS
    assert datetime.fromisoformat(line["time"]).tzinfo is UTC
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/threads", 200)
    assert line["bytes"] == len(answer.data)
    assert line["ms"] >= 0
    assert line["key"] is None


def test_a_log_line_has_the_route_and_not_the_path(logged: Callable[..., Any]) -> None:
    line, _ = logged("GET", "/v1/threads/thread_of_somebody/messages/msg_1")
    assert line["route"] == "/v1/threads/<thread_id>/messages/<message_id>"
    assert "thread_of_somebody" not in json.dumps(line)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("SPY", "/v1/threads")])
def test_an_unknown_address_or_method_is_logged_without_a_route(
    logged: Callable[..., Any], method: str, path: str
) -> None:
    line, _ = logged(method, path)
    assert (line["method"], line["route"]) == (method, "-")


def test_a_log_line_names_a_key_by_its_first_characters(
    logged: Callable[..., Any], new_key: Callable[..., str]
) -> None:
    key = new_key()
    line, _ = logged("GET", "/v1/threads", headers=bearer(key))
    assert line["key"] == key[:12]


def test_a_wrong_key_is_not_logged_even_in_part(
    logged: Callable[..., Any], new_key: Callable[..., str]
) -> None:
    wrong = f"{new_key()[:-1]}!"
    line, _ = logged("GET", "/v1/threads", headers=bearer(wrong))
    assert line["key"] is None
    assert wrong[:12] not in json.dumps(line)


@pytest.fixture
def broken(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A keyed server with one address that fails."""
    (tmp_path / "broken.py").write_text(BROKEN_APP)
    command = [*GUNICORN, "--pythonpath", str(tmp_path), "broken:create_app()"]
    log = tmp_path / "log"
    with launched(log, command, DATABASE_URL=database_url, WORKERS=2) as process:
        yield (server := await_ready(process, log))
        server.stop()


def log_lines(server: Server) -> list[str]:
    """Return what the server logged."""
    return [line for line in server.log.read_text().splitlines() if line.startswith("{")]


def test_no_log_holds_a_key_a_body_a_cookie_or_a_query(
    broken: Server, new_key: Callable[..., str]
) -> None:
    key = new_key()
    assert until(lambda: broken.call("GET", "/v1/threads").status == 401)
    secrets = {"Cookie": f"session={PLANTED}", "User-Agent": PLANTED, "Referer": f"x://{PLANTED}"}
    good = secrets | bearer(key)
    body = {"metadata": {"a": PLANTED}}
    for headers in (good, secrets | bearer(PLANTED), secrets, secrets | {"api-key": PLANTED}):
        for method, path in (
            ("POST", "/v1/threads"),
            ("POST", f"/v1/threads?q={PLANTED}"),
            ("GET", f"/v1/threads?metadata[a]={PLANTED}"),
            ("PUT", f"/{PLANTED}"),
            ("POST", f"/broken/name?q={PLANTED}"),
            ("POST", "/v1/threads/thread_missing/messages"),
        ):
            broken.call(method, path, body, Idempotency_Key=PLANTED, **headers)
    for line in (f"Authorization Bearer {key}", f"Cookie : {PLANTED}", f"X-{PLANTED}\x01: a"):
        malformed(broken, f"GET /v1/threads?q={PLANTED} HTTP/1.1\r\nHost: localhost\r\n{line}")
    malformed(broken, f"{PLANTED}\x01 / HTTP/1.1\r\nHost: localhost")
    malformed(broken, f"GET /?{PLANTED} {PLANTED}\r\nHost: localhost")
    log = broken.log.read_text()
    assert '"status":500' in log
    assert '"message":"Invalid request from ip=127.0.0.1"' in log
    assert PLANTED not in log
    assert key[12:] not in log


@pytest.mark.parametrize(
    "line",
    [
        f"tsk_{'a' * 50}",
        "Authorization: Bearer x",
        "Cookie: threads-1234=eyJ",
        "session=eyJ",
        '{"role":"user"}',
        '{"content":"hello"}',
    ],
)
def test_what_is_searched_for_in_every_log_is_found(line: str) -> None:
    assert SECRET.search(line)


def malformed(server: Server, head: str) -> None:
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        assert connection.recv(100).split()[1].startswith(b"4")


def test_a_fault_of_the_program_is_one_json_line_with_its_traceback(broken: Server) -> None:
    answer = broken.call("POST", "/broken/name", {})
    assert answer.status == 500
    lines = [json.loads(line) for line in log_lines(broken)]
    [fault] = [line for line in lines if "traceback" in line]
    assert fault["level"] == "error"
    assert fault["traceback"].splitlines()[-1] == "RuntimeError: a fault of the program"


def test_all_that_is_logged_is_json(broken: Server) -> None:
    for path in ("/v1/threads", "/broken/name", "/nowhere"):
        broken.call("POST", path, {})
    malformed(broken, "GET / HTTP/9\r\nHost: localhost")
    lines = [json.loads(line) for line in broken.log.read_text().splitlines()]
    assert len(lines) == 5


def test_a_log_that_cannot_be_written_fails_no_request(serve: Callable[..., Any]) -> None:
    with serve() as server:
        assert server.call("GET", "/v1/threads").status == 200
        with server.log.open("ab") as log:
            log.truncate(BEYOND_THE_LOG)
        with largest_file(server, BEYOND_THE_LOG):
            assert server.call("POST", "/v1/threads", {}).status == 200
        assert server.log.stat().st_size == BEYOND_THE_LOG


def test_a_log_that_nobody_reads_holds_no_request_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    with launched(log) as process:
        server = await_ready(process, log)
        for _ in range(PIPE_BYTES // 100):
            assert server.call("GET", "/healthz").status == 200
        assert len(os.read(reader, 2 * PIPE_BYTES)) > PIPE_BYTES / 2
        assert server.call("GET", "/healthz").status == 200
        notice = json.loads(os.read(reader, PIPE_BYTES).splitlines()[0])
        assert notice["message"].endswith("lines are missing here: nobody read this log")
        server.stop()
        os.close(reader)
        log.unlink()
        log.touch()


WRITER = """
import os
from web.log_stream import LogStream

os.setgid(65534)
os.setuid(65534)
stream, line = LogStream(), b"x" * 199 + bytes([10])
for _ in range(1000):
    stream.write(line)
os.write(1, b"written")
os.read(0, 1)
stream.write(b"last" + bytes([10]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make the pipe of another user")
def test_a_log_on_the_pipe_of_another_user_holds_nobody_up() -> None:
    command = [sys.executable, "-c", WRITER]
    streams: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, **streams) as process:
        assert until(lambda: bool(select.select([process.stdout], [], [], 0)[0]))
        pipe = process.stderr.fileno()
        *lines, rest = os.read(pipe, 2 * PIPE_BYTES).splitlines(keepends=True)
        process.stdin.write(b"x")
        process.stdin.close()
        rest += process.stderr.read()
        process.kill()
    assert {*lines} == {b"x" * 199 + b"\n"}
    *_, notice, last = rest.splitlines()
    assert json.loads(notice)["message"].startswith(f"{1000 - len(lines) - 1} lines are missing")
    assert last == b"last"


@contextmanager
def largest_file(server: Server, size: int) -> Iterator[None]:
    """Let a server with one worker write no file beyond a size."""
    [worker] = server.workers()
    limits = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, limits)


# metrics


def samples(text: str) -> dict[tuple[str, str, str], float]:
    """Return the counts of requests by method, route and status."""
    counts = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "threads_request_seconds_count":
                labels = sample.labels
                key = (labels["method"], labels["route"], labels["status"])
                counts[key] = sample.value
    return counts


def test_the_metrics_sum_over_all_workers(serve: Callable[..., Any]) -> None:
    with serve(WORKERS=2) as server:
        for _ in range(30):
            server.call("GET", "/v1/threads")
        counts = [samples(server.call("GET", "/metrics").body.decode()) for _ in range(4)]
    assert {each["GET", "/v1/threads", "200"] for each in counts} == {30}


def test_unknown_addresses_and_methods_add_no_series(client: FlaskClient) -> None:
    def series() -> set[tuple[str, str, str]]:
        return set(samples(client.get("/metrics").text))

    client.get("/nowhere")
    client.open("/v1/threads", method="SPY")
    client.get("/v1/threads/thread_0")
    before = series() | {("GET", "/metrics", "200")}
    for number in range(20):
        client.get(f"/nowhere/{number}")
        client.open("/v1/threads", method=f"SPY{number}")
        client.get(f"/v1/threads/thread_{number}")
    assert series() == before


def test_the_metrics_are_plain_text(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert list(text_string_to_metric_families(answer.text))


# readiness


def checks(client: FlaskClient) -> tuple[int, list[str]]:
    answer = client.get("/readyz")
    return answer.status_code, [name for name, good in answer.json["checks"].items() if not good]


OF_FILE = pytest.mark.sqlite_only("PostgreSQL's own files are not seen from here")


@OF_FILE
def test_a_server_that_can_serve_is_ready(client: FlaskClient) -> None:
    assert client.get("/readyz").json == {
        "status": "ok",
        "checks": {"schema": True, "file": True, "disk": True, "wal": True},
    }


def test_readiness_needs_the_schema(client: FlaskClient, app: Flask) -> None:
    statement = "UPDATE alembic_version SET version_num = '0001'"
    with app.app_context():
        database.write(lambda connection: connection.change(statement))
    assert checks(client) == (503, ["schema"])


@OF_FILE
def test_readiness_needs_space_on_the_disk(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "DISK_FLOOR_BYTES", 1 << 62)
    assert checks(client) == (503, ["disk"])


@OF_FILE
def test_a_server_whose_folder_is_gone_is_alive_but_not_ready(
    app: Flask, database_url: str
) -> None:
    client = application.create_app({"DATABASE_URL": database_url}).test_client()
    path = files.file_of(database_url)
    path.parent.rename(path.parent.with_name("moved"))
    assert client.get("/v1/threads").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert checks(client) == (503, ["schema", "file", "disk"])


# 5xx and retries


def test_a_fault_of_the_program_does_not_invite_a_retry(broken: Server) -> None:
    assert broken.call("POST", "/broken/name", {}).headers["x-should-retry"] == "false"


@pytest.mark.sqlite_only("the disk that fails is that of the file")
def test_a_failed_commit_does_not_invite_a_retry(
    serve: Callable[..., Any], database_url: str
) -> None:
    with serve(DATABASE_URL=database_url) as server:
        assert server.call("POST", "/v1/threads", {}).status == 200
        size = os.stat(f"{files.file_of(database_url)}-wal").st_size
        with largest_file(server, size):
            failed = server.call("POST", "/v1/threads", {"metadata": {"lost": "yes"}})
        assert failed.status >= 500
        assert failed.headers["x-should-retry"] == "false"
        assert server.call("GET", "/v1/threads?metadata[lost]=yes").body.count(b'"lost"') == 0
        assert server.call("POST", "/v1/threads", {}).status == 200
