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
"""The endings of the names of a database's files, after the name of the database itself."""


def file_of(url: str) -> Path:
    """Return the path of a SQLite URL's file."""
    return Path(sa.make_url(url).database or "")


def log_of(path: Path) -> Path:
    """Return the path of the write-ahead log: SQLite puts it beside the file, not beside a link."""
    return Path(f"{path.resolve()}-wal")


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of a database; 0 when its folder is gone."""
    with suppress(OSError):
        return shutil.disk_usage(path.parent).free
    return 0


def wal_bytes(path: Path) -> int:
    """Return the size of a database's write-ahead log; 0 when it is gone."""
    with suppress(OSError):
        return log_of(path).stat().st_size
    return 0


def identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, None when there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def make_folder(url: str) -> None:
    """Make the folder of a database file when the program starts. Raises SystemExit."""
    if not url.startswith("sqlite:"):
        return
    os.umask(0o077)
    folder = file_of(url).parent
    if url == config.DEFAULT_DATABASE_URL:
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        sys.exit(f"The database folder {folder} is missing or cannot be written.")
