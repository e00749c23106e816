"""SQLite's files: where they are, and their room on disk."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

import config

DISK_FLOOR_BYTES = 64 << 20
WAL_LIMIT_BYTES = 256 << 20
COMPANIONS = ("", "-wal", "-shm", "-queue", "-queue-pipe", "-secret")
"""How the names of a database's files go on after the name of the database itself."""


def file_of(url: str) -> Path:
    """Return the path of a SQLite URL's file."""
    return Path(sa.make_url(url).database or "")


def log_of(path: Path) -> Path:
    """Return where SQLite has the write-ahead log: beside the file, not beside a link to it."""
    return Path(f"{path.resolve()}-wal")


def free_bytes(path: Path) -> int:
    """Return how much room the disk of a database has left; 0 when its folder is gone."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0


def wal_bytes(path: Path) -> int:
    """Return the size of a database's write-ahead log, which may be gone at any moment."""
    try:
        return log_of(path).stat().st_size
    except OSError:
        return 0


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from any other, None where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def make_folder(url: str) -> None:
    """Make the folder of a database file, at a start. Raises SystemExit with one line."""
    if not url.startswith("sqlite:"):
        return
    os.umask(0o077)
    folder = file_of(url).parent
    if url == config.DEFAULT_DATABASE_URL:
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        sys.exit(f"The database folder {folder} is missing or cannot be written.")
