"""What the hosted API and its SDKs once put out, made lines of the exchange format."""

from collections import Counter
from typing import Any

from store.objects import Object

Notes = Counter[str]
"""What an import changes: sentences with `{}` for their number."""

_LEFT_OUT = "left out {} times: "
_REVERSED = "put in order {{}} times: the {}, which were newest first"
_OF_RUNS = ("tools", "response_format", "file_search", "code_interpreter")
"""The keys of runs and steps below which null may have a meaning."""


def renew(line: Object, notes: Notes) -> None:
    """Give a line, as parsed, the form of today. What is wrong stays for the schema to refuse."""
    runs = {"runs": line.pop("runs", None)}
    _drop_nulls(line)
    _drop_nulls(runs, *_OF_RUNS)
    line |= runs
    _open_page(line, "messages", notes)
    messages = _objects(line, "messages")
    for each in (line, *_objects(line, "thread"), *messages):
        _drop(each, "_request_id", "_request_id", notes)
    for text in _objects(line, "messages.content.text"):
        text.setdefault("annotations", [])
    for citation in _objects(line, "messages.content.text.annotations.file_citation"):
        _drop(citation, "quote", "quote of file citations", notes)
    for message in messages:
        _attach_files(message, notes)
    for attachment in _objects(line, "messages.attachments"):
        attachment.setdefault("tools", [])
    _renew_runs(line, notes)


def _renew_runs(line: Object, notes: Notes) -> None:
    _open_page(line, "runs", notes)
    for run in _objects(line, "runs"):
        _open_page(run, "steps", notes)
        _drop(run, "_request_id", "_request_id", notes)
        _drop(run, "file_ids", "file_ids of runs", notes)
    for step in _objects(line, "runs.steps"):
        for key in ("_request_id", "metadata", "expired_at"):
            _drop(step, key, key if key == "_request_id" else f"{key} of steps", notes)
    for function in _objects(line, "runs.steps.step_details.tool_calls.function"):
        function.setdefault("output", None)


def _open_page(given: Object, key: str, notes: Notes) -> None:
    """Put the objects of a saved page in its place."""
    page = given.get(key)
    if isinstance(page, dict) and isinstance(page.get("data"), list):
        given[key] = page["data"]
        notes[_LEFT_OUT + "the pages after a saved page that has more"] += (
            page.get("has_more") is True
        )


def renew_assistant(line: Object, notes: Notes) -> None:
    """Do the same for the line of an assistant. Its nulls stay: a JSON Schema may hold some."""
    for each in (line, *_objects(line, "assistant")):
        _drop(each, "_request_id", "_request_id", notes)
    for assistant in _objects(line, "assistant"):
        if assistant.get("file_ids") == []:
            _drop(assistant, "file_ids", "file_ids that are empty", notes)


def put_in_order(objects: list[Object], name: str, notes: Notes) -> None:
    """Reverse loaded objects that are newest first: a list as saved."""
    times = [each["created_at"] for each in objects]
    if times != sorted(times) and times == sorted(times, reverse=True):
        objects.reverse()
        notes[_REVERSED.format(name)] += 1


def _drop_nulls(line: Object, *kept: str) -> None:
    """Drop every null, but below the `kept` keys: dumps have all keys.

    In metadata null is a wrong value.
    """
    rest: list[Any] = [line]
    while rest:
        match rest.pop():
            case dict() as pairs:
                for key in [key for key, value in pairs.items() if value is None]:
                    del pairs[key]
                rest += [value for key, value in pairs.items() if key not in ("metadata", *kept)]
            case list() as items:
                rest += items


def _objects(given: Any, path: str) -> list[Object]:
    """Return the objects at a path of keys; an array on the way stands for its items."""
    found = [given]
    for key in path.split("."):
        values = [each[key] for each in found if isinstance(each, dict) and key in each]
        found = [item for each in values for item in (each if isinstance(each, list) else [each])]
    return [each for each in found if isinstance(each, dict)]


def _drop(given: Object, key: str, name: str, notes: Notes) -> None:
    if key in given:
        del given[key]
        notes[_LEFT_OUT + name] += 1


def _attach_files(message: Object, notes: Notes) -> None:
    """Make attachments of the files that a message of the first version has beside its content."""
    file_ids, attachments = message.get("file_ids"), message.get("attachments", [])
    if file_ids == []:
        _drop(message, "file_ids", "file_ids that are empty", notes)
    elif isinstance(file_ids, list) and isinstance(attachments, list):
        attached = [each.get("file_id") for each in _objects(message, "attachments")]
        known = {each for each in attached if isinstance(each, str)}
        given = message.pop("file_ids")
        new = [each for each in given if not (isinstance(each, str) and each in known)]
        message["attachments"] = attachments + [{"file_id": file_id} for file_id in new]
