"""The server's gunicorn settings, as far as they concern serving, for the bare app."""

from server import hooks

wsgi_app = "benchmarks.bare:app"
worker_class, workers, threads = "gthread", 2, 4
timeout, graceful_timeout, keepalive = 60, 25, 15
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
loglevel = "warning"
pre_fork, post_fork = hooks.pre_fork, hooks.post_fork
