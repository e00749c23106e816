"""The script: rules of the mock controls say what a run answers. Without one it is an echo."""

import math
import random
from collections.abc import Callable, Generator, Iterator
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any

import orjson

from players.answers import Answerer, Call, Finish, Part, Question, Stop, Text
from rules.errors import AnswerError
from store.objects import Object, to_json

_CHUNK_CHARACTERS = 20
_NOTHING_SAID = "The thread has no text of the user."


class Rule:
    """A rule: `object` is a loaded ReplyRule with `runs`, the number of runs it answered."""

    def __init__(self, rule: Object) -> None:
        self.object = {**rule, "runs": 0}

    def takes(self, question: Question) -> bool:
        """Return whether the rule answers a run that begins, and count it."""
        rule, run = self.object, question.run
        is_match = (
            fnmatchcase(question.last_text, rule["match"])
            and rule.get("assistant", run.assistant_id) == run.assistant_id
            and rule.get("model", run.model) == run.model
            and rule["runs"] < rule.get("times", math.inf)
        )
        rule["runs"] += is_match
        return is_match


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

    def replies_for(self, question: Question) -> list[Object] | None:
        """Return the replies of a run that has some, or for which a rule has; else None."""
        if question.run.script:
            return list(orjson.loads(question.run.script))
        if question.steps:  # something else has answered its first turn
            return None
        with self._lock:
            rule = next((rule for rule in self.rules if rule.takes(question)), None)
        return list(rule.object["replies"]) if rule else None


class Choice:
    """What answers: a rule that matches, else the model, else the echo."""

    def __init__(self, script: Script | None, model: Answerer | None) -> None:
        self._script, self._model = script, model

    def answer(self, question: Question, stop: Stop) -> Generator[Part, None, None]:
        """Return the parts of an answer, as an Answerer does."""
        replies = self._script.replies_for(question) if self._script else None
        if self._model and not replies:
            return self._model.answer(question, stop)
        return say(replies or [{"text": question.last_text or _NOTHING_SAID}], question, stop)


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
