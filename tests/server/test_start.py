"""Starts and stops as `make run` does them: output, refusals, and files made and removed."""

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import GUNICORN, Server, await_ready, launched, refusal, serving, until
from flask import Flask
from openai import OpenAI

import database
from access import api_keys
from config import ROOT

MAKE_RUN = ["make", "-s", "run"]
SHARED_MEMORY = Path("/dev/shm")
OF_PROCESSES = pytest.mark.sqlite_only("processes, ports and folders are the same on both")
NOT_COPIED = (".venv", ".git", ".clients", ".hypothesis", "tests", "instance", ".*_cache")


@pytest.fixture
def by_make(tmp_path: Path) -> Iterator[Server]:
    """A server that `make run` started; its process is make, its pid the server's."""
    with launched(tmp_path / "log", MAKE_RUN) as process:
        server = await_ready(process, tmp_path / "log")
        yield server
        if process.poll() is None:
            os.kill(server.ready["pid"], signal.SIGTERM)
            process.wait(timeout=30)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def folders_of(server: Server) -> list[Path]:
    return list(SHARED_MEMORY.glob(f"*-{server.ready['pid']}-*"))


def create_thread(server: Server) -> str:
    with server.sdk() as sdk:
        return sdk.beta.threads.create().id


@OF_PROCESSES
def test_the_ready_line_is_all_that_stdout_ever_gets(by_make: Server) -> None:
    create_thread(by_make)
    os.kill(by_make.ready["pid"], signal.SIGTERM)
    by_make.process.wait(timeout=30)
    assert by_make.process.stdout is not None
    assert by_make.process.stdout.read() == ""
    assert by_make.ready["event"] == "ready"


@OF_PROCESSES
@pytest.mark.parametrize("is_keyed", [False, True])
def test_a_person_at_a_terminal_sees_how_to_call_a_server_without_keys(
    app: Flask, database_url: str, tmp_path: Path, is_keyed: bool
) -> None:
    if is_keyed:
        with app.app_context():
            api_keys.create("ours", "", None)
    program = "import pty, sys; pty.spawn(sys.argv[1:])"
    command = [sys.executable, "-c", program, *GUNICORN]
    with launched(tmp_path / "log", command, DATABASE_URL=database_url) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        os.kill(ready["pid"], signal.SIGTERM)
        assert ("client.beta.threads.create()" in process.stdout.read()) == (not is_keyed)


@OF_PROCESSES
def test_a_termination_signal_ends_it_with_status_0_and_leaves_nothing(by_make: Server) -> None:
    create_thread(by_make)
    assert folders_of(by_make)
    os.kill(by_make.ready["pid"], signal.SIGTERM)
    assert by_make.process.wait(timeout=30) == 0
    assert not folders_of(by_make)


@OF_PROCESSES
def test_terminating_make_ends_the_server(by_make: Server) -> None:
    by_make.process.send_signal(signal.SIGTERM)
    by_make.process.wait(timeout=30)
    assert not Path(f"/proc/{by_make.ready['pid']}").exists()
    assert not folders_of(by_make)


@OF_PROCESSES
def test_the_start_after_a_kill_removes_what_was_left(by_make: Server, tmp_path: Path) -> None:
    os.killpg(by_make.process.pid, signal.SIGKILL)
    by_make.process.wait(timeout=30)
    assert folders_of(by_make)
    with serving(tmp_path / "next") as server:
        assert create_thread(server)
        assert not folders_of(by_make)


@OF_PROCESSES
def test_a_start_leaves_the_folder_of_a_running_server_alone(
    by_make: Server, tmp_path: Path
) -> None:
    with serving(tmp_path / "next"):
        assert folders_of(by_make)
    assert create_thread(by_make)


@pytest.mark.sqlite_only("the folder is made for the database file")
def test_a_first_start_makes_a_private_instance_folder(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    shutil.copytree(ROOT, fresh, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (fresh / ".venv").symlink_to(ROOT / ".venv")
    url = f"sqlite:///{fresh / 'instance' / 'threads.db'}"
    with launched(tmp_path / "log", MAKE_RUN, fresh, DATABASE_URL=url) as process:
        create_thread(await_ready(process, tmp_path / "log"))
        assert (fresh / "instance").stat().st_mode & 0o777 == 0o700


@OF_PROCESSES
def test_a_taken_port_is_refused_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        lines = refusal(tmp_path / "log", BIND=bind)
    assert len(lines) == 1
    assert lines[0].startswith(f"Cannot listen on {bind}: Address already in use.")


@OF_PROCESSES
@pytest.mark.parametrize("command", [GUNICORN, MAKE_RUN], ids=["gunicorn", "make"])
def test_a_taken_port_is_refused_before_anything_slow_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        lines = refusal(tmp_path / "log", command, BIND=f"127.0.0.1:{taken.getsockname()[1]}")
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "config" in imported
    assert imported.isdisjoint({"sqlalchemy", "flask", "database", "app"})


@OF_PROCESSES
def test_the_start_after_a_kill_finds_its_port_free_beside_open_connections(
    tmp_path: Path, free_port: int
) -> None:
    log, bind = tmp_path / "log", f"127.0.0.1:{free_port}"
    with ExitStack() as stack, serving(log, BIND=bind, WORKERS=2) as server:
        for _ in range(4):
            idle = stack.enter_context(closing(HTTPConnection(*server.address, timeout=30)))
            idle.request("GET", "/healthz")
            assert idle.getresponse().read()
        workers = server.workers()
        server.process.kill()
        server.process.wait()
        assert until(lambda: not any(map(is_running, workers)), seconds=2)
        with serving(log, BIND=bind) as next_one:
            assert create_thread(next_one)


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@OF_PROCESSES
@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_a_bind_beyond_loopback_is_refused_with_one_line(tmp_path: Path, bind: str) -> None:
    lines = refusal(tmp_path / "log", BIND=bind)
    advice = "make an API key first (flask keys create)."
    assert lines == [f"THREADS_BIND={bind} is not loopback: {advice}"]


def test_wrong_settings_are_named_all_in_one_line(tmp_path: Path) -> None:
    wrong = {
        "BIND": "8000",
        "WORKERS": "none",
        "WORKER_THREADS": "0",
        "DURABILITY": "some",
        "MAX_BODY_BYTES": "",
        "DATABASE_URL": "mysql://host/db",
    }
    [line] = refusal(tmp_path / "log", **wrong)
    assert all(f"THREADS_{name}" in line for name in wrong)


@pytest.mark.sqlite_only("the database is a file")
def test_a_file_may_have_any_name_that_a_url_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "a b;c=ä🙂&+@:'\".db"
    with serving(tmp_path / "log", DATABASE_URL=f"sqlite:///{path}") as server:
        thread = create_thread(server)
    names = {each.name.removeprefix(path.name) for each in tmp_path.iterdir()}
    assert names == {"", "-queue", "-queue-pipe", "log"}
    with serving(tmp_path / "log", DATABASE_URL=f"sqlite:///{path}") as server, server.sdk() as sdk:
        assert sdk.beta.threads.retrieve(thread).id == thread


@pytest.mark.sqlite_only("the folder is that of the database file")
@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_cannot_hold_a_database_is_refused_with_one_line(
    tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").touch()
    lines = refusal(tmp_path / "log", DATABASE_URL=f"sqlite:///{tmp_path / folder / 'threads.db'}")
    assert lines == [f"The database folder {tmp_path / folder} is missing or cannot be written."]


@pytest.mark.sqlite_only("the database is a file")
def test_what_is_no_database_is_refused_with_one_line(tmp_path: Path) -> None:
    [line] = refusal(tmp_path / "log", DATABASE_URL=f"sqlite:///{tmp_path}")
    assert line == f"The database {tmp_path} cannot be read: unable to open database file."


@pytest.mark.sqlite_only("the secret lies beside the database file")
def test_a_secret_that_is_cut_short_is_refused_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "threads.db-secret").touch()
    url = f"sqlite:///{tmp_path / 'threads.db'}"
    command = ["env", "-u", "THREADS_SECRET_KEY", *GUNICORN]
    [line] = refusal(tmp_path / "log", command, DATABASE_URL=url)
    assert line.startswith(f"{tmp_path / 'threads.db-secret'} is damaged.")


@pytest.mark.sqlite_only("test_postgres.py stops the server")
@pytest.mark.parametrize("lost", ["folder", "file"])
def test_a_reload_without_the_database_ends_no_server(
    serve: Callable[..., Any], tmp_path: Path, lost: str
) -> None:
    """Its workers answer, and find the database when that is back."""
    home = tmp_path / "home"
    home.mkdir()
    database_file, away = home / "threads.db", tmp_path / "away"
    with serve(DATABASE_URL=f"sqlite:///{database_file}") as server:
        assert server.call("GET", "/healthz").status == 200
        before = server.workers()
        gone = home if lost == "folder" else database_file
        gone.rename(away)
        if lost == "file":
            database_file.write_text("no database")
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: bool(server.workers()) and server.workers().isdisjoint(before))
        assert server.call("GET", "/healthz").status == 200
        assert server.call("GET", "/readyz").status == 503
        assert server.call("GET", "/v1/threads").status == 503
        away.replace(gone)
        assert until(lambda: server.call("POST", "/v1/threads").status == 200)


@pytest.mark.sqlite_only("the pool of SQLite keeps nothing")
def test_a_server_that_stops_after_many_threads_logs_no_error(serve: Callable[..., Any]) -> None:
    with serve(WORKER_THREADS=8) as server:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: server.call("GET", "/admin/"), range(32)))
        assert {answer.status for answer in answers} == {200}
        server.stop()
        assert '"level":"error"' not in server.log.read_text()


def test_the_counts_of_a_worker_have_their_room(serve: Callable[..., Any]) -> None:
    """They are a file in memory: without room for a new page of it a worker would die."""
    with serve() as server:
        assert server.call("GET", "/healthz").status == 200
        [counts] = files_of_counts(server)
        assert counts.stat().st_blocks * 512 >= 1 << 20


@OF_PROCESSES
def test_reloads_and_killed_workers_lose_no_count_and_leave_no_files(
    serve: Callable[..., Any],
) -> None:
    with serve(WORKERS=2) as server:
        for stop in (signal.SIGHUP, signal.SIGKILL) * 2:
            assert server.call("GET", "/healthz").status == 200
            before = server.workers()
            for process in before if stop == signal.SIGKILL else {server.process.pid}:
                with suppress(ProcessLookupError):  # gone already
                    os.kill(process, stop)
            assert until(lambda before=before: len(server.workers() - before) == 2, seconds=30)
            assert until(lambda before=before: not any(map(is_running, before)), seconds=30)
        text = server.call("GET", "/metrics").body.decode()
        assert (
            'threads_request_seconds_count{method="GET",route="/healthz",status="200"} 4.0' in text
        )
        assert len(files_of_counts(server)) <= 4


def files_of_counts(server: Server) -> list[Path]:
    return [file for folder in folders_of(server) for file in folder.glob("histogram_*.db")]


@OF_PROCESSES
def test_make_fails_when_the_server_refuses(tmp_path: Path) -> None:
    lines = refusal(tmp_path / "log", MAKE_RUN, BIND="0.0.0.0:0")
    assert [line for line in lines if not line.startswith("make")] == [
        "THREADS_BIND=0.0.0.0:0 is not loopback: make an API key first (flask keys create)."
    ]


@pytest.mark.sqlite_only("test_postgres.py starts three on one PostgreSQL database")
def test_three_servers_that_start_at_once_share_one_new_database(tmp_path: Path) -> None:
    log, url = tmp_path / "log", f"sqlite:///{tmp_path / 'threads.db'}"
    with ExitStack() as stack:
        processes = [stack.enter_context(launched(log, DATABASE_URL=url)) for _ in range(3)]
        servers = [await_ready(process, log) for process in processes]
        threads = [create_thread(server) for server in servers]
        sdk: OpenAI = stack.enter_context(servers[0].sdk())
        assert [sdk.beta.threads.retrieve(thread).id for thread in threads] == threads


@pytest.mark.parametrize("revision", ["0000", "9999"], ids=["older", "newer"])
def test_a_worker_that_finds_another_schema_stops_the_server(
    app: Flask, database_url: str, serve: Callable[..., Any], revision: str
) -> None:
    with serve(DATABASE_URL=database_url) as server:
        statement = f"UPDATE alembic_version SET version_num = '{revision}'"
        with app.app_context():
            database.write(lambda connection: connection.change(statement))
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
        assert server.process.wait(timeout=30) == 4
    lines = server.log.read_text().splitlines()
    assert len([line for line in lines if '"message":"The database ' in line]) == 1


def test_a_killed_worker_is_replaced(serve: Callable[..., Any]) -> None:
    with serve() as server, server.sdk(max_retries=5) as sdk:
        thread = create_thread(server)
        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        assert until(lambda: server.workers() - {worker})
        assert sdk.beta.threads.retrieve(thread).id == thread


def test_a_start_finishes_what_a_killed_process_left(
    serve: Callable[..., Any], database_url: str, threads_left: Callable[[], int]
) -> None:
    with serve(DATABASE_URL=database_url):
        assert until(lambda: threads_left() == 0)


def test_a_reload_keeps_the_database_in_memory(serve: Callable[..., Any]) -> None:
    with serve(DATABASE_URL="memory") as server, server.sdk() as sdk:
        thread = create_thread(server)
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: server.workers().isdisjoint(before))
        assert sdk.beta.threads.retrieve(thread).id == thread
