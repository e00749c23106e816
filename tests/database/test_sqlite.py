"""SQLite's settings, the files' modes, the write queue, and that one library owns the file."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Server, until
from flask.testing import FlaskClient
from openai import InternalServerError, OpenAI

import database
from app import create_app
from database import files, sqlite, startup
from database.files import file_of
from models import db

HOLD_QUEUE = """
import fcntl, sys
queue = open(sys.argv[1] + "-queue", "w")
fcntl.flock(queue, fcntl.LOCK_EX)
"""
HOLD_WRITE_TRANSACTION = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
"""
HOLD_SNAPSHOT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM threads").fetchone()
"""
UNTIL_TOLD = "print('held', flush=True); sys.stdin.read()"
HOLDERS = pytest.mark.parametrize(
    "script", [HOLD_QUEUE, HOLD_WRITE_TRANSACTION], ids=["queue", "transaction"]
)
pytestmark = pytest.mark.sqlite_only("the settings, files and queue of SQLite")
SUFFIXES = ("", "-wal", "-shm", "-queue")


@contextmanager
def hold_lock(script: str, url: str) -> Iterator[Callable[[], None]]:
    """Let another process hold a lock on the database; yield a function that releases it."""
    with subprocess.Popen(
        [sys.executable, "-c", script + UNTIL_TOLD, file_of(url)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder.stdin.close


def queue_is_free(url: str) -> bool:
    with open(f"{file_of(url)}-queue") as queue:
        try:
            fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("busy_timeout", sqlite.BUSY_MILLISECONDS),
        ("secure_delete", 2),
        ("trusted_schema", 0),
    ],
)
def test_a_connection_has_the_safe_setting_by_default(
    database_url: str, monkeypatch: pytest.MonkeyPatch, pragma: str, value: Any
) -> None:
    monkeypatch.delenv("THREADS_DURABILITY", raising=False)
    app = create_app({"DATABASE_URL": database_url})
    with app.app_context():
        with database.read() as connection:
            assert connection.value(f"PRAGMA {pragma}") == value
        db.engine.dispose()


def test_normal_durability_syncs_at_checkpoints_only(app: Any) -> None:
    with app.app_context(), database.read() as connection:
        assert connection.value("PRAGMA synchronous") == 1


def test_a_connection_in_use_is_closed_when_it_comes_back(app: Any, database_url: str) -> None:
    with app.app_context(), database.read() as connection:
        startup.close(app)
        assert connection.value("SELECT count(*) FROM threads") == 0
        assert files.log_of(file_of(database_url)).exists()
    assert not files.log_of(file_of(database_url)).exists()


def test_only_the_owner_can_read_the_files(serve: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with serve(DATABASE_URL=f"sqlite:///{path}") as server, server.sdk() as sdk:
        sdk.beta.threads.create()
        modes = {suffix: os.stat(f"{path}{suffix}").st_mode & 0o777 for suffix in SUFFIXES}
    assert modes == dict.fromkeys(SUFFIXES, 0o600)


@HOLDERS
def test_a_write_that_gets_no_turn_is_refused_as_busy(
    client: FlaskClient, database_url: str, script: str
) -> None:
    with hold_lock(script, database_url):
        answer = client.post("/threads")
    assert answer.status_code == 503
    assert answer.json["error"]["code"] == "database_busy"
    assert answer.headers["Retry-After"] == "1"


@HOLDERS
def test_a_waiting_write_goes_on_when_the_other_process_lets_go(
    client: FlaskClient, database_url: str, script: str
) -> None:
    with hold_lock(script, database_url) as release, ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.post, "/threads")
        release()
        assert waiting.result().status_code == 200


@HOLDERS
def test_reads_go_on_while_another_process_writes(
    client: FlaskClient, database_url: str, script: str
) -> None:
    thread = client.post("/threads").json
    with hold_lock(script, database_url):
        assert client.get(f"/threads/{thread['id']}").json == thread


def test_an_abandoned_wait_gives_the_lock_back(client: FlaskClient, database_url: str) -> None:
    with hold_lock(HOLD_QUEUE, database_url) as release:
        assert client.post("/threads").status_code == 503
        release()
        assert until(lambda: queue_is_free(database_url))
    assert client.post("/threads").status_code == 200


@HOLDERS
def test_of_many_waiting_writes_each_is_refused_within_six_seconds(
    serve: Callable[..., Any], database_url: str, script: str
) -> None:
    def refused(sdk: OpenAI) -> str:
        with pytest.raises(InternalServerError) as caught:
            sdk.beta.threads.create()
        return caught.value.code

    with (
        serve(WORKERS=2, WORKER_THREADS=8, DATABASE_URL=database_url) as server,
        server.sdk(timeout=6) as sdk,
        ThreadPoolExecutor(8) as pool,
        hold_lock(script, database_url),
    ):
        assert set(pool.map(refused, [sdk] * 16)) == {"database_busy"}


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_the_version_guard_knows_the_fixed_releases(version: tuple[int, ...], fixed: bool) -> None:
    assert sqlite.has_wal_fix(version) is fixed


def test_a_worker_holds_one_sqlite_library(server: Server) -> None:
    with server.sdk() as sdk:
        sdk.beta.threads.create()
    for worker in server.workers():
        lines = Path(f"/proc/{worker}/maps").read_text().splitlines()
        mapped = {Path(line.split(maxsplit=5)[-1]).name for line in lines}
        assert len([name for name in mapped if "sqlite" in name.lower()]) == 1, mapped


def test_no_python_code_opens_the_database_file(database_url: str, opened: set[str]) -> None:
    app = create_app({"DATABASE_URL": database_url})
    client = app.test_client()
    address = f"/threads/{client.post('/threads').json['id']}"
    assert client.post(address, json={"metadata": {"a": "1"}}).status_code == 200
    assert client.get(address).status_code == 200
    assert client.delete(address).status_code == 200
    with app.app_context():
        db.engine.dispose()
    path = str(file_of(database_url))
    assert f"{path}-queue" in opened
    assert not opened & {path, f"{path}-wal", f"{path}-shm"}


def test_a_disk_that_cannot_be_read_is_answered_503_and_may_be_tried_again(
    client: FlaskClient, database_url: str
) -> None:
    """A folder in place of the open file stands for a broken disk."""
    address = f"/threads/{client.post('/threads').json['id']}"
    for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "DELETE FROM api_keys"):
        in_another_process(database_url, statement)
    with broken_disk(database_url):
        for answer in (client.get(address), client.post(address, json={"metadata": {"a": "b"}})):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
    assert client.get(address).json["metadata"] == {}


def test_one_large_commit_leaves_the_server_ready(
    client: FlaskClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAL_LIMIT_BYTES", 1 << 20)
    write_much(client)
    assert files.wal_bytes(file_of(database_url)) > files.WAL_LIMIT_BYTES
    assert client.get("/readyz").status_code == 200


def test_a_reader_that_keeps_a_long_log_makes_the_server_unready_until_it_ends(
    client: FlaskClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAL_LIMIT_BYTES", 1 << 20)
    with hold_lock(HOLD_SNAPSHOT, database_url):
        write_much(client)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert [name for name, good in answer.json["checks"].items() if not good] == ["wal"]
        assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


def write_much(client: FlaskClient) -> None:
    """Store a thread of four megabytes in one commit."""
    message = {"role": "user", "content": "x" * 200_000}
    assert client.post("/threads", json={"messages": [message] * 20}).status_code == 200


def in_another_process(url: str, statement: str) -> None:
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
    command = [sys.executable, "-c", script, str(file_of(url)), statement]
    subprocess.run(command, check=True)


@contextmanager
def broken_disk(url: str) -> Iterator[None]:
    path = file_of(url)
    names = [name for name in Path("/proc/self/fd").iterdir() if name.exists()]
    copies = {int(name.name): os.dup(int(name.name)) for name in names if name.samefile(path)}
    folder = os.open("/", os.O_RDONLY)
    try:
        for handle in copies:
            os.dup2(folder, handle)
        yield
    finally:
        for handle, good in copies.items():
            os.dup2(good, handle)
            os.close(good)
        os.close(folder)


@pytest.fixture
def opened() -> Iterator[set[str]]:
    """The names of all files that Python code opens in the meantime."""
    names: set[str] = set()
    active = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open":
            names.add(str(arguments[0]))

    sys.addaudithook(hook)
    yield names
    active = False
