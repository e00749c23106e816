"""The players of a process: threads that are made when runs need them, and a watch over them."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from threading import Condition, Event, Thread
from time import monotonic

from flask import Flask, current_app

import database
from players.answers import Answerer, Model
from players.play import CHANGED, REPLACED, STOPPING, Play
from players.script import Choice, Script
from players.streams import Stream
from rules import refusals
from rules.errors import ApiError
from runs import leases
from runs.states import LostRun

log = logging.getLogger("threads")

LOOK_SECONDS, SWEEP_SECONDS = 0.25, 2.0
SCRIPT_POLL_MILLISECONDS, MODEL_POLL_MILLISECONDS = 20, 500
STOP_SECONDS = 3.0
"""How long the plays of a process that stops may take to end by themselves."""
END_SECONDS = 5.0
"""How long plays may take to end after the order to stop."""


def init_app(app: Flask) -> None:
    """Add the players, which play nothing until they are asked to."""
    app.extensions["players"] = Players(app)


def current() -> "Players":
    """Return the app's players."""
    return current_app.extensions["players"]  # type: ignore[no-any-return]


class Players:
    """Up to THREADS_RUNS threads that play runs. Only a process that serves makes them."""

    def __init__(self, app: Flask) -> None:
        self._app, self._most = app, app.config["RUNS"]
        self.script: Script | None = None  # the mock controls set it
        self.model: Model | None = None  # the app sets it
        self._executor = ThreadPoolExecutor(self._most, thread_name_prefix="player")
        self._plays: dict[str, Play] = {}  # by token; those that wait for a thread, too
        self._at_work: set[str] = set()
        self._change = Condition()
        self._pauses, self._is_stopped = 0, False
        self._watcher: Thread | None = None
        self._next_sweep = 0.0
        self._wake = Event()

    def prepare(self, stream: Stream | None = None) -> Play:
        """Return a play for a run that is made next. Raises ApiError 400 if nothing answers."""
        answerer = self._answerer()
        if answerer is None:
            raise refusals.no_model()
        return Play(answerer, stream)

    @property
    def playing_script(self) -> Script | None:
        """The script, if the mock controls are on."""
        return self.script if self.script and self.script.is_on() else None

    @property
    def poll_milliseconds(self) -> int:
        """How long a client should wait between two looks at a run."""
        return MODEL_POLL_MILLISECONDS if self.model else SCRIPT_POLL_MILLISECONDS

    def start(self, play: Play, seq: int) -> None:
        """Let a thread play the run with this `seq`, as soon as one is free."""
        self.open()
        with self._change:
            if self._is_stopped:
                play.end_stream()  # another process takes the run
                return
            play.seq, self._plays[play.token] = seq, play
            self._executor.submit(self._run, play)
            if len(self._plays) == 1:
                self._wake.set()  # the watch may rest until the next sweep

    def open(self) -> None:
        """Begin to take runs that other processes made or left."""
        with self._change:
            if self._watcher is None and not self._is_stopped:
                self._watcher = Thread(target=self._watch, name="watch", daemon=True)
                self._watcher.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nobody play until the last of all pauses ends: all data are replaced."""
        with self._change:
            self._pauses += 1
            self._order(REPLACED)
            self._change.wait_for(lambda: not self._at_work, END_SECONDS)
        try:
            yield
        finally:
            with self._change:
                self._pauses, self._next_sweep = self._pauses - 1, 0.0
                self._change.notify_all()
            self._wake.set()

    def stop(self) -> None:
        """End all plays: first by themselves, then by an order."""
        with self._change:
            self._is_stopped = True
            self._change.wait_for(lambda: not self._at_work, STOP_SECONDS)
            self._order(STOPPING)
            self._change.wait_for(lambda: not self._at_work, END_SECONDS)
            for play in self._plays.values():
                play.end_stream()
        self._wake.set()
        if self._watcher:
            self._watcher.join(END_SECONDS)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _order(self, reason: str) -> None:
        for play in self._plays.values():
            play.stop.order(reason)

    def _run(self, play: Play) -> None:
        with self._change:
            self._change.wait_for(lambda: not self._pauses)
            self._at_work.add(play.token)
        try:
            with self._app.app_context():
                play.play()
        except ApiError as refusal:  # the next sweep finds the run
            log.error("A run was left: %s", refusal)
        except Exception:
            log.exception("Error in a run")
        finally:
            play.end_stream()
            with self._change:
                self._at_work.discard(play.token)
                del self._plays[play.token]
                self._change.notify_all()

    def _watch(self) -> None:
        while not self._is_stopped:
            try:
                with self._app.app_context():
                    self._look()
                    if monotonic() >= self._next_sweep:
                        self._next_sweep = monotonic() + SWEEP_SECONDS
                        self._sweep()
            except ApiError as refusal:
                log.warning("The runs could not be looked at: %s", refusal)
            except Exception:
                log.exception("Error in the watch over runs")
            self._wake.wait(LOOK_SECONDS if self._plays else SWEEP_SECONDS)
            self._wake.clear()

    def _look(self) -> None:
        """Stop the plays whose runs were cancelled, deleted or taken away.

        The row of a streamed run names its player before that begins. A reader hears how such a
        run ends before its player may end the stream.
        """
        named = {play.token: play for play in self._copy() if play.is_playing or play.stream}
        if not named:
            return
        with database.read() as connection:
            states = leases.own_states(connection, list(named))
        for token, play in named.items():
            state = states.get(token)
            if state is None and not (play.is_playing or play.stop.reason):
                play.give_up()
            if state not in ("queued", "in_progress"):
                play.stop.order(CHANGED)

    def _sweep(self) -> None:
        """Renew the leases of this process, and take runs that are left."""
        if self._pauses:
            return
        if tokens := [play.token for play in self._copy()]:
            database.write(lambda connection: leases.renew(connection, tokens))
        with database.read() as connection:
            rows = leases.left(connection)
        for row in rows:
            with suppress(LostRun):
                if leases.is_to_recover(row):
                    database.write(partial(leases.recover, run=row))
                self._offer(row.seq)

    def _offer(self, seq: int) -> None:
        """Play a run if it is queued and a thread is free."""
        if len(self._plays) < self._most and (answerer := self._answerer()):
            self.start(Play(answerer), seq)

    def _answerer(self) -> Answerer | None:
        script = self.playing_script
        return Choice(script, self.model) if script or self.model else None

    def _copy(self) -> list[Play]:
        with self._change:
            return list(self._plays.values())
