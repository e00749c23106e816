"""Fixtures: an app on its own migrated database, its client, and a live server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import clusters
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai import OpenAI

import commands
from app import create_app
from config import ROOT
from models import db

GUNICORN = [str(Path(sys.executable).parent / "gunicorn")]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=["sqlite", "postgres"], default="sqlite")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL, leave out what is marked `sqlite_only`, and say why."""
    for item in items:
        mark = item.get_closest_marker("sqlite_only")
        if mark and config.getoption("engine") == "postgres":
            item.add_marker(pytest.mark.skip(reason=f"SQLite only: {mark.args[0]}"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[clusters.Cluster]:
    """A private PostgreSQL server with an empty database of the newest schema in it."""
    if not clusters.BINARIES:
        assert "CI" not in os.environ, "CI must not skip PostgreSQL"
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    with clusters.cluster() as running:
        with commands.create_app(postgres_settings(running.template())).app_context():
            commands.prepare_database()
            db.engine.dispose()
        yield running


def postgres_settings(url: str) -> dict[str, str]:
    return {"DATABASE_URL": url, "SECRET_KEY": "s" * 32}


@pytest.fixture(scope="session", autouse=True)
def engine(request: pytest.FixtureRequest) -> str:
    """The database that this run is about; a server that no test gave one gets a new one of it."""
    name: str = request.config.getoption("engine")
    if name == "postgres":
        CLUSTER.append(request.getfixturevalue("cluster"))
    return name


CLUSTER: list[clusters.Cluster] = []


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that `flask db upgrade` made, once per run; tests copy it."""
    path = tmp_path_factory.mktemp("migrated") / "threads.db"
    with commands.create_app({"DATABASE_URL": f"sqlite:///{path}"}).app_context():
        commands.prepare_database()
        db.engine.dispose()
    return path


@contextmanager
def new_database(engine: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Make an empty database of the newest schema; yield its URL."""
    if engine == "sqlite":
        shutil.copy(request.getfixturevalue("migrated"), folder / "threads.db")
        yield f"sqlite:///{folder / 'threads.db'}"
    else:
        running: clusters.Cluster = request.getfixturevalue("cluster")
        url = running.new()
        yield url
        running.give_back(url)


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(engine, request, tmp_path) as url:
        yield url


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    app = create_app({"DATABASE_URL": database_url, "DURABILITY": "normal"})
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app.test_client()


class Server:
    """A running server: where it is, its process (group leader), and what it printed."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any], log: Path) -> None:
        self.process = process
        self.ready = ready
        self.base_url: str = ready["base_url"]
        self.log = log

    @property
    def root_url(self) -> str:
        return self.base_url.removesuffix("/v1")

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.root_url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def sdk(self, **options: Any) -> OpenAI:
        """An official client that checks every answer against the SDK's models."""
        defaults = {"api_key": "any", "max_retries": 0, "_strict_response_validation": True}
        return OpenAI(base_url=self.base_url, **(defaults | options))

    def workers(self) -> set[int]:
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, ten seconds at most, and tell whether it came."""
    deadline = time.monotonic() + 10
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return met


@contextmanager
def launched(
    log: Path, command: Sequence[str] = GUNICORN, cwd: Path = ROOT, **settings: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run a command with THREADS_ settings given bare, its stderr in `log`; kill what is left."""
    given = {"BIND": "127.0.0.1:0", "SECRET_KEY": "s" * 32, **settings}
    borrowed = CLUSTER[0].new() if CLUSTER and "DATABASE_URL" not in given else ""
    given.setdefault("DATABASE_URL", borrowed or "memory")
    environment = {key: value for key, value in os.environ.items() if key[:8] != "THREADS_"}
    environment |= {f"THREADS_{key}": str(value) for key, value in given.items()}
    with log.open("a") as stderr:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if borrowed:
            CLUSTER[0].give_back(borrowed)


def await_ready(process: subprocess.Popen[str], log: Path) -> Server:
    """Wait for the ready line of a launched server."""
    assert process.stdout is not None
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    assert line, f"the server did not start:\n{log.read_text()}"
    return Server(process, json.loads(line), log)


@contextmanager
def serving(log: Path, **settings: Any) -> Iterator[Server]:
    """Run gunicorn as `make run` does, on a free port, and stop it in good order."""
    with launched(log, **settings) as process:
        server = await_ready(process, log)
        yield server
        if process.poll() is None:
            server.stop()


def refusal(log: Path, command: Sequence[str] = GUNICORN, **settings: Any) -> list[str]:
    """Run a command that must refuse to start, and return what it says on stderr, line by line."""
    with launched(log, command, **settings) as process:
        assert process.wait(timeout=30) != 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    return log.read_text().splitlines()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One live server with two workers on a database in memory, shared by a module's tests."""
    with serving(tmp_path_factory.mktemp("server") / "log", WORKERS=2) as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """Start a live server with settings of its own: `with serve(WORKERS=2) as server:`."""
    return lambda **settings: serving(tmp_path / "log", **settings)
