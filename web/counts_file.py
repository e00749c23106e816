"""The file of a worker's counts. Prometheus needs one for each process that runs."""

import fcntl
import os
from contextlib import suppress
from itertools import count
from pathlib import Path

_BYTES = 1 << 20
_own = 0


def number() -> int:
    """Return the number of this process's file: 0, of which there is none, before `claim`."""
    return _own


def claim(folder: Path) -> None:
    """Take the first file that no running worker has, and go on with the counts in it."""
    global _own
    for _own in count(1):
        lock = os.open(folder / f"{_own}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:  # until the end of the process
            for kind in ("counter", "histogram"):
                _reserve(folder / f"{kind}_{_own}.db")
            return


def _reserve(path: Path) -> None:
    """Give a new file its room: it is memory, and none left is a SIGBUS."""
    draft = path.with_suffix(".new")  # an empty file with the name could not be read
    with suppress(OSError, AttributeError):  # macOS reserves nothing
        if not path.exists():
            with draft.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _BYTES)
            draft.replace(path)
