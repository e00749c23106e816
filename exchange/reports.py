"""What an import tells: how many lines of each result, why some are refused, what was changed."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple

from exchange.imports import Outcome, import_lines, told
from rules import refusals

_RESULTS = ("imported", "replaced", "skipped", "refused")
_TOLD_OF_A_KIND = 5
_OF_ONE_LINE = re.compile(r"\b(?:thread|msg|asst|conv)_[\w-]+|\d+")


class Report:
    """The report of an import. Of reasons that differ in ids and numbers at most, five are told."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(_RESULTS, 0)
        self._kinds, self._examples, self._notes = Counter[str](), dict[str, str](), Counter[str]()

    def add(self, outcome: Outcome) -> str:
        """Count a line; return the reason to tell for it now, or an empty text."""
        self.counts[outcome.result] += 1
        if outcome.result != "skipped":
            self._notes.update(outcome.notes)
        if not outcome.reason:
            return ""
        kind = _OF_ONE_LINE.sub("", outcome.reason)
        self._kinds[kind] += 1
        self._examples.setdefault(kind, outcome.reason)
        return outcome.reason if self._kinds[kind] <= _TOLD_OF_A_KIND else ""

    def rest(self) -> list[str]:
        """Return the sentences at the end: about reasons that were not told, and about changes."""
        more = {kind: count - _TOLD_OF_A_KIND for kind, count in self._kinds.items()}
        untold = [
            f"… and {count:,} more like it: {self._examples[kind]}"
            for kind, count in more.items()
            if count > 0
        ]
        return untold + told(self._notes)


class Summary(NamedTuple):
    """What a page tells: refused lines and why, the sentences at the end, the counts in words."""

    refused: list[tuple[int, str]]
    rest: list[str]
    result: str


def summary(outcomes: Iterable[Outcome]) -> Summary:
    """Return what `flask import` tells of these outcomes."""
    report = Report()
    refused = [(each.line, reason) for each in outcomes if (reason := report.add(each))]
    return Summary(refused, report.rest(), in_words(report.counts))


def import_bytes(project: str, data: bytes, on_conflict: str, most: int) -> list[Outcome]:
    """Store lines; return their outcomes in order. Raises ApiError 400 (none, too many), 503."""
    if not data.strip():
        raise refusals.nothing_to_import()
    if data.count(b"\n") + 1 > most + data.endswith(b"\n"):  # counted first: each takes memory
        raise refusals.too_many_lines(most)
    outcomes = import_lines(project, data.split(b"\n"), on_conflict, None)
    return sorted(outcomes, key=attrgetter("line"))


def in_words(counts: Mapping[str, int]) -> str:
    """Return the number of lines of each result."""
    return ", ".join(f"{result} {counts[result]:,}" for result in _RESULTS)
