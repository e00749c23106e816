"""Copy assistants, threads and runs from any server: the way out of a service that closes.

Into a file for `flask import`, which keeps ids and times:

    python examples/move_from_server.py --from https://old.example/v1 --output threads.jsonl
    flask import threads.jsonl

Or straight into another server, which gives new ids and times; each old id and its new one become
a line of the --output file:

    python examples/move_from_server.py --from … --to http://127.0.0.1:8000/v1 --output moved.txt

A server that does not list its threads needs their ids, one a line: --ids FILE (- reads stdin).
Keys are read from SOURCE_API_KEY and TARGET_API_KEY. Needs the package `openai` and nothing else.

Azure wants a version in each request: --query api-version=2024-05-01-preview.

Run it again after an interruption: what stands in the output file already is not read again. What
cannot be copied is named on stderr and the rest goes on; the status is then 1. Assistants come
first. A server may have no assistants and no runs: its threads are copied all the same.

What no import takes (parts of other kinds, images in data: URLs, files without a file id, metadata
that is no string, …) is left out, each with a line on stderr; fields that only its server knows are
counted at the end. With --to, where no request can set them, so are annotations, runs, run ids
and assistant ids, and a refusal becomes text. The status is 3 when anything was left out. A thread
of more than 1,000 messages gets the others one by one; if one fails, the new thread is deleted.
"""

import argparse
import hashlib
import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from openai import APIError, APIStatusError, OpenAI
from openai.pagination import SyncCursorPage
from openai.types.beta import Thread

SECONDS_BETWEEN_LINES = 2
THREAD_FIELDS = ("id", "object", "created_at")
MESSAGE_FIELDS = ("id", "object", "created_at", "assistant_id", "thread_id", "run_id", "role")
TOOLS = ("code_interpreter", "file_search")
FILE_IDS = ("file", "assistant-")
IMAGES = {"image_file": ("file_id", FILE_IDS), "image_url": ("url", ("http://", "https://"))}
ANNOTATIONS = {
    "file_citation": ("file_id",),
    "file_path": ("file_id",),
    "url_citation": ("url", "title"),
}
DETAILS = ("auto", "low", "high")
LATER_MESSAGE_FIELDS = ("status", "incomplete_details", "completed_at", "incomplete_at")
CLEANED_FIELDS = ("content", "attachments", "metadata", "tool_resources")
SAYS_NOTHING: tuple[Any, ...] = (None, "", [], {})
NOT_SERVED = (404, 405, 501)
MOST_CREATED_MESSAGES = 1_000
MOST_PAIRS = 16
MOST_KEY_CHARACTERS = 64
MOST_VALUE_CHARACTERS = 512


class Kinds(dict[str, Any]):
    """Shapes by the value of `type`. A shape has the known keys; None stands for any value."""


def keys(*names: str) -> dict[str, Any]:
    """Return the shape of an object with any values below its keys."""
    return dict.fromkeys(names)


FUNCTION_CALL = keys("id", "type") | {"function": keys("name", "arguments", "output")}
RANKING = keys("ranker", "score_threshold", "hybrid_search")
ASSISTANT_TOOLS = Kinds(
    code_interpreter=keys("type"),
    file_search=keys("type")
    | {"file_search": keys("max_num_results") | {"ranking_options": RANKING}},
    function=keys("type") | {"function": keys("name", "description", "parameters", "strict")},
)
STEP_CALLS = Kinds(
    function=FUNCTION_CALL,
    file_search=keys("id", "type", "file_search"),
    code_interpreter=keys("id", "type", "code_interpreter"),
)
USAGE = keys("prompt_tokens", "completion_tokens", "total_tokens") | {
    "prompt_token_details": keys("cached_tokens"),
    "completion_tokens_details": keys("reasoning_tokens"),
}
SETTINGS = {
    **keys("model", "instructions", "top_p", "temperature", "reasoning_effort", "response_format"),
    "tools": [ASSISTANT_TOOLS],
}
ASSISTANT = keys("id", "object", "created_at", "name", "description") | SETTINGS
RUN = {
    **keys("id", "object", "created_at", "assistant_id", "thread_id", "status"),
    **keys("started_at", "expires_at", "cancelled_at", "failed_at", "completed_at"),
    **SETTINGS,
    **keys("max_completion_tokens", "max_prompt_tokens", "tool_choice", "parallel_tool_calls"),
    "required_action": {"type": None, "submit_tool_outputs": {"tool_calls": [FUNCTION_CALL]}},
    "last_error": keys("code", "message"),
    "truncation_strategy": keys("type", "last_messages"),
    "incomplete_details": keys("reason"),
    "usage": USAGE,
}
STEP = {
    **keys("id", "object", "created_at", "run_id", "assistant_id", "thread_id", "type", "status"),
    **keys("cancelled_at", "completed_at", "expires_at", "failed_at"),
    "last_error": keys("code", "message"),
    "step_details": keys("type")
    | {"message_creation": keys("message_id"), "tool_calls": [STEP_CALLS]},
    "usage": USAGE,
}


class Losses:
    """What was left out: a line on stderr for each value, and how often each field was."""

    def __init__(self) -> None:
        self.values = 0
        self.fields = Counter[str]()

    def tell(self, where: str, value: Any) -> None:
        """Print one line about a value."""
        self.values += 1
        print(f"{where}: left out {json.dumps(value)[:200]}", file=sys.stderr)

    def count(self, kind: str, given: dict[str, Any], kept: tuple[str, ...]) -> None:
        """Count the fields of an object that are not among the kept ones."""
        lost = (key for key, value in given.items() if key not in kept)
        self.fields.update(f"{key} of {kind}" for key in lost if given[key] not in SAYS_NOTHING)


def main() -> int:
    """Copy what the command line names; return the process status."""
    arguments = read_arguments()
    warnings.simplefilter("ignore", DeprecationWarning)
    losses = Losses()
    with ExitStack() as stack:
        source = connect(stack, arguments.source, "SOURCE_API_KEY", dict(arguments.query))
        target = None
        if arguments.target:
            target = connect(stack, arguments.target, "TARGET_API_KEY", {})
        copied, skipped, failed = copy_all(source, target, arguments, losses)
    for what, count in losses.fields.items():
        print(f"left out {count:,} times: {what}", file=sys.stderr)
    print(f"copied {copied:,}, copied before {skipped:,}, failed {failed:,}", file=sys.stderr)
    return 1 if failed else 3 if losses.values or losses.fields else 0


def copy_all(
    source: OpenAI, target: OpenAI | None, arguments: argparse.Namespace, losses: Losses
) -> tuple[int, int, int]:
    """Copy everything; return how many were copied, stood in the output file, and failed."""
    counts = Counts(read_done(arguments.output, json_lines=target is None))
    with arguments.output.open("a", encoding="utf-8") as output:
        try:
            for given in assistants(source):
                counts.write(output, given["id"], partial(copy_assistant, target, given, losses))
        except APIError as error:
            counts.failed += 1
            print(f"The server's list of assistants ended early: {error}", file=sys.stderr)
        try:
            for thread_id in thread_ids(source, arguments.ids):
                counts.write(output, thread_id, partial(copy, source, target, thread_id, losses))
        except APIError as error:
            counts.failed += 1
            print(f"The server's list of threads ended early: {error}", file=sys.stderr)
            print("Run this again, or give the ids in a file: --ids FILE.", file=sys.stderr)
    return counts.copied, counts.skipped, counts.failed


class Counts:
    """How many assistants and threads were copied, stood in the output file, and failed."""

    def __init__(self, done: set[str]) -> None:
        self.copied, self.skipped, self.failed = 0, 0, 0
        self._done, self._told = done, time.monotonic()

    def write(self, output: TextIO, id_: str, make_line: Callable[[], str]) -> None:
        """Write the line of one object, unless it is there; name it on stderr if that fails."""
        if id_ in self._done:
            self.skipped += 1
            return
        try:
            output.write(make_line())
            output.flush()
            self._done.add(id_)
            self.copied += 1
        except (APIError, ValueError) as error:
            self.failed += 1
            print(f"{id_}: {error}", file=sys.stderr)
        except (AttributeError, KeyError, TypeError) as error:
            self.failed += 1
            print(f"{id_}: has an unknown form: {error!r}", file=sys.stderr)
        if time.monotonic() - self._told > SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            print(f"{self.copied:,} copied", file=sys.stderr)


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    about, _, usage = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help="up to /v1")
    parser.add_argument("--to", dest="target", metavar="URL", help="another server, up to /v1")
    parser.add_argument("--ids", metavar="FILE", help="one id a line")
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        type=query_pair,
        metavar="NAME=VALUE",
        help="added to each request to the source; may be repeated",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="is continued")
    return parser.parse_args()


def query_pair(text: str) -> tuple[str, str]:
    """Return the name and the value of a --query. Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def connect(stack: ExitStack, url: str, key_name: str, query: dict[str, str]) -> OpenAI:
    """Return a client that tries patiently: a closing service is a busy one."""
    key = os.environ.get(key_name, "unused")
    headers = {"api-key": key} if "api-version" in query else {}  # where Azure looks for a key
    client = OpenAI(
        base_url=url, api_key=key, max_retries=4, default_query=query, default_headers=headers
    )
    return stack.enter_context(client)


def read_done(path: Path, json_lines: bool) -> set[str]:
    """Return the ids that stand in the output file; cut off a last line that was not finished."""
    if not path.exists():
        return set()
    with path.open("r+b") as file:
        done, whole = set(), 0
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            done.add(id_of(json.loads(line)) if json_lines else line.split()[0].decode())
        file.truncate(whole)
    return done


def id_of(line: dict[str, Any]) -> str:
    """Return the id of the assistant or thread of a line."""
    return str((line.get("assistant") or line["thread"])["id"])


def assistants(source: OpenAI) -> Iterator[dict[str, Any]]:
    """Yield the assistants of a server that has some. Raises APIError."""
    try:
        for assistant in source.beta.assistants.list(limit=100, order="asc"):
            yield assistant.to_dict(warnings=False)
    except APIStatusError as error:
        if error.status_code not in NOT_SERVED:
            raise


def copy_assistant(target: OpenAI | None, given: dict[str, Any], losses: Losses) -> str:
    """Copy an assistant; return its line of the output file. Raises APIError."""
    assistant = cleaned_settings("assistants", given, ASSISTANT, losses)
    if target is None:
        return f"{json.dumps({'assistant': assistant}, ensure_ascii=False)}\n"
    own = ("id", "object", "created_at")
    body: Any = {key: value for key, value in assistant.items() if key not in own}
    made = target.beta.assistants.create(**body, extra_headers=once(given["id"], body))
    return f"{given['id']} {made.id}\n"


def once(id_: str, body: Any) -> dict[str, str]:
    """Return the header by which a try whose answer was lost makes no second object."""
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return {"Idempotency-Key": f"{id_[:120]}-{digest}"}


def cleaned_settings(
    kind: str, given: dict[str, Any], shape: dict[str, Any], losses: Losses
) -> dict[str, Any]:
    """Return an assistant or a run as the exchange format has it."""
    losses.count(kind, given, (*shape, *CLEANED_FIELDS))
    kept = {"tools": [], **told(given, shape, losses), "tool_resources": resources(given)}
    own = {"tool_resources": given.get("tool_resources")}
    for value in differences(own, {"tool_resources": kept["tool_resources"]}):
        losses.tell(given["id"], value)
    return kept | {"metadata": cleaned_metadata(given["id"], given, losses)}


def picked(given: Any, shape: Any, gaps: bool = False) -> Any:
    """Return what of a value its shape knows; `gaps` keeps {} where an item is left out."""
    if isinstance(given, list) and isinstance(shape, list):
        items = [picked(item, shape[0], gaps) for item in given]
        return [item for item in items if item or gaps]
    if isinstance(given, dict) and isinstance(shape, Kinds):
        return picked(given, shape.get(given.get("type", ""), {}), gaps)
    if isinstance(given, dict) and isinstance(shape, dict):
        known = {key: given[key] for key in shape if given.get(key) is not None}
        return {key: picked(value, shape[key], gaps) for key, value in known.items()}
    return given


def told(given: dict[str, Any], shape: dict[str, Any], losses: Losses) -> dict[str, Any]:
    """Return what of an object its shape knows, and tell the rest."""
    kept = picked(given, shape, gaps=True)
    for value in differences({key: given[key] for key in kept}, kept):
        losses.tell(given["id"], value)
    return picked(given, shape)  # type: ignore[no-any-return]


def runs(source: OpenAI, thread_id: str) -> list[dict[str, Any]]:
    """Return the runs of a thread of a server that has some, oldest first. Raises APIError."""
    listed = source.beta.threads.runs
    return served(lambda: listed.list(thread_id, limit=100, order="asc"))


def steps(source: OpenAI, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of a run, oldest first. Raises APIError."""
    listed, thread_id = source.beta.threads.runs.steps, run["thread_id"]
    return served(lambda: listed.list(run["id"], thread_id=thread_id, limit=100, order="asc"))


def served(listed: Callable[[], Iterable[Any]]) -> list[dict[str, Any]]:
    """Return the objects of a list, none if it is not served. Raises APIError."""
    try:
        return [each.to_dict(warnings=False) for each in listed()]
    except APIStatusError as error:
        if error.status_code not in NOT_SERVED:
            raise
    return []


def copied_run(source: OpenAI, given: dict[str, Any], losses: Losses) -> dict[str, Any]:
    """Return a run with its steps as the exchange format has it. Raises APIError."""
    return cleaned_settings("runs", given, RUN, losses) | {
        "steps": [cleaned_step(step, losses) for step in steps(source, given)]
    }


def cleaned_step(given: dict[str, Any], losses: Losses) -> dict[str, Any]:
    """Return a step as the exchange format has it."""
    losses.count("steps", given, tuple(STEP))
    return told(given, STEP, losses)


def thread_ids(source: OpenAI, file: str | None) -> Iterator[str]:
    """Yield the ids of a file, or those that the server lists. Raises APIError."""
    if file:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        yield from text.split()
        return
    options: Any = {"params": {"limit": 100, "order": "asc"}}
    page = SyncCursorPage[Thread]
    for thread in source.get_api_list("/threads", model=Thread, page=page, options=options):
        yield thread.id


def copy(source: OpenAI, target: OpenAI | None, thread_id: str, losses: Losses) -> str:
    """Copy one thread; return its line of the output file. Raises APIError."""
    given = source.beta.threads.retrieve(thread_id).to_dict(warnings=False)
    listed = source.beta.threads.messages.list(thread_id, limit=100, order="asc")
    thread = cleaned_thread(given, losses)
    messages = [cleaned(message.to_dict(warnings=False), losses) for message in listed]
    listed_runs = runs(source, thread_id)
    if target is None:
        line = {"thread": thread, "messages": [*map(message_as_exported, messages)]}
        if listed_runs:
            line["runs"] = [copied_run(source, run, losses) for run in listed_runs]
        return f"{json.dumps(line, ensure_ascii=False)}\n"
    body: Any = {
        "metadata": thread["metadata"],
        "tool_resources": thread["tool_resources"],
        "messages": [as_created(message, losses) for message in messages],
    }
    if listed_runs:
        losses.fields["runs of threads"] += len(listed_runs)
    return f"{thread_id} {created(target, thread_id, body)}\n"


def created(target: OpenAI, thread_id: str, body: Any) -> str:
    """Create a thread with all its messages, or leave none of it; return its id. Raises APIError.

    What does not fit into one request is appended.
    """
    later = body["messages"][MOST_CREATED_MESSAGES:]
    body = body | {"messages": body["messages"][:MOST_CREATED_MESSAGES]}
    # A later run must not get the answer about a thread that this one has deleted.
    name = f"{thread_id[:60]}-{uuid4()}" if later else thread_id
    made = target.beta.threads.create(**body, extra_headers=once(name, body)).id
    try:
        for number, message in enumerate(later):
            headers = once(f"{name}-{number}", message)
            target.beta.threads.messages.create(made, **message, extra_headers=headers)
    except BaseException:
        target.beta.threads.delete(made)
        raise
    return made


def cleaned_thread(given: dict[str, Any], losses: Losses) -> dict[str, Any]:
    """Return a thread as the exchange format has it, without what other servers add."""
    losses.count("threads", given, THREAD_FIELDS + CLEANED_FIELDS)
    kept = {"tool_resources": resources(given)}
    for value in differences({"tool_resources": given.get("tool_resources")}, kept):
        losses.tell(given["id"], value)
    fixed = {key: given[key] for key in THREAD_FIELDS}
    return fixed | kept | {"metadata": cleaned_metadata(given["id"], given, losses)}


def resources(thread: dict[str, Any]) -> dict[str, Any]:
    """Return the tool resources that the specification knows."""
    given: dict[str, Any] = thread.get("tool_resources") or {}
    known = {"code_interpreter": "file_ids", "file_search": "vector_store_ids"}
    return {
        tool: {key: given[tool].get(key) or []} for tool, key in known.items() if given.get(tool)
    }


def cleaned_metadata(where: str, given: dict[str, Any], losses: Losses) -> dict[str, str]:
    """Return the pairs of metadata that an import takes."""
    pairs: dict[str, Any] = given.get("metadata") or {}
    fitting = [key for key, value in pairs.items() if fits(key, value)][:MOST_PAIRS]
    for key in pairs:
        if key not in fitting:
            losses.tell(where, {key: pairs[key]})
    return {key: pairs[key] for key in fitting}


def fits(key: str, value: Any) -> bool:
    """Tell whether an import takes a pair of metadata."""
    is_text = isinstance(value, str) and len(value) <= MOST_VALUE_CHARACTERS
    return is_text and len(key) <= MOST_KEY_CHARACTERS


def cleaned(message: dict[str, Any], losses: Losses) -> dict[str, Any]:
    """Return a message without what only its server knows and what no import takes."""
    where = f"{message.get('thread_id')}: {message.get('id')}"
    older = [{"file_id": file_id} for file_id in message.get("file_ids") or []]
    files = message.get("attachments") or older
    given = {"content": parts_of(message["content"] or []), "attachments": files}
    kept = {
        "content": [clean_part(part) for part in given["content"]],
        "attachments": [clean_attachment(file) for file in files],
    }
    for value in differences(given, kept):
        losses.tell(where, value)
    known = MESSAGE_FIELDS + LATER_MESSAGE_FIELDS + CLEANED_FIELDS
    losses.count("messages", message, known if message.get("attachments") else (*known, "file_ids"))
    metadata = cleaned_metadata(where, message, losses)
    return {**message, **without_gaps(kept), "metadata": metadata}


def parts_of(content: Any) -> list[Any]:
    """Return content as parts; some servers send a text for all of it, for a part or in a part."""
    parts = [content] if isinstance(content, str) else content
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [
        part | {"text": {"value": part["text"]}} if isinstance(part.get("text"), str) else part
        for part in parts
    ]


def differences(given: Any, kept: Any) -> Iterator[Any]:
    """Yield what of a value is not kept: items of arrays, and pairs of objects as {key: value}."""
    if isinstance(given, list):
        for item, place in zip(given, kept, strict=True):
            yield from differences(item, place) if place else [item]
    elif isinstance(given, dict):
        for key, value in given.items():
            if value in SAYS_NOTHING or kept.get(key) == value:
                continue
            is_in_part = isinstance(value, list | dict) and kept.get(key)
            yield from differences(value, kept[key]) if is_in_part else [{key: value}]


def without_gaps(kept: Any) -> Any:
    """Return a value without the {} that stand in arrays for what is left out."""
    if isinstance(kept, dict):
        return {key: without_gaps(value) for key, value in kept.items()}
    if isinstance(kept, list):
        return [without_gaps(item) for item in kept if item != {}]
    return kept


def clean_part(part: dict[str, Any]) -> dict[str, Any]:
    """Return a content part with the keys of the specification only; {} for one to leave out."""
    kind = part.get("type", "")
    given = part.get(kind) or {}
    if kind == "text":
        annotations = [*map(clean_annotation, given.get("annotations") or [])]
        return {"type": kind, kind: {"value": given.get("value") or "", "annotations": annotations}}
    if kind == "refusal":
        return {"type": kind, kind: given or ""}
    key, start = IMAGES.get(kind, ("", ""))
    if not key or not str(given.get(key)).startswith(start):
        return {}
    detail = {"detail": given["detail"]} if given.get("detail") in DETAILS else {}
    return {"type": kind, kind: {key: given[key]} | detail}


def clean_annotation(annotation: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation without what older versions added; {} for one of another kind."""
    kind = annotation.get("type", "")
    given = annotation.get(kind) or {}
    fixed = {key: annotation.get(key) for key in ("type", "text", "start_index", "end_index")}
    target = {key: given[key] for key in ANNOTATIONS.get(kind, ()) if given.get(key)}
    if not target.keys() & {"file_id", "url"} or None in fixed.values():
        return {}
    return fixed | {kind: target}


def clean_attachment(attachment: dict[str, Any]) -> dict[str, Any]:
    """Return an attachment with its known tools; {} for one whose file id no import takes."""
    if not str(attachment.get("file_id")).startswith(FILE_IDS):
        return {}
    kinds = [tool.get("type") for tool in attachment.get("tools") or []]
    tools: list[Any] = [{"type": kind} if kind in TOOLS else {} for kind in kinds]
    return {"file_id": attachment["file_id"], "tools": tools}


def message_as_exported(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as the exchange format has it; some servers do not send every field."""
    fixed = {key: message.get(key) for key in MESSAGE_FIELDS}
    later = {key: message[key] for key in LATER_MESSAGE_FIELDS if key in message}
    if not later.get("status", "completed"):
        del later["status"]
    return (
        fixed
        | later
        | {
            "content": message["content"],
            "attachments": message["attachments"],
            "metadata": message["metadata"],
        }
    )


def as_created(message: dict[str, Any], losses: Losses) -> dict[str, Any]:
    """Return a message as a request creates it."""
    where = f"{message.get('thread_id')}: {message.get('id')}"
    for part in message["content"]:
        for annotation in part["text"]["annotations"] if part["type"] == "text" else []:
            losses.tell(where, annotation)
    later = {key: message.get(key) for key in ("assistant_id", "run_id", "incomplete_details")}
    losses.count("messages", later, ())
    make: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "text": lambda part: {"type": "text", "text": part["text"]["value"] or " "},
        "refusal": lambda part: {"type": "text", "text": part["refusal"] or " "},
    }
    parts = [make.get(part["type"], dict)(part) for part in message["content"]]
    return {
        "role": message["role"],
        "content": parts or " ",
        "attachments": message["attachments"],
        "metadata": message["metadata"],
    }


if __name__ == "__main__":
    sys.exit(main())
