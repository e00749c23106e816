"""Fixtures: an app on its own migrated database, its client, a live server, Node, a browser."""

import fcntl
import gc
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from email.message import Message
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO

import clusters
import fork_server
import jinja2
import pytest
import werkzeug.routing
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from fork_server import end_with_parent
from jinja2.bccache import Bucket
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from werkzeug.routing.matcher import StateMachineMatcher

import cli
import database
from access import api_keys
from app import App, create_app
from config import ROOT
from database import memory, startup
from models import db
from rules import refusals
from rules.ids_and_clock import sources

if TYPE_CHECKING:
    from playwright.sync_api import Browser

gc.disable()  # what is imported and collected stays: see pytest_collection_finish
NODE_FOLDER = Path(__file__).parent / "node"
NEEDED_NODE = 22
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECRET = re.compile(
    rf"{api_keys.PREFIX}\w{{20}}|bearer\s|cookie\s*[:=]|session=|csrf_token|\"(content|role|metadata)\":",
    re.IGNORECASE,
)
GUNICORN = [str(Path(sys.executable).parent / "gunicorn")]
Process = subprocess.Popen[str] | fork_server.Fork
FORK_SERVER = fork_server.ForkServer()
LONGEST = [
    "test_admin_browser.py",
    "test_run_faults.py",
    "test_start.py",
    "test_fixtures.py",
    "test_openapi.py",
    "test_worker.py",
    "test_browser_list.py",
    "test_gunicorn.py",
    "test_browser_thread.py",
    "test_mock.py",
    "test_random_faults.py",
    "test_backup.py",
    "test_data.py",
    "test_examples.py",
    "test_sqlite.py",
    "test_pool.py",
    "test_browser_requests.py",
    "test_lists.py",
    "test_model.py",
    "test_logs.py",
    "test_clock.py",
    "test_disk.py",
    "test_port.py",
    "test_postgres.py",
    "test_node.py",
]
"""The files that start first: one that starts last would keep a single processor busy."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=["sqlite", "postgres"], default="sqlite")


def pytest_configure(config: pytest.Config) -> None:
    """Keep everything temporary in one folder, which goes with the run, however that ends."""
    if hasattr(config, "workerinput"):  # a process of xdist has the folder of its master
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = tempfile.mkdtemp(prefix="threads.", dir=room_for_tests(config))
    os.chmod(folder, 0o711)  # PostgreSQL runs as another user
    config.add_cleanup(memory.private_folder)  # it removes those of killed servers
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    tempfile.tempdir = os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = folder


def room_for_tests(config: pytest.Config) -> str:
    """Return the folder for thousands of small databases: in memory, if there is room."""
    is_of_disk = config.getoption("engine") == "postgres" or os.environ.get("FAULTS") == "whole"
    with suppress(OSError):
        if not is_of_disk and shutil.disk_usage("/dev/shm").free > 2_000_000_000:
            return "/dev/shm"
    return tempfile.gettempdir()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; skip the tests that are not about the run's database."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    on_postgres = config.getoption("engine") == "postgres"
    for item in items:
        mark = item.get_closest_marker("sqlite_only")
        if mark and on_postgres:
            item.add_marker(pytest.mark.skip(reason=f"SQLite is enough: {mark.args[0]}"))
        if on_postgres and "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="A browser gets the same pages"))
        if item.path.name == "test_postgres.py" and not on_postgres:
            item.add_marker(pytest.mark.skip(reason="PostgreSQL only: make test-postgres"))


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make only, from now on."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def cluster() -> Iterator[clusters.Cluster]:
    """A private PostgreSQL server with an empty database of the newest schema in it."""
    if not clusters.BINARIES:
        assert "CI" not in os.environ, "CI must not skip PostgreSQL"
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    with clusters.cluster() as running:
        with cli.create_app(postgres_settings(running.template())).app_context():
            cli.prepare_database()
            db.engine.dispose()
        yield running


class Map(werkzeug.routing.Map):
    """Routes that are compiled once a run: a third of what a test's app costs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._added: list[werkzeug.routing.Rule] = []
        super().__init__(*args, **options)

    def add(self, rulefactory: Any) -> None:
        self._added.append(rulefactory)
        self._remap = True

    def update(self) -> None:
        if self._remap:
            with COMPILING:
                self._compile()

    def _compile(self) -> None:
        rules = [(rule.rule, rule.endpoint, frozenset(rule.methods)) for rule in self._added]
        if (key := (self.merge_slashes, *rules)) not in COMPILED:
            self._matcher, self._rules_by_endpoint = StateMachineMatcher(self.merge_slashes), {}
            for rule in self._added:
                super().add(copy(rule))
            super().update()
            COMPILED[key] = self._matcher, self._rules_by_endpoint
        self._matcher, self._rules_by_endpoint = COMPILED[key]
        self._remap = False


COMPILED: dict[tuple[Any, ...], tuple[StateMachineMatcher, dict[Any, Any]]] = {}
COMPILING = threading.Lock()
App.url_map_class = Map


class Templates(jinja2.BytecodeCache):
    """Templates that are compiled once a run."""

    def __init__(self) -> None:
        self._compiled: dict[str, CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._compiled.get(bucket.key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.code


App.jinja_options = {"bytecode_cache": Templates()}


def postgres_settings(url: str) -> dict[str, str]:
    return {"DATABASE_URL": url, "SECRET_KEY": "s" * 32}


@pytest.fixture(scope="session", autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The run's engine; a server without a DATABASE_URL gets a new database of it."""
    name: str = request.config.getoption("engine")
    if name == "postgres":
        CLUSTER.append(request.getfixturevalue("cluster"))
    else:
        MIGRATED.append(request.getfixturevalue("migrated"))
    yield name
    FORK_SERVER.close()


@pytest.fixture(autouse=True)
def clock_and_ids() -> Iterator[None]:
    """Give the next test the machine's clock and random ids again."""
    yield
    sources.__init__()


CLUSTER: list[clusters.Cluster] = []
MIGRATED: list[Path] = []


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that `flask db upgrade` made, once per run; tests copy it."""
    path = tmp_path_factory.mktemp("migrated") / "threads.db"
    with cli.create_app({"DATABASE_URL": f"sqlite:///{path}"}).app_context():
        cli.prepare_database()
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
    close(app)


def close(app: Flask) -> None:
    """Stop the players of an app at once, and close its connections."""
    players = app.extensions["players"]
    with players.paused():
        players.stop()
    startup.close(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app.test_client()


@pytest.fixture
def make_app(database_url: str) -> Iterator[Callable[..., Flask]]:
    """Make an app with its own settings on this test's database."""
    apps = []

    def make(**settings: Any) -> Flask:
        apps.append(create_app({"DATABASE_URL": database_url, "DURABILITY": "normal", **settings}))
        apps[-1].config["PROPAGATE_EXCEPTIONS"] = False
        return apps[-1]

    yield make
    for app in apps:
        close(app)


@pytest.fixture
def client_with(make_app: Callable[..., Flask]) -> Callable[..., FlaskClient]:
    """Make the client of an app with its own settings."""
    return lambda **settings: make_app(**settings).test_client()


@pytest.fixture
def busy_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that lets so many writes be stored from now on, and refuses the others."""
    write = database.write

    def allow(count: int) -> None:
        allowed = iter(range(count))

        def limited(*arguments: Any) -> Any:
            if next(allowed, None) is None:
                raise refusals.busy()
            return write(*arguments)

        monkeypatch.setattr(database, "write", limited)

    return allow


@pytest.fixture
def statements(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that the test's own thread runs on SQLite from now on, with its values."""
    statements: list[str] = []
    own = threading.current_thread()
    engine = app.extensions["database"]
    engine._idle.clear()  # these connections are not traced
    connect = engine.connect

    def note(statement: str) -> None:
        if threading.current_thread() is own:  # a player runs others at any moment
            statements.append(statement)

    def traced() -> Any:
        raw = connect()
        raw.set_trace_callback(note)
        return raw

    monkeypatch.setattr(engine, "connect", traced)
    return statements


@pytest.fixture
def threads_left(app: Flask) -> Callable[[], int]:
    """Leave a thread as a killed deletion does; return a function that counts all threads."""
    names = "project, id, created_at, metadata, tool_resources"
    values = f"INSERT INTO threads ({names}) VALUES ('', 'left', 0, '{{}}', '{{}}')"

    def count() -> int:
        with app.app_context(), database.read() as connection:
            return int(connection.value("SELECT count(*) FROM threads"))

    with app.app_context():
        database.write(lambda connection: connection.change(values))
    return count


SDK_OPTIONS: Any = {"api_key": "any", "max_retries": 0, "_strict_response_validation": True}
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: to load the usual authorities is most of what a client costs."""


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


class Server:
    """A running server: where it is, its process (group leader), and what it printed."""

    def __init__(self, process: Process, ready: dict[str, Any], log: Path) -> None:
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
        http_client = DefaultHttpxClient(verify=NO_AUTHORITIES)
        return OpenAI(base_url=self.base_url, http_client=http_client, **(SDK_OPTIONS | options))

    def async_sdk(self) -> AsyncOpenAI:
        http_client = DefaultAsyncHttpxClient(verify=NO_AUTHORITIES)
        return AsyncOpenAI(base_url=self.base_url, http_client=http_client, **SDK_OPTIONS)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request on a connection of its own; `_` in header names stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named["Content-Type"] = "application/json"
            body = json.dumps(body)
        connection = HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def workers(self) -> set[int]:
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def until(condition: Callable[[], bool], seconds: float = 10, pause: float = 0.01) -> bool:
    """Wait some seconds for a condition; tell whether it came true."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return met


@contextmanager
def lent_database() -> Iterator[str]:
    """Lend a server a database of the newest schema: of SQLite, one that counts as in memory."""
    if CLUSTER:
        url = CLUSTER[0].new()
        yield url
        CLUSTER[0].give_back(url)
    else:
        with tempfile.TemporaryDirectory(prefix="threads-memory-") as folder:
            yield f"sqlite:///{shutil.copy(MIGRATED[0], f'{folder}/threads.db')}"


def start(
    command: Sequence[str], cwd: Path, environment: dict[str, str], stderr: TextIO
) -> Process:
    """Start a command as the leader of a session of its own."""
    is_plain = command == GUNICORN and cwd == ROOT and sys.platform == "linux"
    if is_plain and fork_server.of_interpreter(environment) == fork_server.OWN:
        return FORK_SERVER.start(GUNICORN, environment, stderr)
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


@contextmanager
def launched(
    log: Path, command: Sequence[str] = GUNICORN, cwd: Path = ROOT, **settings: Any
) -> Iterator[Process]:
    """Run a command with settings (without THREADS_) and its stderr in `log`; kill it at the end.

    No log of any test may hold a key, a cookie or a body.
    """
    if "DATABASE_URL" not in settings:
        with (
            lent_database() as url,
            launched(log, command, cwd, DATABASE_URL=url, **settings) as it,
        ):
            yield it
        return
    variables = {"BIND": "127.0.0.1:0", "SECRET_KEY": "s" * 32, **settings}
    environment = {key: value for key, value in os.environ.items() if key[:8] != "THREADS_"}
    environment |= {f"THREADS_{key}": str(value) for key, value in variables.items()}
    with log.open("a") as stderr:
        process = start(command, cwd, environment, stderr)
    assert process.stdout is not None
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert not (secret := SECRET.search(log.read_text(errors="replace"))), f"logged: {secret}"


def await_ready(process: Process, log: Path, workers: int = 1) -> Server:
    """Wait for the ready line of a launched server and for its workers."""
    assert process.stdout is not None
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    assert line, f"the server did not start:\n{log.read_text()}"
    server = Server(process, json.loads(line), log)
    assert until(lambda: len(server.workers()) >= workers or process.poll() is not None)
    return server


@contextmanager
def serving(log: Path, **settings: Any) -> Iterator[Server]:
    """Run gunicorn as `make run` does, on a free port; stop it with SIGTERM."""
    with launched(log, **settings) as process:
        server = await_ready(process, log, settings.get("WORKERS", 1))
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


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[OpenAI]:
    """An official client of the module's server."""
    with server.sdk() as sdk:
        yield sdk


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """Start a live server with settings of its own: `with serve(WORKERS=2) as server:`."""
    return lambda **settings: serving(tmp_path / "log", **settings)


@pytest.fixture(scope="session")
def node() -> str:
    """The path of a Node that the Node SDK supports; the SDK is installed in NODE_FOLDER."""
    own = node_version("node") >= NEEDED_NODE
    npm_install(NODE_FOLDER, "ci", *(["--omit=optional"] if own else []))
    path = "node" if own else str(NODE_FOLDER / "node_modules" / ".bin" / "node")
    if node_version(path) < NEEDED_NODE:
        give_up(f"Node {NEEDED_NODE} is missing and npm could not install it.")
    return path


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium, without a page. Playwright holds an event loop, which no later module may find."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if chromium is None:
        give_up("chromium is missing.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


class _Pages(SimpleHTTPRequestHandler):
    """Serves NODE_FOLDER, and at / a page whose scripts may import the Node SDK."""

    PAGE = (
        b"<!doctype html><title>page</title><link rel=icon href=data:,><script type=importmap>"
        b'{"imports": {"openai": "/node_modules/openai/index.mjs"}}</script>'
    )

    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.PAGE)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def pages() -> Iterator[int]:
    """The port of a web server that is not ours, with pages of other origins."""
    handler = partial(_Pages, directory=str(NODE_FOLDER))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def npm_install(folder: Path, *command: str) -> None:
    """Install a folder's packages, once for all test processes, until its package.json changes."""
    if shutil.which("npm") is None:
        give_up("npm is missing: install Node.js with npm.")
    done = folder / "node_modules" / ".installed"
    with (folder / "package.json").open() as manifest:
        fcntl.flock(manifest, fcntl.LOCK_EX)
        if done.exists() and done.read_text() == str(command) + manifest.read():
            return
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        install = subprocess.run(
            ["npm", *command, *quiet], cwd=folder, capture_output=True, text=True
        )
        if install.returncode:
            give_up(f"npm cannot install {folder}:\n{install.stderr}")
        manifest.seek(0)
        done.write_text(str(command) + manifest.read())


def node_version(node: str) -> int:
    """Return the major version of a Node, 0 where there is none."""
    if shutil.which(node) is None:
        return 0
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    return int(version.removeprefix("v").partition(".")[0])


def give_up(reason: str) -> NoReturn:
    """Skip the test; on a CI machine, where nobody sees a skip, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


Commands = Callable[..., Result]


@pytest.fixture
def flask(database_url: str) -> Iterator[Commands]:
    """Run a `flask` command on the test's database: `flask("keys", "list").stdout`."""
    app = cli.create_app({"DATABASE_URL": database_url})

    def run(*words: str | Path, status: int = 0) -> Result:
        with app.app_context():
            result = app.test_cli_runner().invoke(args=[*map(str, words)])
        assert result.exit_code == status, result.output
        return result

    yield run
    startup.close(app)


@pytest.fixture
def new_key(flask: Commands) -> Callable[..., str]:
    """Make an API key: `new_key("project", "--expires", "1d")`."""
    return lambda *words: flask("keys", "create", *(words or ("default",))).stdout.strip()


def flask_process(url: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a `flask` command as an operator does: a process of its own."""
    command = [sys.executable, "-m", "flask", *map(str, words)]
    environment = os.environ | {"THREADS_DATABASE_URL": url}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def schemathesis(server: Server, folder: Path, *options: str) -> str:
    """Check a server against its API document; return the report."""
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        f"--config-file={Path(__file__).parent / 'schemathesis.toml'}",
        "run",
        f"{server.root_url}/openapi.json",
        "--continue-on-failure",
        "--no-shrink",
        "--no-color",
        *options,
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
