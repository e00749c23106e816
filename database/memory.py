"""The private folder of THREADS_DATABASE_URL=memory. It ends with its process."""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from flask import Flask

from database.files import file_of

_PREFIX = "threads-memory-"


def is_memory(app: Flask) -> bool:
    """Return whether the database ends with the process."""
    return file_of(app.config["SQLALCHEMY_DATABASE_URI"]).parent.name.startswith(_PREFIX)


def private_folder() -> Path:
    """Make a folder, in memory if possible, that is removed when this process ends."""
    # A killed process leaves its folder without a lock. A folder gets its name after its lock.
    home = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())  # noqa: S108
    for folder in home.glob(f"{_PREFIX}*"):
        _remove_unlocked(folder)
    unnamed = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}{os.getpid()}-", dir=home))
    fcntl.flock(os.open(unnamed, os.O_RDONLY), fcntl.LOCK_EX)
    folder = unnamed.rename(home / unnamed.name[1:])
    atexit.register(_remove_own, folder, os.getpid())
    return folder


def _remove_unlocked(folder: Path) -> None:
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)


def _remove_own(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
