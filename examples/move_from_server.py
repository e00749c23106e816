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
"""

import argparse
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
    messages = [message.to_dict() for message in listed]
    if target is None:
        line = {"thread": as_exported(thread), "messages": [*map(message_as_exported, messages)]}
        return f"{json.dumps(line, ensure_ascii=False)}\n"
    body: Any = {
        "metadata": thread.get("metadata") or {},
        "tool_resources": resources(thread),
        "messages": [*map(as_created, messages)],
    }
    return f"{thread_id} {target.beta.threads.create(**body).id}\n"


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


def message_as_exported(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as the exchange format has it; some servers do not send every field."""
    fixed = {key: message.get(key) for key in MESSAGE_FIELDS}
    later = {key: message[key] for key in LATER_MESSAGE_FIELDS if key in message}
    return (
        fixed
        | later
        | {
            "content": message["content"],
            "attachments": message.get("attachments") or [],
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
        "attachments": message.get("attachments") or [],
        "metadata": message.get("metadata") or {},
    }


if __name__ == "__main__":
    sys.exit(main())
