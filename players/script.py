"""The script: rules of the mock controls say what a run answers. Without one it is an echo."""

import math
import random
from collections.abc import Callable, Generator, Iterator
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any

import orjson

from players.answers import Answerer, Call, Finish, Part, Question, Stop, Stopped, Text
from players.play import CHANGED
from rules.errors import AnswerError
from store.objects import Object, to_json

_CHUNK_CHARACTERS = 20
_NOTHING_SAID = "The thread has no text of the user."


class Rule:
    """A rule: `object` is a loaded ReplyRule with `runs`, the number of runs it answered."""

    def __init__(self, rule: Object) -> None:
        self.object = {**rule, "runs": 0}
        self._begun: set[str] = set()  # a run that is stopped begins again, and is counted once

    def takes(self, question: Question) -> bool:
        """Return whether the rule answers a run that begins, and count it."""
        rule, run = self.object, question.run
        if run.id in self._begun:
            return True
        is_match = (
            fnmatchcase(question.last_text, rule["match"])
            and rule.get("assistant", run.assistant_id) == run.assistant_id
            and rule.get("model", run.model) == run.model
            and rule["runs"] < rule.get("times", math.inf)
        )
        if is_match:
            rule["runs"] += 1
            self._begun.add(run.id)
        return is_match

    def answer(self, question: Question, stop: Stop) -> Generator[Part, None, None]:
        """Yield the parts of the first turn of a run. Raises AnswerError, Stopped."""
        goes_on = False
        try:
            yield from say(self.object["replies"], question, stop)
        except (GeneratorExit, Stopped):
            goes_on = stop.reason != CHANGED
            raise
        finally:
            if not goes_on:
                self._begun.discard(question.run.id)

    def forget(self) -> None:
        """Forget the runs that may begin again: they are gone."""
        self._begun = set()


class Script:
    """The rules, for all projects. A run keeps its rule through all its turns."""

    def __init__(self, is_on: Callable[[], bool]) -> None:
        """`is_on` tells whether the mock controls are on."""
        self.is_on = is_on
        self.rules: list[Rule] = []
        self._lock = Lock()

    def set_rules(self, rules: list[Object]) -> None:
        """Replace the rules: loaded ReplyRule objects."""
        with self._lock:
            self.rules = list(map(Rule, rules))

    def forget(self) -> None:
        """Forget which runs have begun: all runs are gone."""
        for rule in self.rules:
            rule.forget()

    def answer(self, question: Question, stop: Stop) -> Generator[Part, None, None] | None:
        """Return the parts of an answer, None for a run without replies that no rule takes."""
        if question.run.script:
            return say(orjson.loads(question.run.script), question, stop)
        if question.steps:  # something else has answered its first turn
            return None
        with self._lock:
            rule = next((rule for rule in self.rules if rule.takes(question)), None)
        return rule.answer(question, stop) if rule else None


class Choice:
    """What answers: a rule that matches, else the model, else the echo."""

    def __init__(self, script: Script | None, model: Answerer | None) -> None:
        self._script, self._model = script, model

    def answer(self, question: Question, stop: Stop) -> Generator[Part, None, None]:
        """Return the parts of an answer, as an Answerer does."""
        if self._script and (answer := self._script.answer(question, stop)):
            return answer
        if self._model:
            return self._model.answer(question, stop)
        return say([{"text": question.last_text or _NOTHING_SAID}], question, stop)


def say(replies: list[Object], question: Question, stop: Stop) -> Generator[Part, None, None]:
    """Yield the parts of the first reply. Raises AnswerError, Stopped."""
    reply, rest = replies[0], replies[1:] or replies
    stop.wait(_seconds(reply.get("delay_ms")))
    if error := reply.get("error"):
        raise AnswerError(error["code"], error["message"])
    yield from _parts(reply, stop)
    yield _finish(reply, question, to_json(rest))


def _parts(reply: Object, stop: Stop) -> Iterator[Part]:
    size = reply.get("chunk_characters", _CHUNK_CHARACTERS)
    for piece in _pieces(reply.get("text", ""), size):
        yield Text(piece)
        stop.wait(_seconds(reply.get("chunk_ms")))
    for number, call in enumerate(reply.get("tool_calls", ())):
        yield Call(number, call["name"], "")
        for piece in _pieces(to_json(call["arguments"]), size):
            yield Call(number, "", piece)
            stop.wait(_seconds(reply.get("chunk_ms")))


def _finish(reply: Object, question: Question, rest: str) -> Finish:
    """Count words as tokens: the same each time."""
    calls = reply.get("tool_calls", ())
    said = [reply.get("text", ""), *(to_json(call["arguments"]) for call in calls)]
    asked = [question.run.instructions or "", question.last_text]
    reason = reply.get("incomplete") or ("tool_calls" if calls else "stop")
    return Finish(reason, _words(asked), _words(said), script=rest if calls else None)


def _words(texts: list[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _seconds(milliseconds: Any) -> float:
    """Return a random time between two numbers of milliseconds, 0 without them."""
    return random.uniform(*milliseconds) / 1000 if milliseconds else 0  # noqa: S311
