"""gunicorn's settings: stops and reloads lose no request."""

import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import GUNICORN, Server, await_ready, launched, refusal, until
from openai import APIConnectionError

import database
from config import ROOT

CLIENTS = 4
SHARED_MEMORY = Path("/dev/shm")
SETTINGS = {
    "wsgi_app": "app:create_app()",
    "worker_class": "server.worker.Worker",
    "worker_connections": 1500,
    "sendfile": False,
    "threads": 4,
    "timeout": 60,
    "graceful_timeout": 25,
    "keepalive": 15,
    "limit_request_line": 8190,
    "limit_request_fields": 60,
    "limit_request_field_size": 8190,
    "header_map": "refuse",
    "forwarded_allow_ips": "",
    "control_socket_disable": True,
    "worker_tmp_dir": "/dev/shm" if SHARED_MEMORY.is_dir() else None,
    "umask": 0o077,
}
HANDING_ON = """
import os, socket, sys
path, pid, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
listener.bind(path or ("127.0.0.1", 0))
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()) if pid == "own" else pid}
os.execv(command[0], command)
"""


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    for name in list(os.environ):
        if name.startswith("THREADS_"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(f"THREADS_{name}", value)
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


# settings


@pytest.mark.parametrize(("name", "value"), SETTINGS.items(), ids=SETTINGS.keys())
def test_a_setting_is_as_the_promises_need_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    assert settings(monkeypatch, DATABASE_URL="memory")[name] == value


def test_no_app_is_made_before_the_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings(monkeypatch, DATABASE_URL="memory").get("preload_app")


def test_port_and_web_concurrency_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "80")
    monkeypatch.setenv("WEB_CONCURRENCY", "9")
    values = settings(monkeypatch, DATABASE_URL="memory")
    assert (values["bind"], values["workers"]) == ("127.0.0.1:8000", 1)


@pytest.mark.parametrize(
    ("keyed", "given", "workers"),
    [
        (False, {}, 1),
        (True, {}, 2),
        (True, {"MOCK": "on"}, 1),
        (True, {"WORKERS": "1"}, 1),
        (False, {"WORKERS": "3"}, 3),
    ],
    ids=["open", "keyed", "keyed-mock", "keyed-one", "open-three"],
)
def test_workers_are_one_in_open_mode_and_two_with_keys(
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    new_key: Callable[..., str],
    keyed: bool,
    given: dict[str, str],
    workers: int,
) -> None:
    if keyed:
        new_key()
    assert settings(monkeypatch, DATABASE_URL=database_url, **given)["workers"] == workers


# gunicorn's own arguments


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "unix:socket", ""])
@pytest.mark.parametrize("way", ["variable", "argument"])
def test_an_argument_of_gunicorn_opens_no_keyless_server_beyond_loopback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bind: str, way: str
) -> None:
    if way == "variable":
        monkeypatch.setenv("GUNICORN_CMD_ARGS", f"--bind={bind}")
    arguments = ["-b", bind] if way == "argument" else []
    [line] = refusal(tmp_path / "log", GUNICORN + arguments)
    assert line.startswith(f"THREADS_BIND={bind} is not loopback: make an API key first")


def test_an_argument_of_gunicorn_chooses_another_port_than_a_taken_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with launched(tmp_path / "log", [*GUNICORN, "-b", "127.0.0.1:0"], BIND=bind) as process:
            assert await_ready(process, tmp_path / "log").call("GET", "/healthz").status == 200


def test_two_workers_by_an_argument_of_gunicorn_have_no_mock_controls(tmp_path: Path) -> None:
    with launched(tmp_path / "log", [*GUNICORN, "-w", "2"]) as process:
        server = await_ready(process, tmp_path / "log")
        assert {server.call("GET", "/_mock/faults").status for _ in range(8)} == {404}


def test_mock_controls_that_are_on_refuse_two_workers_by_an_argument(tmp_path: Path) -> None:
    [line] = refusal(tmp_path / "log", [*GUNICORN, "-w", "2"], MOCK="on")
    assert "THREADS_MOCK=on needs THREADS_WORKERS=1" in line


def test_it_refuses_to_start_with_debugging(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    [line] = refusal(tmp_path / "log")
    assert line.startswith("Wrong settings: Unset FLASK_DEBUG")


# what it makes and leaves


def test_it_makes_no_control_socket(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    with serve() as server:
        assert server.call("GET", "/healthz").status == 200
        assert list(home.rglob("*")) == []


def test_a_termination_leaves_no_folder_in_memory(
    serve: Callable[..., Any], database_url: str
) -> None:
    with serve(DATABASE_URL=database_url) as server:
        assert server.call("GET", "/v1/threads").status == 200
        folders = f"*-{server.ready['pid']}-*"
        assert list(SHARED_MEMORY.glob(folders))
        assert server.stop() == 0
        assert not list(SHARED_MEMORY.glob(folders))


# stopping and reloading


class Load:
    """SDK clients that create threads until something fails or they are told to stop."""

    def __init__(self, server: Server) -> None:
        self.created: list[str] = []
        self.failed: list[Exception] = []
        self._go_on = True
        self._clients = [threading.Thread(target=self._run, args=(server,)) for _ in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def _run(self, server: Server) -> None:
        with server.sdk() as sdk:
            while self._go_on:
                try:
                    self.created.append(sdk.beta.threads.create().id)
                except Exception as error:
                    self.failed.append(error)
                    return

    def end(self) -> None:
        self._go_on = False
        for client in self._clients:
            client.join()


@pytest.fixture
def loaded(serve: Callable[..., Any], database_url: str) -> Iterator[tuple[Server, Load]]:
    """A server with two workers on a file, under load."""
    with serve(WORKERS=2, DATABASE_URL=database_url) as server:
        load = Load(server)
        try:
            assert until(lambda: len(load.created) >= 2 * CLIENTS)
            yield server, load
        finally:
            load.end()


def test_five_reloads_under_load_fail_no_request(loaded: tuple[Server, Load]) -> None:
    server, load = loaded
    for _ in range(5):
        before, count = server.workers(), len(load.created)
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda before=before: len(server.workers() - before) >= 2, seconds=30)
        assert until(lambda count=count: len(load.created) > count + CLIENTS, seconds=30)
    load.end()
    assert load.failed == []


def test_a_termination_under_load_leaves_no_stored_thread_unanswered(
    loaded: tuple[Server, Load], app: Any
) -> None:
    server, load = loaded
    assert server.stop() == 0
    load.end()
    assert {type(error) for error in load.failed} <= {APIConnectionError}
    count = "SELECT count(*) FROM threads"
    with app.app_context(), database.read() as connection:
        assert connection.value(count) == len(load.created)


def test_a_server_with_mock_controls_stays_one_process(serve: Callable[..., Any]) -> None:
    with serve() as server:
        before = server.workers()
        server.process.send_signal(signal.SIGTTIN)
        assert until(lambda: "The mock controls need one worker" in server.log.read_text())
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: len(server.workers() - before) == 1 and len(server.workers()) == 1)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="macOS pins no process")
def test_each_worker_keeps_to_a_processor_of_its_own(serve: Callable[..., Any]) -> None:
    expected = [{each} for each in sorted(os.sched_getaffinity(0))]

    def are_apart() -> bool:
        with suppress(ProcessLookupError):
            return sorted(map(os.sched_getaffinity, server.workers()), key=max) == expected
        return False

    with serve(WORKERS=len(expected), MOCK="off") as server:
        assert until(are_apart)
        os.kill(killed := min(server.workers()), signal.SIGKILL)
        assert until(lambda: killed not in server.workers() and are_apart())


def test_a_server_without_mock_controls_takes_another_worker(serve: Callable[..., Any]) -> None:
    with serve(MOCK="off") as server:
        server.process.send_signal(signal.SIGTTIN)
        assert until(lambda: len(server.workers()) == 2)


@pytest.mark.sqlite_only("the log is that of the file")
def test_a_stopped_server_leaves_nothing_in_the_log_of_its_file(
    serve: Callable[..., Any], database_url: str, tmp_path: Path
) -> None:
    with serve(DATABASE_URL=database_url) as server:
        assert server.call("POST", "/v1/threads").status == 200
        assert (tmp_path / "threads.db-wal").exists()
        assert server.stop() == 0
    assert not (tmp_path / "threads.db-wal").exists()


def test_a_termination_waits_for_requests_in_flight(serve: Callable[..., Any]) -> None:
    def in_flight(server: Server) -> socket.socket:
        """Send a request whose body is still to come; return when a thread waits for it."""
        connection = socket.create_connection(server.address, timeout=20)
        connection.sendall(
            b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        return connection

    with serve() as server, ExitStack() as stack:
        waiting = [stack.enter_context(in_flight(server)) for _ in range(4)]
        server.process.send_signal(signal.SIGTERM)
        assert until(lambda: not is_listening(server))
        for connection in waiting:
            connection.sendall(b"{}")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(timeout=30) == 0


def is_listening(server: Server) -> bool:
    """Tell whether the master still has its listening socket; it stops by closing it."""
    return any(name.startswith("socket:") for name in open_files(server.process.pid))


def open_files(pid: int) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # one may be closed at any moment
            yield os.readlink(file)


# a socket that is handed on


def handing_on(path: str = "", pid: str = "own") -> list[str]:
    """A command that runs gunicorn as systemd does, with a listening socket as its fd 3."""
    return [sys.executable, "-c", HANDING_ON, path, pid, *GUNICORN]


def test_a_socket_that_systemd_hands_on_is_served(tmp_path: Path) -> None:
    with launched(tmp_path / "log", handing_on(), BIND="127.0.0.1:1") as process:
        server = await_ready(process, tmp_path / "log")
        assert server.address[1] != 1
        assert server.call("POST", "/v1/threads", {}).status == 200
        assert server.stop() == 0


def test_a_socket_that_is_handed_on_is_refused_unless_it_is_loopback(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    [line] = refusal(tmp_path / "log", handing_on(path))
    assert line.startswith(f"THREADS_BIND=unix:{path}:0 is not loopback")


def test_a_socket_that_was_meant_for_another_process_is_ignored(tmp_path: Path) -> None:
    [line] = refusal(tmp_path / "log", handing_on(pid="1"), BIND="127.1:0")
    assert line.startswith("THREADS_BIND=127.1:0 is not loopback")
