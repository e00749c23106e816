"""What a start refuses: wrong settings, and addresses that must not or cannot be listened on.

It imports nothing slow, so that a port in use is refused at once.
"""

import os
import socket
import sys
from typing import Any

from environs import EnvValidationError
from gunicorn import systemd

from config import address, from_env, is_loopback


def read_settings() -> dict[str, Any]:
    """Return all settings. Raises SystemExit with one line that names every wrong one."""
    try:
        return from_env()
    except EnvValidationError as error:
        sys.exit(f"Wrong settings: {error}")


def is_running() -> bool:
    """Return whether the server runs already, at a reload: on_starting has loaded the app."""
    return "app" in sys.modules


def try_port_early(bind: str) -> None:
    """Try the port of THREADS_BIND, where it alone says what is listened on.

    Raises SystemExit with one line. At a reload the port is the server's own.
    """
    host, port = address(bind)
    is_overruled = len(sys.argv) > 1 or {"GUNICORN_CMD_ARGS", "LISTEN_PID"} & os.environ.keys()
    if is_loopback(host) and not is_overruled and not is_running():
        _try_port(bind, (host, port))


def _try_port(bind: str, where: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            sys.exit(f"Cannot listen on {bind}: {error.strerror}. THREADS_BIND chooses another.")


def check_addresses(cfg: Any, is_keyed: bool) -> None:
    """Refuse what gunicorn will listen on, its own arguments counted, unless it may be served.

    Raises SystemExit with one line.
    """
    sockets = [(name, address(name)) for name in _sockets_of_systemd()]
    for name, where in sockets or zip(cfg.bind, cfg.address, strict=True):
        is_port = isinstance(where, tuple)
        if not (is_keyed or (is_port and is_loopback(where[0]))):
            advice = "make an API key first (flask keys create)."
            sys.exit(f"THREADS_BIND={name} is not loopback: {advice}")
        if is_port and not sockets:
            _try_port(name, where)


def _sockets_of_systemd() -> list[str]:
    """Return the addresses of the sockets that systemd hands on to this process."""
    names = []
    for number in range(systemd.listen_fds(unset_environment=False)):
        with socket.socket(fileno=os.dup(systemd.SD_LISTEN_FDS_START + number)) as listener:
            names.append(name_of(listener))
    return [f"{name}:0" if name.startswith("unix:") else name for name in names]


def name_of(listener: socket.socket) -> str:
    """Return the address of a socket, written as in THREADS_BIND."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
