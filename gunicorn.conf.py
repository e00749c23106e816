"""gunicorn's settings, from the same THREADS_… variables; run it as `gunicorn` in this folder."""

import ctypes
import functools
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from environs import EnvValidationError
from gunicorn import util

from config import address, from_env, is_loopback


def _read_settings() -> dict[str, Any]:
    try:
        return from_env()
    except EnvValidationError as error:
        sys.exit(f"Wrong settings: {error}")


def _try_port(bind: str, where: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            sys.exit(f"Cannot listen on {bind}: {error.strerror}. THREADS_BIND chooses another.")


def _may_try_early(host: str) -> bool:
    """Tell whether THREADS_BIND alone says what is listened on, as on_starting does later.

    At a reload, when the slow imports are done, the port is our own.
    """
    is_overruled = len(sys.argv) > 1 or {"GUNICORN_CMD_ARGS", "LISTEN_PID"} & os.environ.keys()
    return is_loopback(host) and not (_is_reload or is_overruled)


_is_reload = "database" in sys.modules
_settings = _read_settings()
_where = address(_settings["BIND"])
if _may_try_early(_where[0]):
    _try_port(_settings["BIND"], _where)

# Slow imports: a port in use is refused before them.
import database  # noqa: E402
from errors import ApiError  # noqa: E402
from logs import CONFIG  # noqa: E402


def _has_keys() -> bool:
    """Tell whether a key was ever made; at a reload a database may be away, and workers say so."""
    try:
        return database.has_keys(_settings["DATABASE_URL"])
    except SystemExit:
        if _is_reload:
            return True
        raise


_keyed = _settings["DATABASE_URL"] != "memory" and _has_keys()
if _settings["WORKERS"] is None:
    _settings["WORKERS"] = 2 if _keyed and _settings["MOCK"] != "on" else 1
_READ_SECONDS, _SEND_SECONDS = 5, 30
_LINGER_SECONDS = 0.1
_COUNTS_BYTES = 1 << 20
_SYSTEMD_SOCKET = 3
_REFUSED = 3
_PR_SET_PDEATHSIG = 1

# gunicorn waits for the peer to close, 2 s for each connection in turn, and accepts nobody else.
if not isinstance(util.close_graceful, functools.partial):
    util.close_graceful = functools.partial(util.close_graceful, timeout=_LINGER_SECONDS)

wsgi_app = "app:create_app()"
bind = _settings["BIND"]
worker_class = "workers.Worker"
workers = _settings["WORKERS"]
threads = _settings["WORKER_THREADS"]
timeout, graceful_timeout, keepalive = 60, 25, 15
limit_request_line, limit_request_fields, limit_request_field_size = 8190, 60, 8190
forwarded_allow_ips = ""
header_map = "refuse"
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
control_socket_disable = True
logger_class = "logs.Logger"
logconfig_dict = CONFIG
umask = 0o077

_SNIPPET = """
Threads server at {url}
    from openai import OpenAI
    client = OpenAI(base_url="{url}", api_key="any")
    print(client.beta.threads.create())
"""


def on_starting(server: Any) -> None:
    """Refuse what cannot work with one line, before any worker starts; upgrade the schema."""
    os.environ["THREADS_WORKERS"] = str(server.cfg.workers)
    _read_settings()
    _check_addresses(server.cfg)
    database.make_folder(_settings["DATABASE_URL"])
    prepared = database.prepare(_settings)
    url = os.environ["THREADS_DATABASE_URL"] = prepared["SQLALCHEMY_DATABASE_URI"]
    os.environ["THREADS_SECRET_KEY"] = prepared["SECRET_KEY"]
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(database.private_folder())
    if _settings["SEED"] or not database.is_current(url):
        _prepare_in_child()
    importlib.import_module("app")  # once, not in each worker; metrics.py wants the folder before
    gc.freeze()  # what is loaded stays: looking through it makes each process's end 0.2 s longer


def when_ready(server: Any) -> None:
    """Bound slow clients and say where the server listens: one JSON line on stdout."""
    listeners = [listener.sock for listener in server.LISTENERS]
    for listener in listeners:
        for option, seconds in (
            (socket.SO_RCVTIMEO, _READ_SECONDS),
            (socket.SO_SNDTIMEO, _SEND_SECONDS),
        ):
            listener.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))
    url = f"http://{_name_of(listeners[0])}/v1"
    with suppress(OSError):  # a log on a full disk keeps nobody from being served
        print(json.dumps({"event": "ready", "base_url": url, "pid": os.getpid()}), flush=True)
        print(_SNIPPET.format(url=url), file=sys.stderr, flush=True)


def _name_of(listener: socket.socket) -> str:
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def nworkers_changed(server: Any, new: int, old: int | None) -> None:
    """Stay one process with mock controls, in spite of SIGTTIN: each would have its own."""
    has_controls = _settings["MOCK"] == "on" or (_settings["MOCK"] == "auto" and not _keyed)
    if old == 1 and new > 1 and has_controls:
        server.log.warning("The mock controls need one worker: set THREADS_WORKERS and restart.")
        server.num_workers = 1


def post_worker_init(worker: Any) -> None:
    """Let no worker serve a database with another schema."""
    database.refuse_old_schema(worker.wsgi)
    _reserve_counts()
    gc.freeze()


def _reserve_counts() -> None:
    """Give the file of this worker's counts its room: it is memory, and none left is a SIGBUS."""
    if sys.platform != "linux":
        return
    path = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) / f"histogram_{os.getpid()}.db"
    with suppress(OSError), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, _COUNTS_BYTES)


def worker_exit(server: Any, worker: Any) -> None:
    """Leave nothing of a stopped server in SQLite's log."""
    if hasattr(worker, "wsgi"):
        database.close(worker.wsgi)


def post_fork(server: Any, worker: Any) -> None:
    """Let a worker end with its master, even a killed one: it would keep the port."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until gunicorn sets its own, one would be lost
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server.pid:
            os._exit(1)


def _check_addresses(cfg: Any) -> None:
    """Refuse what gunicorn will listen on, its own arguments counted, unless it may be served."""
    handed_on = _sockets_of_systemd()
    given = zip(cfg.bind, cfg.address, strict=True)
    for name, where in [(name, address(name)) for name in handed_on] or given:
        is_port = isinstance(where, tuple)
        if not (_keyed or (is_port and is_loopback(where[0]))):
            sys.exit(
                f"THREADS_BIND={name} is not loopback: make an API key first (flask keys create)."
            )
        if is_port and not handed_on:
            _try_port(name, where)


def _prepare_in_child() -> None:
    """Upgrade and seed in a child, so that no connection and no Alembic stay in this process."""
    child = os.fork()
    if not child:
        status = 1
        try:
            commands = importlib.import_module("commands")
            with commands.create_app().app_context():
                commands.prepare_database()
            status = 0
        except (ApiError, SystemExit) as error:
            print(getattr(error, "description", error), file=sys.stderr)
            status = _REFUSED
        except database.FAILURES as error:
            told = f"The database could not be prepared: {database.cause_of(error)}."
            print(told, file=sys.stderr)
            status = _REFUSED
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        told = "The database could not be prepared; the lines above say why."
        sys.exit(1 if status == _REFUSED else told)


def _sockets_of_systemd() -> list[str]:
    """Return the addresses of the sockets that systemd hands on to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = []
    for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
        with socket.socket(fileno=os.dup(_SYSTEMD_SOCKET + number)) as listener:
            names.append(_name_of(listener))
    return [f"{name}:0" if name.startswith("unix:") else name for name in names]
