"""What is measured: servers that are started here, each on its own port and files."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from app import create_app
from benchmarks import data
from config import ROOT
from routes import openapi
from tests import clusters

_GUNICORN = [sys.executable, "-m", "gunicorn"]
START_SECONDS = 60
OURS = "this server"
ON_POSTGRES = "this server on PostgreSQL"
_MYLA_NEEDS = (
    *("uvicorn", "starlette", "fastapi", "python-dotenv", "jinja2", "aiohttp", "sqlmodel"),
    *("openai", "python-multipart", "pandas", "aiofiles", "Authlib", "itsdangerous"),
)
_MYLA_ROWS = """
    INSERT INTO secretkey (id, display_name, object, created_at, metadata_, user_id, is_deleted)
    SELECT 'any', 'any', 'secret_key', 1, 'null', id, 0 FROM user;
    INSERT INTO thread (id, object, created_at, metadata_, user_id, org_id, is_deleted)
    SELECT 'thread_1', 'thread', 1, '{"user": "u1"}', user.id, organization.id, 0
    FROM user, organization;
"""


class Running(NamedTuple):
    """A contender that accepts connections."""

    name: str
    pids: tuple[int, ...]
    address: tuple[str, int]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ours(
    url: str, name: str = OURS, beside: tuple[int, ...] = (), **settings: str
) -> Iterator[Running]:
    """This server, as `make run` starts it, with two workers of four threads.

    `beside` are processes whose CPU counts as its own.
    """
    settings = {"DATABASE_URL": url, "BIND": "127.0.0.1:0", "WORKERS": "2"} | settings
    with _process(name, _GUNICORN, settings, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        host, port = re.match(r"http://(.*):(\d+)/v1", ready["base_url"]).groups()
        await_answer((host, int(port)), "/healthz")
        yield Running(name, (ready["pid"], *beside), (host, int(port)))


def seconds_to_start(url: str) -> float:
    """Return the seconds from `make run` to its first 200."""
    port = free_port()
    started = time.monotonic()
    settings = {"DATABASE_URL": url, "BIND": f"127.0.0.1:{port}"}
    with _process(OURS, ["make", "-s", "run"], settings):
        await_answer(("127.0.0.1", port), "/healthz")
        return time.monotonic() - started


@contextmanager
def on_postgres(threads: int, **settings: str) -> Iterator[Running]:
    """This server on a durable private PostgreSQL cluster, whose CPU is counted."""
    with clusters.cluster(settings="") as cluster:
        url = cluster.template()
        data.fill(url, threads)
        master = int((cluster.folder / "postmaster.pid").read_text().split()[0])
        with ours(url, ON_POSTGRES, (master,), **settings) as running:
            yield running


@contextmanager
def bare() -> Iterator[Running]:
    """Bare Flask under the same gunicorn settings: the ceiling."""
    address = ("127.0.0.1", free_port())
    command = [*_GUNICORN, "-c", "benchmarks/bare_gunicorn.py", "-b", f"{address[0]}:{address[1]}"]
    with _process("bare Flask", command, {}) as process:
        await_answer(address, "/v1/threads/thread_1")
        yield Running("bare Flask", (process.pid,), address)


@contextmanager
def json_server(folder: Path) -> Iterator[Running]:
    """json-server 0.17.4 from npm, on a file of its own with one thread."""
    _npm_install(folder, "json-server@0.17.4")
    (folder / "db.json").write_text(json.dumps({"threads": [{"id": "1", "metadata": {}}]}))
    address = ("127.0.0.1", free_port())
    program = folder / "node_modules/.bin/json-server"
    command = [str(program), "--quiet", "--port", str(address[1]), str(folder / "db.json")]
    with _process("json-server", command, {}) as process:
        await_answer(address, "/threads/1")
        yield Running("json-server", (process.pid,), address)


@contextmanager
def prism(folder: Path) -> Iterator[Running]:
    """Prism 5 from npm, answering from this server's own API document (stateless)."""
    _npm_install(folder, "@stoplight/prism-cli@5")
    sys.path.insert(0, str(ROOT))
    document = folder / "openapi.json"
    document.write_bytes(openapi.document(create_app({"DATABASE_URL": "memory"})))
    address = ("127.0.0.1", free_port())
    program = folder / "node_modules/.bin/prism"
    command = [str(program), "mock", "-p", str(address[1]), "-h", address[0], str(document)]
    with _process("Prism", command, {}) as process:
        await_answer(address, "/threads/thread_1")
        yield Running("Prism", (process.pid,), address)


@contextmanager
def myla(folder: Path) -> Iterator[Running]:
    """myla 0.2.40 from PyPI on SQLite, with one thread, and a key that the load generator has.

    It is installed without what its vector stores alone need: torch and faiss take 5 GB.
    """
    program = _install_myla(folder)
    database, port = folder / "myla.db", free_port()
    database.unlink(missing_ok=True)
    command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
    command += ["--data", str(folder), "--env-file", "none"]
    with _process("myla", command, {}, env={"DATABASE_URL": f"sqlite:///{database}"}) as process:
        await_answer(("127.0.0.1", port), "/api/docs")
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.executescript(_MYLA_ROWS)
        yield Running("myla", (process.pid,), ("127.0.0.1", port))


def _install_myla(folder: Path) -> Path:
    programs = folder / "venv" / "bin"
    if not (programs / "myla").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        install = [str(programs / "pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, *_MYLA_NEEDS], check=True)
        subprocess.run([*install, "--no-deps", "myla==0.2.40"], check=True)
    return programs / "myla"


def await_answer(address: tuple[str, int], path: str) -> None:
    """Wait until a server answers, START_SECONDS at most."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=5).read()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def _process(
    name: str, command: list[str], settings: dict[str, str], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {key: value for key, value in os.environ.items() if key[:8] != "THREADS_"}
    environment |= {f"THREADS_{key}": value for key, value in settings.items()}
    environment |= options.pop("env", {})
    options = {"stdout": subprocess.DEVNULL} | options
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=40)


def _npm_install(folder: Path, package: str) -> None:
    if not shutil.which("npm"):
        raise SystemExit("The peers need npm.")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--silent", "--no-package-lock", "--prefix", str(folder), package]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
