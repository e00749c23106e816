"""A play: one player takes a queued run, and goes on until the run waits, ends or is lost."""

import logging
from contextlib import closing, suppress
from secrets import token_hex
from typing import Any

import database
from players import events
from players.answers import Answerer, Part, Question, Stop, Stopped, question_of
from players.streams import Stream
from players.turn import Turn
from rules.errors import AnswerError, ApiError
from runs import rows, states
from runs.states import End, LostRun

log = logging.getLogger("threads")

CHANGED, STOPPING, REPLACED = "changed", "stopping", "replaced"
"""The reasons to stop: the run was changed, the process stops, all data are replaced."""
_STOPPED = {"code": "server_error", "message": "The server stopped while it answered this run."}
_BROKEN = {"code": "server_error", "message": "The server had an error. Its log has the cause."}


class Play:
    """One play of a run. `token` is the name of its player in the run's row."""

    def __init__(self, answerer: Answerer, stream: Stream | None = None) -> None:
        """`stream` takes the events of a streamed run."""
        self.token, self.stop = token_hex(8), Stop()
        self.is_playing = False
        self.stream, self._answerer = stream, answerer
        self.seq, self._thread_id = 0, ""

    def play(self) -> None:
        """Take the run with the `seq` and play it; do nothing if it cannot be taken."""
        if self.stop.reason:
            return
        try:
            run = database.write(lambda connection: states.claim(connection, self.seq, self.token))
            if run is None:
                return self.give_up()
            self.is_playing = True
            self._play(run)
        except LostRun:  # the run ended or its thread was deleted since
            self.give_up()

    def _play(self, run: Any) -> None:
        turn, question = self._begin(run)
        self._tell(run)
        try:
            self._answer(turn, question)
        except (LostRun, Stopped):
            self._settle(turn)

    def give_up(self) -> None:
        """Send the reader the run's present state and end the stream.

        It is for a run that this player cannot take.
        """
        if self.stream is None:
            return
        with database.snapshot() as connection, suppress(LostRun):
            if row := rows.row_of(connection, self.seq):
                self._thread_id = states.thread_of(connection, row).id
                self._tell(row)
        self.end_stream()

    def end_stream(self) -> None:
        """End the stream of this play, if it has one that goes on."""
        if self.stream:
            self.stream.cut_short()

    def _begin(self, run: Any) -> tuple[Turn, Question]:
        with database.snapshot() as connection:
            self._thread_id = states.thread_of(connection, run).id
            question = question_of(connection, run)
        return Turn(run, self._thread_id, question.steps, self.stream), question

    def _answer(self, turn: Turn, question: Question) -> None:
        try:
            with closing(self._answerer.answer(question, self.stop)) as parts:
                for part in parts:
                    self.stop.wait(0)
                    self._take(turn, part)
        except AnswerError as error:
            turn.end(_failure({"code": error.code, "message": str(error)}), ("in_progress",))
        except (ApiError, LostRun, Stopped):
            raise
        except Exception:
            log.exception("Error in an answer")
            turn.end(_failure(_BROKEN), ("in_progress",))

    def _take(self, turn: Turn, part: Part) -> None:
        try:
            turn.take(part)
        except LostRun:
            self.stop.order(CHANGED)  # what answers is told why it ends
            raise

    def _settle(self, turn: Turn) -> None:
        """End a run that was stopped, as its row and the reason say. Raises LostRun."""
        if self.stop.reason == REPLACED:
            return
        with database.read() as connection:
            row = rows.row_of(connection, turn.run.seq)
        is_own = row is not None and row.player == self.token
        if is_own and row.status == "cancelling":
            self._tell(row)
            turn.end(End("cancelled"), ("cancelling",))
        elif is_own and turn.has_shown:
            turn.end(_failure(_STOPPED), ("in_progress",))
        elif is_own:
            database.write(lambda connection: states.queue_again(connection, turn.run))
        elif row is not None:
            self._tell(row)

    def _tell(self, run: Any) -> None:
        if self.stream:
            self.stream.tell([events.run_event(run, self._thread_id)])


def _failure(error: dict[str, str]) -> End:
    return End("failed", error=error)
