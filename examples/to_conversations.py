"""Turn an export into request bodies for the Conversations API, the successor of Threads.

    flask export | python examples/to_conversations.py > calls.jsonl

Each line is one call, in the order in which to send them:

    {"thread": "thread_…", "path": "/conversations", "body": {"metadata": {…}, "items": […]}}
    {"thread": "thread_…", "path": "/conversations/{conversation_id}/items", "body": {"items": […]}}

A call takes 20 items at most, so a longer thread needs the second kind, with the id that the first
call returned. To send them with the official SDK:

    for line in map(json.loads, open("calls.jsonl")):
        if line["path"] == "/conversations":
            conversation = client.conversations.create(**line["body"])
        else:
            client.conversations.items.create(conversation.id, **line["body"])

Text and image URLs go over as the official migration guide has it; files and images by id, of which
it says nothing, go over as `input_file` and `input_image`. What has no place in a conversation is
counted on stderr.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ITEMS_A_CALL = 20


def main() -> int:
    """Read export lines, print calls, report what was lost; return the process status."""
    about, _, usage = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, help="an export; default: stdin")
    path = parser.parse_args().file
    counts, lost = Counter[str](), Counter[str]()
    for number, line in enumerate(path.open("rb") if path else sys.stdin.buffer, 1):
        if not line.strip():
            continue
        try:
            exported = json.loads(line)
            made = list(calls(exported, lost))
        except (ValueError, KeyError, TypeError) as error:
            counts["lines that are no exported thread"] += 1
            print(f"line {number}: not an exported thread ({error!r})", file=sys.stderr)
            continue
        counts["threads"] += "thread" in exported
        for call in made:
            counts["calls"] += 1
            print(json.dumps(call, ensure_ascii=True))
    for what, count in counts.items():
        print(f"{count:,} {what}", file=sys.stderr)
    if lost:
        print("Without a target:", file=sys.stderr)
    for what, count in sorted(lost.items()):
        print(f"  {count:,} {what}", file=sys.stderr)
    return 1 if counts["lines that are no exported thread"] else 0


def calls(line: dict[str, Any], lost: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the calls that make one conversation of an exported thread."""
    if "assistant" in line:
        lost["assistants"] += 1
        return
    thread = line["thread"]
    lost["ids and times of threads"] += 1
    if thread["tool_resources"]:
        lost["tool_resources of threads"] += 1
    if line.get("runs"):
        lost["runs of threads"] += len(line["runs"])
    items = [item for message in line["messages"] if (item := as_item(message, lost))]
    first = {"metadata": thread["metadata"] or {}, "items": items[:ITEMS_A_CALL]}
    yield {"thread": thread["id"], "path": "/conversations", "body": first}
    for start in range(ITEMS_A_CALL, len(items), ITEMS_A_CALL):
        more = {"items": items[start : start + ITEMS_A_CALL]}
        path = "/conversations/{conversation_id}/items"
        yield {"thread": thread["id"], "path": path, "body": more}


def as_item(message: dict[str, Any], lost: Counter[str]) -> dict[str, Any] | None:
    """Return a message as an item, or None when nothing of it has a place."""
    content = [part for given in message["content"] if (part := as_part(given, message, lost))]
    for attachment in message["attachments"] or []:
        content.append({"type": "input_file", "file_id": attachment["file_id"]})
        lost["tools of attachments"] += bool(attachment["tools"])
    lost["ids and times of messages"] += 1
    for key in ("metadata", "assistant_id", "run_id", "incomplete_details"):
        if message.get(key):
            lost[f"{key} of messages"] += 1
    if content:
        return {"type": "message", "role": message["role"], "content": content}
    lost["messages without content"] += 1
    return None


def as_part(
    part: dict[str, Any], message: dict[str, Any], lost: Counter[str]
) -> dict[str, Any] | None:
    """Return a part of a message's content as an item has it, or None when it has no place."""
    kind = part["type"]
    if kind == "text":
        if part["text"]["annotations"]:
            lost["annotations of texts"] += len(part["text"]["annotations"])
        text_type = "output_text" if message["role"] == "assistant" else "input_text"
        return {"type": text_type, "text": part["text"]["value"]}
    if kind == "image_url":
        given = part["image_url"]
        detail = given.get("detail", "auto")
        return {"type": "input_image", "image_url": given["url"], "detail": detail}
    if kind == "image_file":
        given = part["image_file"]
        detail = given.get("detail", "auto")
        return {"type": "input_image", "file_id": given["file_id"], "detail": detail}
    lost[f"{kind} parts"] += 1
    return None


if __name__ == "__main__":
    sys.exit(main())
