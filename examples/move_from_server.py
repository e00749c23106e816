"""Copy threads from any server that speaks the Threads API: the way out of a service that closes.

Into a file for `flask import`, which keeps ids and times:

    python examples/move_from_server.py --from https://old.example/v1 --output threads.jsonl
    flask import threads.jsonl

Or straight into another server, which gives new ids and times; each old id and its new one become
a line of the --output file:

    python examples/move_from_server.py --from … --to http://127.0.0.1:8000/v1 --output moved.txt

A server that does not list its threads needs their ids, one a line: --ids FILE (- reads stdin).
Keys are read from SOURCE_API_KEY and TARGET_API_KEY. Needs the package `openai` and nothing else.

Run it again after an interruption: threads that stand in the output file already are not read
again. A thread that cannot be copied is named on stderr and the others go on; the status is then 1.
Parts that no import takes (images in data: URLs, files without a file id) are left out, each with
a line on stderr.
"""

import argparse
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from openai import APIError, OpenAI
from openai.pagination import SyncCursorPage
from openai.types.beta import Thread

SECONDS_BETWEEN_LINES = 2
THREAD_FIELDS = ("id", "object", "created_at")
MESSAGE_FIELDS = ("id", "object", "created_at", "assistant_id", "thread_id", "run_id", "role")
TOOLS = ("code_interpreter", "file_search")
IMAGES = {"image_file": ("file_id", "file"), "image_url": ("url", "http")}
DETAILS = ("auto", "low", "high")
LATER_MESSAGE_FIELDS = ("status", "incomplete_details", "completed_at", "incomplete_at")


def main() -> int:
    """Copy what the command line names; return the process status."""
    arguments = read_arguments()
    warnings.simplefilter("ignore", DeprecationWarning)
    source = connect(arguments.source, "SOURCE_API_KEY")
    target = connect(arguments.target, "TARGET_API_KEY") if arguments.target else None
    done = read_done(arguments.output, json_lines=target is None)
    copied, skipped, failed, told = 0, 0, 0, time.monotonic()
    with arguments.output.open("a", encoding="utf-8") as output:
        try:
            for thread_id in thread_ids(source, arguments.ids):
                if thread_id in done:
                    skipped += 1
                    continue
                try:
                    output.write(copy(source, target, thread_id))
                    output.flush()
                    done.add(thread_id)
                    copied += 1
                except (APIError, ValueError, KeyError) as error:
                    failed += 1
                    print(f"{thread_id}: {error}", file=sys.stderr)
                if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                    told = time.monotonic()
                    print(f"{copied:,} threads copied", file=sys.stderr)
        except APIError as error:
            failed += 1
            print(f"The server's list of threads ended early: {error}", file=sys.stderr)
            print("Run this again, or give the ids in a file: --ids FILE.", file=sys.stderr)
    print(f"copied {copied:,}, copied before {skipped:,}, failed {failed:,}", file=sys.stderr)
    return 1 if failed else 0


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    about, _, usage = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help="up to /v1")
    parser.add_argument("--to", dest="target", metavar="URL", help="another server, up to /v1")
    parser.add_argument("--ids", metavar="FILE", help="one id a line")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="is continued")
    return parser.parse_args()


def connect(url: str, key: str) -> OpenAI:
    """Return a client that tries patiently: a closing service is a busy one."""
    return OpenAI(base_url=url, api_key=os.environ.get(key, "unused"), max_retries=4)


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
            done.add(json.loads(line)["thread"]["id"] if json_lines else line.split()[0].decode())
        file.truncate(whole)
    return done


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


def copy(source: OpenAI, target: OpenAI | None, thread_id: str) -> str:
    """Copy one thread; return its line of the output file. Raises APIError."""
    thread = source.beta.threads.retrieve(thread_id).to_dict()
    listed = source.beta.threads.messages.list(thread_id, limit=100, order="asc")
    messages = [cleaned(message.to_dict(warnings=False)) for message in listed]
    if target is None:
        line = {"thread": as_exported(thread), "messages": [*map(message_as_exported, messages)]}
        return f"{json.dumps(line, ensure_ascii=False)}\n"
    body: Any = {
        "metadata": thread.get("metadata") or {},
        "tool_resources": resources(thread),
        "messages": [*map(as_created, messages)],
    }
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    # A try whose answer was lost makes no second thread, nor does a run after an interruption.
    once = {"Idempotency-Key": f"{thread_id[:100]}-{digest}"}
    return f"{thread_id} {target.beta.threads.create(**body, extra_headers=once).id}\n"


def as_exported(thread: dict[str, Any]) -> dict[str, Any]:
    """Return a thread as the exchange format has it, without what other servers add."""
    fixed = {key: thread[key] for key in THREAD_FIELDS}
    return fixed | {"metadata": thread.get("metadata") or {}, "tool_resources": resources(thread)}


def resources(thread: dict[str, Any]) -> dict[str, Any]:
    """Return the tool resources that the specification knows."""
    given: dict[str, Any] = thread.get("tool_resources") or {}
    known = {"code_interpreter": "file_ids", "file_search": "vector_store_ids"}
    return {
        tool: {key: given[tool].get(key) or []} for tool, key in known.items() if given.get(tool)
    }


def cleaned(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without what only its server knows and what no import takes."""
    parts = [(part, clean_part(part)) for part in message["content"] or []]
    files = [(file, clean_attachment(file)) for file in message.get("attachments") or []]
    for given, clean in parts + files:
        if not clean:
            where = f"{message.get('thread_id')}: {message.get('id')}"
            print(f"{where}: left out {json.dumps(given)[:200]}", file=sys.stderr)
    return message | {
        "content": [clean for _, clean in parts if clean],
        "attachments": [clean for _, clean in files if clean],
    }


def clean_part(part: dict[str, Any]) -> dict[str, Any]:
    """Return a content part with the keys of the specification only; {} for one to leave out."""
    kind = part.get("type", "")
    given = part.get(kind) or {}
    if kind == "text":
        annotations = [*filter(None, map(clean_annotation, given.get("annotations") or []))]
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
    file_id = (annotation.get(kind) or {}).get("file_id")
    if kind not in ("file_citation", "file_path") or not file_id:
        return {}
    fixed = {key: annotation[key] for key in ("type", "text", "start_index", "end_index")}
    return fixed | {kind: {"file_id": file_id}}


def clean_attachment(attachment: dict[str, Any]) -> dict[str, Any]:
    """Return an attachment with its known tools; {} for one whose file id no import takes."""
    if not str(attachment.get("file_id")).startswith("file"):
        return {}
    kinds = [tool.get("type") for tool in attachment.get("tools") or []]
    tools = [{"type": kind} for kind in kinds if kind in TOOLS]
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
            "metadata": message.get("metadata") or {},
        }
    )


def as_created(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as a request creates it."""
    make: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "text": lambda part: {"type": "text", "text": part["text"]["value"] or " "},
        "refusal": lambda part: {"type": "text", "text": part["refusal"] or " "},
    }
    parts = [make.get(part["type"], dict)(part) for part in message["content"]]
    return {
        "role": message["role"],
        "content": parts or " ",
        "attachments": message["attachments"],
        "metadata": message.get("metadata") or {},
    }


if __name__ == "__main__":
    sys.exit(main())
