"""ApiError refuses a request, Fault a value of a body; AnswerError tells why a run failed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from marshmallow import ValidationError

PARAM = "\0"
PARENT = "\0\0"
_SHOWN_CHARACTERS = 200
_RANK: dict[str | None, int] = {"missing_required_parameter": 0, "unknown_parameter": 1}
_LAST_RANK = 2
FIRST, LAST = (0, ""), (_LAST_RANK, "")
"""The places of a missing value, and of a fault of a type or bound."""


@dataclass(eq=False)
class ApiError(Exception):
    """A refusal: its HTTP status, sentence, param, code, extra headers, and a type of its own."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    type: str | None = None

    def __str__(self) -> str:
        return self.message


class AnswerError(Exception):
    """A failure that the run tells: `code` is one of the contract's last_error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Fault(str):
    """The sentence about one wrong value, and its code.

    PARAM stands for the path of the value, PARENT for the path of the object around it. Both are
    made of U+0000, which no accepted text contains.
    """

    code: str | None

    def __new__(cls, code: str | None, sentence: str) -> Self:
        fault = super().__new__(cls, sentence)
        fault.code = code
        return fault

    def at(self, path: str, parent: str = "") -> str:
        """Return the sentence with its paths filled in."""
        return self.replace(PARENT, parent).replace(PARAM, path)


def shown(text: str) -> str:
    """Return a text of a request as an error shows it: cut."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def first_fault(error: ValidationError) -> ApiError:
    """Return the fault to report: a missing value, then an unknown key (by name), then the rest."""
    path, fault, parent = min(_walk(error.messages, ""), key=_rank)
    return ApiError(400, fault.at(path, parent), path or None, fault.code)


def place_of(error: ValidationError) -> tuple[int, str]:
    """Return the place of a report's first fault among others. FIRST goes before all of them."""
    return min(map(_rank, _walk(error.messages, "")))


def faults_by_path(error: ValidationError) -> dict[str, str]:
    """Return the sentence of every fault by its path (`metadata.colour`)."""
    return {path: fault.at(path, parent) for path, fault, parent in _walk(error.messages, "")}


def _rank(entry: tuple[str, Fault, str]) -> tuple[int, str]:
    path, fault, _ = entry
    return _RANK.get(fault.code, _LAST_RANK), path if fault.code == "unknown_parameter" else ""


def _walk(node: Any, path: str, parent: str = "") -> Iterator[tuple[str, Fault, str]]:
    """Yield each fault with its path and the path of the object around it."""
    if isinstance(node, dict):
        for key, below in node.items():
            yield from _walk(below, path + _step(key, path), path)
    else:
        yield from ((path, fault, parent) for fault in node)


def _step(key: int | str, path: str) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{shown(key)}" if path else shown(key)
