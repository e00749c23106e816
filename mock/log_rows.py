"""What is shown of logged requests: as JSON, as a row of the page, as a curl command."""

import re
import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from mock.request_log import Entry

_THREAD = re.compile(rb'"(?:thread_)?id":"(thread[A-Za-z0-9_-]*)"')
_RUN = re.compile(rb'"id":"(run_[A-Za-z0-9_-]*)"')
MOST_ROWS = 200
_SENT_AGAIN = ("Content-Type", "Openai-Beta")


class Row(NamedTuple):
    """A request in the table. `retry_of` is the failed request that it repeats."""

    request_id: str
    time: str
    method: str
    address: str
    status: int
    milliseconds: int | None  # None while its stream goes on
    fault: str
    retry_of: str | None


def as_object(entry: Entry) -> dict[str, Any]:
    """Return an entry as the API shows it: JSON as such, other text as text, nothing as null."""
    return {
        "time": _time(entry),
        "method": entry.method,
        "path": entry.path,
        "query": entry.query,
        "status": entry.status,
        "milliseconds": entry.milliseconds,
        "request_id": entry.request_id,
        "headers": entry.headers,
        "body": _as_json(entry.body),
        "body_is_cut": entry.body_is_cut,
        "answer": _as_json(entry.answer),
        "answer_is_cut": entry.answer_is_cut,
        "fault": entry.fault,
    }


def rows(entries: Iterable[Entry]) -> list[Row]:
    """Return the rows of all entries of a project, oldest first."""
    failed: dict[tuple[Any, ...], str] = {}
    shown = []
    for entry in entries:
        same = (entry.method, entry.path, entry.query, entry.body)
        shown.append(_row(entry, failed.pop(same, None)))
        if entry.status >= 400 or "drop" in (entry.fault or {}):
            failed[same] = entry.request_id
    return shown


def newest(rows: list[Row]) -> list[Row]:
    """Return the rows that a page shows, newest first."""
    return rows[: -MOST_ROWS - 1 : -1]


def detail(entries: list[Entry], request_id: str, base: str) -> dict[str, Any] | None:
    """Return what the page of one request shows, or None if it is not there."""
    pairs = zip(entries, rows(entries), strict=True)
    found = [pair for pair in pairs if pair[0].request_id == request_id]
    if not found:
        return None
    entry, row = found[0]
    thread_id, run_id = _thread_and_run(entry)
    shown = {"entry": entry, "row": row, "curl": _curl(entry, base)}
    return shown | {"thread_id": thread_id, "run_id": run_id}


def _fault_in_words(fault: dict[str, Any] | None) -> str:
    """Return what a fault does, such as `429` or `2 s slow, drop after`."""
    parts = fault or {}
    words = [str(parts["status"])] if "status" in parts else []
    for name, verb in (("delay_ms", "slow"), ("stall_ms", "stalled")):
        if name in parts:
            words.append(f"{_seconds(parts[name])} {verb}")
    words += [f"drop {parts['drop']}"] if "drop" in parts else []
    words += ["error in the stream"] if parts.get("stream_error") else []
    return ", ".join(words)


def rule_in_words(rule: dict[str, Any]) -> str:
    """Return a rule with its counts in one line."""
    where = f"{rule.get('method', '')} {rule.get('path', 'every API request')}".strip()
    named = [(name, rule[name]) for name in ("times", "every", "rate") if name in rule]
    often = [f"{name} {value}" for name, value in named]
    counts = f"fired {rule['fired']} of {rule['matched']} matched"
    return " · ".join([_fault_in_words(rule), where, *often, counts])


def _curl(entry: Entry, base: str) -> str:
    """Return a request as a curl command, with the key as a variable."""
    query = f"?{entry.query}" if entry.query else ""
    method, address = map(shlex.quote, (entry.method, base + quote(entry.path) + query))
    words = [f"curl -g -X {method} {address}"]
    words.append('-H "Authorization: Bearer $OPENAI_API_KEY"')
    sent = [(name, entry.headers[name]) for name in _SENT_AGAIN if name in entry.headers]
    words += [f"-H {shlex.quote(f'{name}: {text}')}" for name, text in sent]
    if entry.body:
        words.append(f"--data-raw {shlex.quote(entry.body.decode(errors='replace'))}")
    return " \\\n  ".join(words)


def _thread_and_run(entry: Entry) -> tuple[str | None, str | None]:
    """Return the ids of the thread and of the run that a request is about."""
    made = entry.answer if entry.method == "POST" and entry.status < 400 else b""
    return _first("thread", entry.path, _THREAD, made), _first("run", entry.path, _RUN, made)


def _first(prefix: str, path: str, pattern: re.Pattern[bytes], answer: bytes) -> str | None:
    """Return the id in a path, else the first one in an answer."""
    if in_path := re.search(rf"/({prefix}_[A-Za-z0-9_-]+)", path):
        return in_path[1]
    found = pattern.search(answer)
    return found[1].decode() if found else None


def _row(entry: Entry, retry_of: str | None) -> Row:
    return Row(
        entry.request_id,
        _time(entry),
        entry.method,
        f"{entry.path}?{entry.query}" if entry.query else entry.path,
        entry.status,
        None if entry.is_open else entry.milliseconds,
        _fault_in_words(entry.fault),
        retry_of,
    )


def _time(entry: Entry) -> str:
    return entry.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(milliseconds: tuple[int, int]) -> str:
    least, most = (f"{bound / 1000:g}" for bound in milliseconds)
    return f"{least} s" if least == most else f"{least}–{most} s"


def _as_json(data: bytes) -> Any:
    try:
        orjson.loads(data or b"null")
    except ValueError:
        return data.decode(errors="replace")
    return orjson.Fragment(data or b"null")
