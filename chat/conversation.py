"""The conversation that a model gets: the messages of a chat completion."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from runs.transcript import Called, Entry, Said
from store.objects import Object, to_json

CHARACTERS_A_TOKEN = 4
"""The estimate where nobody counts: so many characters are one token."""
_CHARACTERS_OF_AN_IMAGE = 4_000
_NO_FILES = "[An image file was left out: this server keeps no files.]"


class TooLong(Exception):
    """Not even the newest message fits into the limit of the prompt."""


def chat_messages(run: Any, entries: list[Entry], most_tokens: float) -> list[Object]:
    """Return the instructions, and of the entries the newest that fit. Raises TooLong."""
    system = [{"role": "system", "content": run.instructions}] if run.instructions else []
    left = most_tokens - estimate(system, function_tools(run))
    kept: list[list[Object]] = []
    for unit in filter(None, map(_unit, reversed(entries))):
        left -= estimate(unit)
        if left < 0:
            break
        kept.append(unit)
    if left < 0 and not kept:
        raise TooLong
    return [*system, *_joined(message for unit in reversed(kept) for message in unit)]


def function_tools(run: Any) -> list[Object]:
    """Return the tools that a model can call: functions only."""
    return [_tool(tool) for tool in orjson.loads(run.tools) if tool["type"] == "function"]


def estimate(messages: list[Object], tools: Iterable[Object] = ()) -> int:
    """Return about how many tokens messages and tools are: no less than one each."""
    sizes = [_size(message) for message in messages] + [len(to_json(tool)) for tool in tools]
    return sum(max(1, size // CHARACTERS_A_TOKEN) for size in sizes)


def _size(message: Object) -> int:
    content = message["content"] or ""
    if isinstance(content, list):
        return sum(len(part.get("text", "")) or _CHARACTERS_OF_AN_IMAGE for part in content)
    calls = message.get("tool_calls")
    return len(content) + (len(to_json(calls)) if calls else 0)


def _tool(tool: Object) -> Object:
    """Return a tool without what many servers do not know."""
    given = {name: value for name, value in tool["function"].items() if value not in (None, False)}
    return {"type": "function", "function": given}


def _unit(entry: Entry) -> list[Object]:
    """Return the chat messages of an entry, which are kept or left out together."""
    match entry:
        case Said(role, parts):
            content = _content(parts, role)
            return [{"role": role, "content": content}] if content else []
        case Called(calls):
            asked = [_call(call) for call in calls]
            begin = {"role": "assistant", "content": None, "tool_calls": asked}
            return [begin, *map(_output, calls)]


def _content(parts: list[Object], role: str) -> str | list[Object]:
    """Return text as a string, which every server takes; images need parts."""
    has_images = role == "user" and any(part["type"] == "image_url" for part in parts)
    if has_images:
        return [_part(part) for part in parts]
    return "\n".join(text for part in parts if (text := _text(part)))


def _part(part: Object) -> Object:
    return part if part["type"] == "image_url" else {"type": "text", "text": _text(part)}


def _text(part: Object) -> str:
    if part["type"] == "text":
        return str(part["text"]["value"])
    return str(part.get("refusal", "")) or (_NO_FILES if part["type"] == "image_file" else "")


def _call(call: Object) -> Object:
    function = {name: call["function"][name] for name in ("name", "arguments")}
    return {"id": call["id"], "type": "function", "function": function}


def _output(call: Object) -> Object:
    return {"role": "tool", "tool_call_id": call["id"], "content": call["function"]["output"]}


def _joined(messages: Iterable[Object]) -> Iterator[Object]:
    """Yield messages so that the roles take turns: many chat templates refuse others."""
    last: Object | None = None
    for message in messages:
        if last and last["role"] == message["role"] != "tool" and "tool_calls" not in last:
            last = {**last, **message, "content": _sum(last["content"], message["content"])}
        else:
            if last:
                yield last
            last = message
    if last:
        yield last


def _sum(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    if first is None or second is None:
        return first or second
    return _parts(first) + _parts(second)


def _parts(content: str | list[Object]) -> list[Object]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]
