"""The disk fails: full, read-only, or without the database that was on it."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, refusal, serving, until
from flask import Flask
from flask.testing import FlaskClient
from harness import Client, Load, ask, error_lines, run, small_disk, stored, unexplained

import database
from app import create_app
from database import files, sqlite, startup
from database.files import file_of

LONG_MESSAGE = {"role": "user", "content": "x" * 200_000}
BALLAST_BYTES = 2 << 20

pytestmark = pytest.mark.sqlite_only("the disk is that of the database file")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=8) as folder:
        yield folder


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'threads.db'}"


def fill_up(folder: Path) -> Path:
    """Fill the disk to its last byte; return the file that fills it."""
    run("dd", "if=/dev/zero", f"of={folder / 'ballast'}", "bs=4k")
    return folder / "ballast"


def fill(client: Client) -> tuple[int, dict[str, str], Any]:
    """Write until the server refuses, and return its refusal."""
    thread = client.expect("POST", "/v1/threads")["id"]
    while True:
        answer = client.send("POST", f"/v1/threads/{thread}/messages", LONG_MESSAGE)
        if answer[0] != 200:
            return answer


def test_a_full_disk_refuses_writes_and_nothing_else(
    disk: Path, migrated: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated, disk / "threads.db")
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    with (
        serving(tmp_path / "log", DATABASE_URL=url_in(disk)) as server,
        closing(Client(server)) as client,
    ):
        thread = client.expect("POST", "/v1/threads", {"metadata": {"kept": "yes"}})
        status, headers, answer = fill(client)
        assert (status, answer["error"]["code"]) == (507, "disk_full")
        assert headers["x-should-retry"] == "false"
        assert error_lines(server) == ["database error: SQLITE_FULL"]
        assert client.expect("GET", f"/v1/threads/{thread['id']}") == thread
        assert client.send("GET", "/readyz")[0] == 503
        assert client.send("GET", "/healthz")[0] == 200
        ballast.unlink()
        # Never 200 from /readyz here: all of this disk is less than DISK_FLOOR_BYTES.
        assert client.expect("DELETE", f"/v1/threads/{thread['id']}")["deleted"]
        assert client.expect("POST", "/v1/threads")
    assert sqlite.faults_of(disk / "threads.db") == []


def test_a_full_disk_is_not_ready_until_there_is_room(
    disk: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "DISK_FLOOR_BYTES", 1 << 20)
    shutil.copy(migrated, disk / "threads.db")
    app = create_app({"DATABASE_URL": url_in(disk)})
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    ballast = fill_up(disk)
    assert client.get("/readyz").json["checks"]["disk"] is False
    ballast.unlink()
    assert client.get("/readyz").status_code == 200
    startup.close(app)


def test_a_disk_that_fills_up_under_eight_writers_loses_nothing(
    disk: Path, migrated: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated, disk / "threads.db")
    with serving(tmp_path / "log", DATABASE_URL=url_in(disk), WORKERS=2) as server:
        with Load(server) as load:
            assert until(lambda: load.acknowledged > 50)
            ballast = fill_up(disk)
            assert until(lambda: load.refusals[507, "disk_full"] > 20)
            assert ask(server, "GET", "/v1/threads")[0] == 200
            ballast.unlink()
            count = load.acknowledged
            assert until(lambda: load.acknowledged > count + 50)
        assert load.failures == []
        assert {status for status, _ in load.refusals} <= {503, 507}
        assert unexplained(load.records, stored(server)) == []
    assert sqlite.faults_of(disk / "threads.db") == []


def test_a_start_on_a_full_disk_is_refused_with_one_line(disk: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "first", DATABASE_URL=url_in(disk)) as server:
        assert ask(server, "POST", "/v1/threads")[0] == 200
    fill_up(disk)
    lines = refusal(tmp_path / "log", DATABASE_URL=url_in(disk))
    assert lines == [f"The database {disk / 'threads.db'} cannot be read: its disk is full."]


@pytest.mark.parametrize("room", [0, 100_000], ids=["none", "too little for the tables"])
def test_a_first_start_on_a_full_disk_is_refused_with_one_line(
    disk: Path, tmp_path: Path, room: int
) -> None:
    ballast = fill_up(disk)
    os.truncate(ballast, ballast.stat().st_size - room)
    [line] = refusal(tmp_path / "log", DATABASE_URL=url_in(disk))
    assert line.startswith("The database could not be prepared: ")
    assert "disk" in line


def test_a_read_only_folder_stops_the_start_with_one_line(disk: Path, tmp_path: Path) -> None:
    assert run("mount", "-o", "remount,ro", disk)
    lines = refusal(tmp_path / "log", DATABASE_URL=url_in(disk))
    assert lines == [f"The database folder {disk} is missing or cannot be written."]


def test_a_folder_that_becomes_read_only_is_503_until_it_can_be_written(
    disk: Path, migrated: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(migrated, disk / "threads.db")
    app = create_app({"DATABASE_URL": url_in(disk)})
    client = app.test_client()
    assert run("mount", "-o", "remount,ro", disk)
    for method, path, status in (
        ("POST", "/v1/threads", 503),
        ("GET", "/v1/threads", 503),
        ("GET", "/readyz", 503),
        ("GET", "/healthz", 200),
    ):
        caplog.clear()
        answer = client.open(path, method=method)
        assert (path, answer.status_code) == (path, status)
        assert "database_unavailable" in answer.text or "checks" in answer.text or status == 200
        assert {record.message for record in caplog.records} <= {"database error: SQLITE_CANTOPEN"}
    assert run("mount", "-o", "remount,rw", disk)
    assert client.post("/v1/threads").status_code == 200
    startup.close(app)


def test_a_write_whose_queue_cannot_be_opened_is_refused(
    client: FlaskClient, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Path(f"{file_of(database_url)}-queue")
    queue.mkdir()
    assert client.post("/v1/threads").json["error"]["code"] == "database_unavailable"
    assert "Is a directory" in caplog.text
    queue.rmdir()
    assert client.post("/v1/threads").status_code == 200


def test_no_connection_makes_a_new_database_where_one_was_deleted(
    app: Flask, client: FlaskClient, database_url: str
) -> None:
    path = file_of(database_url)
    with app.app_context(), database.read():
        path.unlink()
        assert client.get("/v1/threads").status_code == 503
    assert not path.exists()


def test_a_file_that_goes_while_it_is_opened_is_missed(
    app: Flask, client: FlaskClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, prepare = file_of(database_url), sqlite._prepare

    def prepare_and_lose(*args: Any) -> None:
        prepare(*args)
        path.unlink()

    with app.app_context(), database.read():
        monkeypatch.setattr(sqlite, "_prepare", prepare_and_lose)
        assert client.get("/v1/threads").status_code == 503
        assert client.get("/readyz").json["checks"]["file"] is False


def replace(path: Path) -> None:
    """Put an equal copy in the place of the database."""
    shutil.copy(path, path.with_suffix(".copy"))
    os.rename(path.with_suffix(".copy"), path)


@pytest.mark.parametrize("harm", [Path.unlink, replace], ids=["deleted", "replaced"])
def test_a_database_that_is_no_longer_there_takes_no_writes(
    serve: Callable[..., Any], database_url: str, harm: Callable[[Path], None]
) -> None:
    path = file_of(database_url)
    with serve(DATABASE_URL=database_url, WORKER_THREADS=8) as server:
        thread = ask(server, "POST", "/v1/threads")[2]
        os.link(path, path.with_suffix(".kept"))
        harm(path)
        exists = path.exists()
        status, _, answer = ask(server, "POST", "/v1/threads")
        assert (status, answer["error"]["code"]) == (503, "database_unavailable")
        assert error_lines(server) == ["database error: the file or log was deleted or replaced"]
        status, _, answer = ask(server, "GET", "/readyz")
        assert (status, answer["checks"]["file"]) == (503, False)
        assert ask(server, "GET", f"/v1/threads/{thread['id']}")[0] in (200, 503)
        assert ask(server, "GET", "/healthz")[0] == 200
        assert path.exists() is exists
        path.with_suffix(".kept").replace(path)
        assert ask(server, "POST", "/v1/threads")[0] == 200
        assert ask(server, "GET", f"/v1/threads/{thread['id']}")[2] == thread


@pytest.mark.parametrize("name", ["threads.db", "link.db"], ids=["file", "link"])
def test_a_database_whose_log_was_deleted_takes_no_writes_and_loses_none(
    serve: Callable[..., Any], database_url: str, name: str
) -> None:
    path = file_of(database_url)
    path.with_name("link.db").symlink_to(path)
    url = f"sqlite:///{path.with_name(name)}"
    with serve(DATABASE_URL=url) as server:
        thread = ask(server, "POST", "/v1/threads")[2]
        Path(f"{path}-wal").unlink()
        status, _, answer = ask(server, "POST", "/v1/threads")
        assert (status, answer["error"]["code"]) == (503, "database_unavailable")
        assert ask(server, "GET", "/readyz")[0] == 503
    with serve(DATABASE_URL=url) as server:
        assert ask(server, "GET", f"/v1/threads/{thread['id']}")[2] == thread
        assert ask(server, "POST", "/v1/threads")[0] == 200


def test_a_worker_that_starts_while_the_file_is_away_serves_when_it_is_back(
    serve: Callable[..., Any], database_url: str
) -> None:
    path = file_of(database_url)
    with serve(DATABASE_URL=database_url) as server:
        thread = ask(server, "POST", "/v1/threads")[2]
        path.rename(path.with_suffix(".kept"))
        replace_worker(server)
        status, _, answer = ask(server, "POST", "/v1/threads")
        assert (status, answer["error"]["code"]) == (503, "database_unavailable")
        assert ask(server, "GET", "/v1/threads")[0] == ask(server, "GET", "/readyz")[0] == 503
        assert ask(server, "GET", "/healthz")[0] == 200
        assert not path.exists()
        path.with_suffix(".kept").rename(path)
        assert ask(server, "GET", f"/v1/threads/{thread['id']}")[2] == thread
        assert ask(server, "POST", "/v1/threads")[0] == 200
        assert server.process.poll() is None


def replace_worker(server: Server) -> None:
    """Kill the one worker, and wait for an answer of the next."""
    [worker] = server.workers()
    os.kill(worker, signal.SIGKILL)
    assert until(lambda: server.workers() - {worker} != set())
    assert ask(server, "GET", "/healthz")[0] == 200
