"""What gunicorn calls when the server starts, and when a worker starts or ends."""

import ctypes
import gc
import importlib
import json
import logging
import os
import random
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from flask import Flask

import config
from database import files, memory, startup, transactions
from database.sqlite import SQLite
from database.transactions import is_postgres, module_of
from models import SCHEMA_REVISION
from rules.errors import ApiError
from server.checks import check_addresses, is_running, name_of, read_settings
from server.worker import READ_STALL_SECONDS, SEND_STALL_SECONDS
from store import deletions
from web import counts_file
from web.secret_key import secret_key

log = logging.getLogger("threads")
_KEYS = "SELECT count(*) FROM api_keys"
_APP_LOAD_ERROR = 4
MOST_CONNECTIONS = 1_500
_FILES_A_CONNECTION = 4
_REFUSED = 3
_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX, _ARENAS = -8, 1
_M_MMAP_THRESHOLD, _LARGE_BYTES = -3, 1 << 20
_TRIM_SECONDS = 10
_SWITCH_SECONDS = 0.001
_LIBRARY = ctypes.CDLL(None)
_SNIPPET = """
Threads server at {url}
    from openai import OpenAI
    client = OpenAI(base_url="{url}", api_key="any")
    print(client.beta.threads.create())
"""


def connections() -> int:
    """Return how many connections a worker serves at once; let it open enough files for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MOST_CONNECTIONS * _FILES_A_CONNECTION
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if resource.RLIM_INFINITY != soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most // _FILES_A_CONNECTION


def is_keyed(settings: dict[str, Any]) -> bool:
    """Return whether an API key was ever made; True where a running server's database is away."""
    try:
        url = settings["DATABASE_URL"]
        return url != "memory" and bool(module_of(url).look_up(url, _KEYS))
    except SystemExit:
        if is_running():
            return True
        raise


def on_starting(server: Any) -> None:
    """Refuse what cannot work with one line, before any worker starts; upgrade the schema."""
    _return_memory()
    os.environ["THREADS_WORKERS"] = str(server.cfg.workers)
    settings = read_settings()
    server.is_keyed = is_keyed(settings)
    check_addresses(server.cfg, server.is_keyed)
    files.make_folder(settings["DATABASE_URL"])
    url = startup.flask_settings(settings)["SQLALCHEMY_DATABASE_URI"]
    os.environ["THREADS_DATABASE_URL"] = url
    os.environ["THREADS_SECRET_KEY"] = secret_key(settings["SECRET_KEY"], url)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(memory.private_folder())
    importlib.import_module("app")  # once, not in each process; web/metrics.py needs the folder
    _keep_replies(settings)
    if settings["SEED"] or not startup.is_current(url):
        _prepare_in_child()
    gc.freeze()  # what is loaded stays: each process would look through it at its end


def on_reload(server: Any) -> None:
    """Read the reply rules again; the earlier ones stay in force if they cannot be read."""
    try:
        _keep_replies(read_settings())
    except SystemExit as refusal:
        log.error("%s The earlier rules stay in force.", refusal.code)


def _keep_replies(settings: dict[str, Any]) -> None:
    """Read the reply rules here: a worker that refused them would be started for ever."""
    if config.has_mock(settings):
        importlib.import_module("mock.replies").keep(settings["REPLIES"])


def _return_memory() -> None:
    """Let glibc return freed memory: large blocks at once, the rest of one arena at its end."""
    with suppress(AttributeError):  # other libraries have none; a thread that runs keeps its own
        _LIBRARY.mallopt(_M_ARENA_MAX, _ARENAS)
        _LIBRARY.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _prepare_in_child() -> None:
    """Upgrade and seed in a child, so that no connection and no Alembic stay in this process."""
    child = get_context("fork").Process(target=_prepare)
    child.start()
    child.join()
    if child.exitcode:
        cause = "The database could not be prepared; the lines above say why."
        sys.exit(1 if child.exitcode == _REFUSED else cause)


def _prepare() -> None:
    try:
        cli = importlib.import_module("cli")
        with cli.create_app().app_context():
            cli.prepare_database()
    except (ApiError, SystemExit) as error:
        print(error, file=sys.stderr)
        sys.exit(_REFUSED)
    except transactions.FAILURES as error:
        cause = transactions.cause_of(error)
        print(f"The database could not be prepared: {cause}.", file=sys.stderr)
        sys.exit(_REFUSED)


def when_ready(server: Any) -> None:
    """Bound slow clients and say where the server listens: one JSON line on stdout.

    A person at a terminal sees how to call it. Elsewhere stderr is a log of JSON lines.
    """
    listeners = [listener.sock for listener in server.LISTENERS]
    stalls = {socket.SO_RCVTIMEO: READ_STALL_SECONDS, socket.SO_SNDTIMEO: SEND_STALL_SECONDS}
    for sock, (option, seconds) in product(listeners, stalls.items()):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))
    url = f"http://{name_of(listeners[0])}/v1"
    with suppress(OSError):  # a log on a full disk keeps nobody from being served
        print(json.dumps({"event": "ready", "base_url": url, "pid": os.getpid()}), flush=True)
        if sys.stderr.isatty() and not server.is_keyed:
            print(_SNIPPET.format(url=url), file=sys.stderr, flush=True)


def nworkers_changed(server: Any, new: int, old: int | None) -> None:
    """Stay one process with mock controls, in spite of SIGTTIN: each would have its own."""
    if old != 1 or new == 1:
        return
    settings = read_settings()
    if config.mock_is_on(settings, is_keyed(settings)):
        server.log.warning("The mock controls need one worker: set THREADS_WORKERS and restart.")
        server.num_workers = 1


def pre_fork(server: Any, worker: Any) -> None:
    """Choose the processor of a worker: one that fewest of the others keep to."""
    with suppress(AttributeError):  # macOS keeps no process to a processor
        taken = Counter(other.processor for other in server.WORKERS.values())
        allowed = list(os.sched_getaffinity(0))
        random.shuffle(allowed)  # other servers may run here
        worker.processor = min(allowed, key=taken.__getitem__)


def post_fork(server: Any, worker: Any) -> None:
    """Let a worker end with its master, even a killed one: it would keep the port.

    It keeps to one processor: its threads share Python's lock, and lose time if they hand it from
    one processor to another. They hand it on often: a quick request takes it many times, and a slow
    one would keep it each time.
    """
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {worker.processor})
    sys.setswitchinterval(_SWITCH_SECONDS)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until gunicorn sets its own, one would be lost
    if sys.platform == "linux":
        _LIBRARY.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server.pid:
            os._exit(1)


def post_worker_init(worker: Any) -> None:
    """Let no worker serve a database with another schema; finish what killed processes left."""
    _refuse_old_schema(worker.wsgi)
    counts_file.claim(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    gc.freeze()
    worker.wsgi.extensions["players"].open()
    threading.Thread(target=_delete_left, args=(worker.wsgi,), daemon=True).start()
    threading.Thread(target=_give_memory_back, daemon=True).start()


def _refuse_old_schema(app: Flask) -> None:
    """Stop a worker whose database has another schema than this program's.

    A database that is away stops no worker: each answers 503 until it is back.
    """
    url, engine = app.config["SQLALCHEMY_DATABASE_URI"], app.extensions["database"]
    try:
        revision = module_of(url).look_up(url, startup.REVISION)
    except SystemExit as error:
        log.error(error.code)
    else:
        if is_postgres(url) or os.path.exists(files.file_of(url)):
            return _refuse_revision(revision)
        log.error("The database %s is missing.", files.file_of(url))
    if isinstance(engine, SQLite):
        engine.await_file()


def _refuse_revision(revision: str | None) -> None:
    """gunicorn ends the server at status 4, and starts the worker again at any other."""
    if revision != SCHEMA_REVISION:
        log.error("The database has schema %s, not %s: start anew.", revision, SCHEMA_REVISION)
        raise SystemExit(_APP_LOAD_ERROR)


def _delete_left(app: Flask) -> None:
    """Finish deletions. They may be long, so requests are served meanwhile."""
    with app.app_context(), suppress(ApiError):
        deletions.delete_left()


def _give_memory_back() -> None:
    """Let glibc keep little of what large requests have freed; other libraries keep none."""
    with suppress(AttributeError):
        while True:
            time.sleep(_TRIM_SECONDS)
            _LIBRARY.malloc_trim(0)


def worker_exit(server: Any, worker: Any) -> None:
    """Leave no run without its end, and nothing of a stopped server in SQLite's log."""
    if hasattr(worker, "wsgi"):
        worker.wsgi.extensions["players"].stop()
        startup.close(worker.wsgi)
