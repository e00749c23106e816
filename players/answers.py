"""The interface of what answers: a question in; parts of an answer out, or an AnswerError."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, NamedTuple, Protocol

import orjson
import sqlalchemy as sa

from database import Connection
from models import Message, RunStep
from store.objects import Object

_OF_THE_USER = (Message.thread_seq == sa.bindparam("thread_seq"), Message.role == "user")
_LAST = sa.select(Message.content).where(*_OF_THE_USER).order_by(Message.seq.desc()).limit(1)
_COUNT = sa.select(sa.func.count()).where(RunStep.run_seq == sa.bindparam("of_run_seq"))


class Text(NamedTuple):
    """A piece of the text."""

    text: str


class Call(NamedTuple):
    """A piece of a function call: the first one of a number has the name."""

    number: int
    name: str
    arguments: str


class Finish(NamedTuple):
    """The end of an answer.

    `reason` is `stop`, `tool_calls`, `max_completion_tokens` or `max_prompt_tokens`. `script` comes
    back with the run's next turn.
    """

    reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    script: str | None = None

    @property
    def usage(self) -> Object:
        """The usage object (runs reference, section 4)."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_token_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


Part = Text | Call | Finish


class Stopped(Exception):
    """The run was cancelled, was taken away, or its process stops."""


class Stop:
    """The order to a player to stop, with the reason."""

    def __init__(self) -> None:
        self._event, self.reason = Event(), ""
        self._cut: Callable[[], None] | None = None

    def order(self, reason: str) -> None:
        """Order it; the first reason counts."""
        self.reason = self.reason or reason
        self._event.set()
        if cut := self._cut:
            cut()

    @contextmanager
    def cutting(self, cut: Callable[[], None]) -> Iterator[None]:
        """Call `cut` if the order comes inside: it ends a wait that is not `wait`."""
        self._cut = cut
        try:
            if self._event.is_set():
                cut()
            yield
        finally:
            self._cut = None

    def wait(self, seconds: float) -> None:
        """Wait for some seconds. Raises Stopped."""
        if self._event.wait(seconds) if seconds > 0 else self._event.is_set():
            raise Stopped


class Question(NamedTuple):
    """What is to be answered: the row of a run, its steps so far, the last message of the user."""

    run: Any
    steps: int
    last_text: str


class Answerer(Protocol):
    """What answers: the script, or a model."""

    def answer(self, question: Question, stop: Stop) -> Generator[Part, None, None]:
        """Yield the parts; a Finish is the last one. Raises AnswerError, Stopped."""


class Model(Answerer, Protocol):
    """An answerer that has models."""

    def models(self) -> list[Object]:
        """Return the model objects that its endpoint lists. Raises AnswerError."""

    def names_amiss(self, listed: list[Object]) -> set[str]:
        """Return the names of THREADS_MODELS that are not among the listed ones."""


def question_of(connection: Connection, run: Any) -> Question:
    """Return the question of a run."""
    steps = connection.value(_COUNT, {"of_run_seq": run.seq})
    row = connection.row(_LAST, {"thread_seq": run.thread_seq})
    parts = orjson.loads(row.content) if row else []
    return Question(
        run, steps, "\n".join(part["text"]["value"] for part in parts if "text" in part)
    )
