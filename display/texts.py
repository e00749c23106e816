"""Shortened texts, ids, JSON, and the words of forms."""

from collections import Counter
from typing import Any

import orjson


def short(text: str, maximum: int = 80) -> str:
    """Return a text, cut to a maximum number of characters."""
    return text if len(text) <= maximum else f"{text[: maximum - 1]}…"


def short_id(id_: str) -> str:
    """Return the beginning and the end of an id."""
    return id_ if len(id_) <= 20 else f"{id_[:12]}…{id_[-5:]}"


def quantity(count: int, noun: str) -> str:
    """Return a count with its noun: `1 thread`, `1,234 threads`, `2 searches`."""
    plural = f"{noun}es" if noun.endswith(("ch", "s", "sh", "x")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def pretty(value: Any) -> str:
    """Return JSON with line breaks and indents."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def form_texts(assistant: dict[str, Any]) -> dict[str, Any]:
    """Return a decoded assistant object as the texts of its form, with its metadata as `pairs`."""
    texts = {name: value or "" for name, value in assistant.items()}
    word = assistant["response_format"]
    texts["tools"] = pretty(assistant["tools"]) if assistant["tools"] else ""
    texts["response_format"] = word if isinstance(word, str) else pretty(word)
    numbers = {name: str(assistant[name]) for name in ("temperature", "top_p")}
    return texts | numbers | {"pairs": list(assistant["metadata"].items())}


def tools_in_words(tools: list[dict[str, Any]]) -> str:
    """Return the kinds of an assistant's tools, with their numbers."""
    counts = Counter(tool["type"].replace("_", " ") for tool in tools)
    words = [kind if count == 1 else quantity(count, kind) for kind, count in counts.items()]
    return ", ".join(words) or "none"


def faults_of(faults: dict[str, str], name: str) -> str:
    """Return the sentences about a field of a form and about what is in it."""
    inside = (f"{name}.", f"{name}[")
    return " ".join(
        text for path, text in faults.items() if path == name or path.startswith(inside)
    )


def is_long(text: str) -> bool:
    """Return whether the page folds a text."""
    return len(text) > 2_000 or text.count("\n") > 30
