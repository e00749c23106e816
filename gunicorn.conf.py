"""gunicorn's settings, from the same THREADS_… variables; run it as `gunicorn` in this folder."""

import gc
import os

from config import mock_is_on
from server.checks import read_settings, try_port_early

_settings = read_settings()
try_port_early(_settings["BIND"])

# Slow imports: a port in use is refused before them.
gc.disable()  # what is imported stays: looking through it would only make a start longer
from server import hooks  # noqa: E402
from server.logs import CONFIG  # noqa: E402

gc.freeze()
gc.enable()

_is_keyed = hooks.is_keyed(_settings)
_workers = 2 if _is_keyed and not mock_is_on(_settings, _is_keyed) else 1

wsgi_app = "app:create_app()"
bind = _settings["BIND"]
worker_class = "server.worker.Worker"
workers = _settings["WORKERS"] or _workers
threads = _settings["WORKER_THREADS"]
worker_connections = hooks.connections()
sendfile = False  # it would pass by the deadline of an answer
timeout, graceful_timeout, keepalive = 60, 25, 15
limit_request_line, limit_request_fields, limit_request_field_size = 8190, 60, 8190
forwarded_allow_ips = ""
header_map = "refuse"
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
control_socket_disable = True
logger_class = "server.logs.Logger"
logconfig_dict = CONFIG
umask = 0o077
on_starting, on_reload, when_ready = hooks.on_starting, hooks.on_reload, hooks.when_ready
nworkers_changed, worker_exit = hooks.nworkers_changed, hooks.worker_exit
pre_fork, post_fork = hooks.pre_fork, hooks.post_fork
post_worker_init = hooks.post_worker_init
