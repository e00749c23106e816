"""A chat completion as it comes: its chunks turned into the parts of an answer."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson

from chat.conversation import CHARACTERS_A_TOKEN
from chat.endpoint import Answer
from players.answers import Call, Finish, Part, Text
from rules import model_faults
from schemas import MAX_TOKENS
from store.objects import Object

_REASONS = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "max_completion_tokens",
}


class Completion:
    """One completion of a streaming endpoint, or of one that does not stream."""

    def __init__(self, answer: Answer, prompt_tokens: int, most: int | None) -> None:
        """`prompt_tokens` are an estimate; at most `most` pieces are taken: each is a token."""
        self._answer, self._prompt_tokens, self._most = answer, prompt_tokens, most
        self._calls: list[Object] = []  # each with its place, its name and its arguments in pieces
        self._pieces = self._characters = 0
        self._usage: Object = {}
        self._reason, self._is_done = "", False

    def parts(self) -> Iterator[Part]:
        """Yield the parts, a Finish at last. Raises AnswerError."""
        for chunk in self._chunks():
            try:
                parts = [*self._take(chunk)]
            except (AttributeError, IndexError, KeyError, TypeError):
                raise model_faults.no_json(self._answer.said(chunk)) from None
            if self._most is not None and self._pieces > self._most:
                self._reason, self._pieces = "length", self._most
                break
            yield from parts
        yield from self._end()

    def _chunks(self) -> Iterator[Object]:
        if not self._answer.is_stream:
            yield self._answer.object(self._answer.whole())
            self._is_done = True
            return
        for data in self._answer.events():
            if self._is_done or data == b"[DONE]":
                self._is_done = True
            elif data:
                yield self._answer.object(data)

    def _take(self, chunk: Object) -> Iterator[Part]:
        if error := chunk.get("error"):
            raise model_faults.failed(self._answer.said(error))
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage
        for choice in (chunk.get("choices") or ())[:1]:
            said = choice.get("delta") or choice.get("message") or {}
            yield from self._said(said)
            self._reason = choice.get("finish_reason") or self._reason

    def _said(self, said: Object) -> Iterator[Part]:
        text = said.get("content") or said.get("refusal")
        if text and isinstance(text, str):
            self._count(text)
            yield Text(text)
        for piece in said.get("tool_calls") or ():
            yield self._call(piece)

    def _call(self, piece: Object) -> Call:
        """Return a piece of a call."""
        function = piece.get("function") or {}
        name, arguments = function.get("name") or "", function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        self._count(name + arguments)
        number = self._number(piece, name)
        call = self._calls[number]
        is_new, call["name"] = not call["name"], call["name"] or name
        call["arguments"].append(arguments)
        return Call(number, name if is_new else "", arguments)

    def _number(self, piece: Object, name: str) -> int:
        """Return the number of the call that a piece goes on with, or begins with its name."""
        place = {"index": piece.get("index"), "id": piece.get("id")}
        for number, call in reversed([*enumerate(self._calls)]):
            if _goes_on(call, place, name):
                return number
        if name:
            self._calls.append({**place, "name": "", "arguments": []})
        return len(self._calls) - 1

    def _count(self, text: str) -> None:
        """Count a piece. Raises AnswerError if it cannot be stored."""
        if "\0" in text:
            raise model_faults.not_storable(text)
        self._pieces += 1
        self._characters += len(text)

    def _end(self) -> Iterator[Part]:
        if not self._reason and not self._is_done:
            raise model_faults.cut_off()
        if self._reason == "content_filter":
            raise model_faults.held_back()
        reason = _REASONS.get(self._reason or "stop")
        if reason is None:
            raise model_faults.unknown_end(str(self._reason))
        if reason != "max_completion_tokens":
            yield from self._whole_calls()
        yield Finish(reason, *self._tokens())

    def _whole_calls(self) -> Iterator[Part]:
        """Check the arguments of all calls; none at all are an empty object."""
        for number, call in enumerate(self._calls):
            arguments = "".join(call["arguments"])
            if not arguments.strip():
                yield Call(number, "", "{}")
            elif not _is_object(arguments):
                raise model_faults.wrong_arguments(call["name"], arguments)

    def _tokens(self) -> tuple[int, int, int, int]:
        """Return the tokens of prompt and completion, told or estimated; cached; of reasoning."""
        said = max(self._pieces, self._characters // CHARACTERS_A_TOKEN)
        return (
            _told(self._usage, "prompt", self._prompt_tokens),
            _told(self._usage, "completion", said),
            _told(self._usage.get("prompt_tokens_details"), "cached"),
            _told(self._usage.get("completion_tokens_details"), "reasoning"),
        )


def _goes_on(call: Object, place: Object, name: str) -> bool:
    """Return whether a call goes on with a piece of this place and name.

    Some endpoints give several calls one index, or none, and no ids: then a name begins a call.
    """
    if call["index"] != place["index"]:
        return False
    if place["id"]:
        return bool(call["id"] == place["id"])
    return not name or (place["index"] is not None and call["name"] == name)


def _told(usage: Any, kind: str, otherwise: int = 0) -> int:
    told = usage.get(f"{kind}_tokens") if isinstance(usage, dict) else None
    return told if type(told) is int and 0 <= told <= MAX_TOKENS else otherwise


def _is_object(text: str) -> bool:
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(text), dict)
    return False
