"""Programs that serve a model, each in an environment of its own."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conftest import end_with_parent, until

START_SECONDS = 90
_ADDRESS = re.compile(r"http://127\.0\.0\.1:[1-9]\d*")


class Program:
    """A program that accepts connections."""

    def __init__(self, pid: int, url: str) -> None:
        self.pid, self.url = pid, url


@contextmanager
def running(command: Sequence[str | Path], folder: Path, **variables: str) -> Iterator[Program]:
    """Run a command in a folder; yield it once its log has an address; kill it at the end."""
    log = folder / "program.log"
    environment = os.environ | {"HOME": str(folder)} | variables
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,
        ) as process,
    ):
        try:
            until(lambda: bool(_ADDRESS.search(log.read_text())), START_SECONDS, 0.05)
            found = _ADDRESS.search(log.read_text())
            assert found, log.read_text()
            yield Program(process.pid, found[0] + "/v1")
        finally:
            process.kill()
