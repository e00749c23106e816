"""The key that signs the cookies and forms of the browse page."""

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

import config
from database import files
from database.transactions import is_postgres


def secret_key(setting: str | None, url: str) -> str:
    """Return THREADS_SECRET_KEY, or a key that lies beside the database. Raises SystemExit."""
    if setting or "FLASK_RUN_FROM_CLI" in os.environ:  # a command signs nothing: it needs no file
        return setting or secrets.token_hex(32)
    home = files.file_of(config.DEFAULT_DATABASE_URL if is_postgres(url) else url)
    try:
        return _beside(home)
    except OSError as error:
        sys.exit(f"The database folder {home.parent} cannot be used: {error.strerror}.")


def _beside(database: Path) -> str:
    path = database.with_name(f"{database.name}-secret")
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _make_secret(path)
    secret = path.read_text()
    if len(secret) < config.MIN_SECRET_CHARACTERS:
        sys.exit(f"{path} is damaged. Delete it: everybody signs in to the browse page anew.")
    return secret


def _make_secret(path: Path) -> None:
    """Write a key and then name the file, once: all workers read the same whole key."""
    draft = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
