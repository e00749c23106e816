"""gunicorn's thread worker, with an eye on the other workers."""

from time import sleep
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

_PAUSE_SECONDS = 0.0002


class Worker(ThreadWorker):  # type: ignore[misc]
    """A worker that has connections leaves a new one to the others for a moment.

    Clients keep their connections: in three of eight starts, eight of them that came at once were
    all accepted by one of two workers, and had half the answers a second ever after.
    """

    def accept(self, listener: Any) -> None:
        if self.nr_conns and self.cfg.workers > 1:
            sleep(_PAUSE_SECONDS)
        super().accept(listener)
