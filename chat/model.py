"""The answerer that asks a model: chat completions, streamed."""

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import orjson

import database
from chat.completion import Completion
from chat.conversation import TooLong, chat_messages, estimate, function_tools
from chat.endpoint import Answer, Endpoint
from players.answers import Finish, Part, Question, Stop
from rules import model_faults
from rules.errors import AnswerError
from runs import steps, transcript
from runs.transcript import Entry
from store.objects import Object

MOST_WAITS, MOST_WAIT_SECONDS = 2, 60.0
"""How often a 429 is waited for, and how long at most."""
LIST_SECONDS = 10.0
_OPTIONS = ("stream_options", "max_completion_tokens")
"""What older servers refuse; the second has an older name."""
_UNKNOWN = (
    "(unknown|unsupported|unrecognized|unexpected|extra|additional|not support) ?"
    "(request |keyword )?(param|arg|field|input|name|key|propert)"
    r"|{option}\W? is (not |un)supported"
)
"""How endpoints say that they do not know an option. A wrong value has other words."""
_TOO_LONG = re.compile("length|size|window|exceed|too long")


class Model:
    """The models of one endpoint, by the names that assistants have for them."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take the app's settings."""
        url, key = settings["MODEL_URL"].rstrip("/"), settings["MODEL_KEY"]
        self._endpoint = Endpoint(url, key, settings["MODEL_TIMEOUT"])
        self._list_endpoint = Endpoint(url, key, min(LIST_SECONDS, settings["MODEL_TIMEOUT"]))
        self._names: dict[str, str] = settings["MODELS"]
        self._unknown: set[tuple[str, str]] = set()  # models, each with an option that it refused
        self.time: Callable[[float, str], None] = lambda *_: None

    def answer(self, question: Question, stop: Stop) -> Generator[Part, None, None]:
        """Yield the parts of the answer of one turn. Raises AnswerError, Stopped."""
        run = question.run
        entries, used = _read(run)
        try:
            body = self._body(question, entries, used)
        except TooLong:
            yield Finish("max_prompt_tokens", 0, 0)
            return
        limit = body.get("max_completion_tokens")
        if limit is not None and limit < 1:
            yield Finish("max_completion_tokens", 0, 0)
            return
        prompt = estimate(body["messages"], body.get("tools", ()))
        begin, end = perf_counter(), "stopped"
        try:
            with self._ask(body, stop) as answer:
                yield from Completion(answer, prompt, limit).parts()
            end = "whole"
        except AnswerError:
            end = "fault"
            raise
        finally:
            self.time(perf_counter() - begin, end)

    def models(self) -> list[Object]:
        """Return the model objects that the endpoint lists. Raises AnswerError."""
        with self._list_endpoint.ask("/models", None, Stop()) as answer:
            if answer.status != 200:
                raise _fault_of(answer.status, answer.fault())
            listed = answer.object(answer.whole()).get("data")
        found = [each for each in listed or () if isinstance(each, dict) and each.get("id")]
        return [_model_object(each) for each in found]

    def names_amiss(self, listed: list[Object]) -> set[str]:
        """Return the names that stand for models which are not listed."""
        return set(self._names.values()) - {each["id"] for each in listed}

    def _body(self, question: Question, entries: list[Entry], used: Object) -> Object:
        """Return the request. Raises TooLong."""
        run = question.run
        most = run.max_prompt_tokens
        room = float("inf") if most is None else most - used["prompt_tokens"]
        body: Object = {
            "model": self._names.get(run.model, self._names.get("*", run.model)),
            "messages": chat_messages(run, entries, room),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if run.max_completion_tokens is not None:
            left = run.max_completion_tokens - used["completion_tokens"]
            body["max_completion_tokens"] = left
        return body | _settings(run, is_first=not question.steps)

    @contextmanager
    def _ask(self, body: Object, stop: Stop) -> Iterator[Answer]:
        """Ask until it answers: a 429 is waited for, a refused option is left out."""
        waits = 0
        while True:
            sent = self._known(body)
            with self._endpoint.ask("/chat/completions", sent, stop) as answer:
                if answer.status == 200:
                    yield answer
                    return
                seconds = self._pause(answer, sent, waits)
            waits += answer.status == 429
            stop.wait(seconds)

    def _pause(self, answer: Answer, sent: Object, waits: int) -> float:
        """Return the wait before it is asked again. Raises AnswerError if it need not be."""
        said, seconds = answer.fault(), _wait_of(answer)
        if answer.status in (400, 422) and self._learn(said, sent):
            return 0
        if answer.status == 429 and waits < MOST_WAITS and seconds <= MOST_WAIT_SECONDS:
            return seconds
        raise _fault_of(answer.status, said)

    def _known(self, body: Object) -> Object:
        """Return a body in the words that the endpoint knows."""
        unknown = {name for name in body if (body["model"], name) in self._unknown}
        sent = {name: value for name, value in body.items() if name not in unknown}
        if "max_completion_tokens" in unknown:
            sent["max_tokens"] = body["max_completion_tokens"]
        return sent

    def _learn(self, said: str, sent: Object) -> bool:
        """Note an option that the model does not know; return whether there was one."""
        unknown = [name for name in _OPTIONS if name in sent and _is_unknown(name, said)]
        self._unknown.update((sent["model"], name) for name in unknown)
        return bool(unknown)


def _read(run: Any) -> tuple[list[Entry], Object]:
    """Return what the run reads of its thread, and the usage of its turns so far."""
    strategy = orjson.loads(run.truncation_strategy)
    most = strategy.get("last_messages") if strategy["type"] == "last_messages" else None
    with database.snapshot() as connection:
        used = steps.usage_of(connection, run.seq) or Finish("", 0, 0).usage
        return transcript.read(connection, run, most), used


def _settings(run: Any, is_first: bool) -> Object:
    """Return what a run sets: the values that it shows where nobody set one are not sent."""
    values = {name: orjson.loads(getattr(run, name)) for name in ("temperature", "top_p")}
    sent: Object = {name: value for name, value in values.items() if value != 1}
    if (form := orjson.loads(run.response_format)) != "auto":
        sent["response_format"] = form
    if run.reasoning_effort:
        sent["reasoning_effort"] = run.reasoning_effort
    tools = function_tools(run)
    return sent | {"tools": tools} | _about_tools(run, is_first) if tools else sent


def _about_tools(run: Any, is_first: bool) -> Object:
    """Return the choice of a tool: it is for the first turn, or the run would call for ever."""
    choice = orjson.loads(run.tool_choice)
    is_sent = choice.get("function") if isinstance(choice, dict) else choice != "auto"
    sent: Object = {"tool_choice": choice} if is_sent and is_first else {}
    return sent | ({"parallel_tool_calls": False} if run.parallel_tool_calls == "false" else {})


def _is_unknown(option: str, said: str) -> bool:
    found = re.search(_UNKNOWN.format(option=option), said, re.IGNORECASE)
    return option in said and found is not None


def _wait_of(answer: Answer) -> float:
    """Return the seconds of a Retry-After; 1 without one that is a number."""
    try:
        return max(0.0, float(answer.header("Retry-After") or 1))
    except ValueError:
        return 1.0


def _fault_of(status: int, said: str) -> AnswerError:
    match status:
        case 401 | 403:
            return model_faults.wrong_key(status, said)
        case 404:
            return model_faults.not_there(said)
        case 429:
            return model_faults.too_many(said)
        case _ if status < 400:
            return model_faults.redirects()
        case _ if status >= 500:
            return model_faults.broken(status, said)
    is_too_long = "context" in said and _TOO_LONG.search(said)
    return model_faults.too_long(said) if is_too_long else model_faults.refused(status, said)


def _model_object(listed: Object) -> Object:
    created, owner = listed.get("created"), listed.get("owned_by")
    return {
        "id": str(listed["id"]),
        "object": "model",
        "created": created if isinstance(created, int) else 0,
        "owned_by": str(owner or "unknown"),
    }
