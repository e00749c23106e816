"""Turn conversations from elsewhere into lines that `flask import` reads.

    python examples/from_chatgpt.py chatgpt-export.zip --output threads.jsonl
    flask import threads.jsonl

A FILE is ChatGPT's data export (its zip file, the unpacked folder, or a conversations.json), or
lines with OpenAI's {"messages": [{"role": …, "content": …}, …]}, as in fine-tuning files.

Of a conversation with branches the current one is taken. The title becomes metadata of the thread,
names of attached files become metadata of the message, code becomes a Markdown block. Ids are made
of the source's, so that `flask import --on-conflict replace` of a newer export doubles nothing. A
message without a time has that of the one before it, a conversation without any time its file's.
The format has no place for model names and for the state of ChatGPT's page.

All else that is left out (messages of the system and of tools, other branches, images without a
file id, …) is counted on stderr, and the status is then 3. It is 1 when a file cannot be read.
"""

import argparse
import hashlib
import io
import json
import math
import os
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TextIO

FILES = "conversations*.json"
ROLES = ("user", "assistant")
FILE_IDS = ("file", "assistant-")
MOST_VALUE_CHARACTERS = 512
MOST_ID_CHARACTERS = 256
MOST_KEY_CHARACTERS = 64
MOST_URL_CHARACTERS = 8_192
MOST_ATTACHMENTS = 20
MOST_PAIRS = 16
LAST_SECOND = 253_402_300_799
NO_CONTENT = ("content_type", "language", "response_format_name", "source_analysis_msg_id")
UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
HTTP_URL = re.compile("https?://[^\x00-\x20\x7f]+", re.IGNORECASE)
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CHUNK = 1 << 18
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What a file raises that is damaged, nested too deep, or a zip file with a password."""

Object = dict[str, Any]
Lost = Counter[str]
Made = tuple[str, int | None, Object | None]


def main() -> int:
    """Read what the command line names, write lines; return the process status."""
    arguments = read_arguments()
    lost, counts = Lost(), Lost()
    stdout = sys.stdout.fileno()
    target, closes = (arguments.output, True) if arguments.output else (stdout, False)
    with open(target, "w", encoding="utf-8", newline="\n", closefd=closes) as output:
        for path in arguments.files:
            try:
                copy_source(path, output, counts, lost)
            except UNREADABLE as error:
                counts["unreadable"] += 1
                print(f"{path}: cannot be read to its end: {error}", file=sys.stderr)
    print(f"{counts['threads']:,} threads, {counts['messages']:,} messages", file=sys.stderr)
    if counts["empty"]:
        print(f"{counts['empty']:,} messages had no content", file=sys.stderr)
    lost = +lost
    if lost:
        print("Left out:", file=sys.stderr)
    for what, count in sorted(lost.items()):
        print(f"  {count:,} {what}", file=sys.stderr)
    return 1 if counts["unreadable"] else 3 if lost else 0


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    about, _, usage = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="older exports first")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")
    arguments = parser.parse_args()
    for path in arguments.files:
        if not path.exists():
            parser.error(f"{path} does not exist")
        if arguments.output and arguments.output.exists() and path.samefile(arguments.output):
            parser.error(f"{path} cannot be read and written at once")
    return arguments


# Files


def copy_source(path: Path, output: TextIO, counts: Lost, lost: Lost) -> None:
    """Write the threads of a path. Raises one of UNREADABLE."""
    for name, file in open_files(path):
        with file:
            second = int(os.stat(path).st_mtime)
            for number, value in enumerate(values(file), 1):
                line = as_line(value, second, counts, lost)
                if line is None:
                    lost["entries that are no conversation"] += 1
                    print(f"{name}: entry {number} is no conversation", file=sys.stderr)
                    continue
                counts["threads"] += 1
                counts["messages"] += len(line["messages"])
                output.write(f"{json.dumps(line, ensure_ascii=False)}\n")


def open_files(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name and the open file of each part of an export. Raises ValueError for none."""
    names: list[Any] = [path]
    if path.is_dir():
        names = sorted(path.glob(FILES))
        yield from ((str(name), name.open("rb")) for name in names)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = sorted(each for each in archive.namelist() if fnmatch(Path(each).name, FILES))
            yield from ((f"{path}/{name}", archive.open(name)) for name in names)
    else:
        yield str(path), path.open("rb")
    if not names:
        raise ValueError(f"there is no {FILES} in it")


def values(file: BinaryIO | io.BufferedReader) -> Iterator[Any]:
    """Yield the members of a JSON array, or the values of JSON Lines; None for a bad line."""
    head = file.peek(64)  # type: ignore[union-attr]
    is_array = head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"[")
    text = io.TextIOWrapper(file, "utf-8-sig")
    yield from members(text) if is_array else line_values(text)


def members(file: TextIO) -> Iterator[Any]:
    """Yield the members of one JSON array or of several in a row, holding one at a time.

    Raises ValueError.
    """
    decode, space = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*")
    text = file.read(CHUNK)
    place = text.index("[") + 1
    while True:
        place = space.match(text, place).end()  # type: ignore[union-attr]
        if text.startswith("]", place):
            if not (text := after_array(file, text[place + 1 :])):
                return
            place = 1
            continue
        try:
            value, place = decode(text, place)
        except ValueError:
            # Each read doubles what is held, so that a long member is not parsed too often.
            more = file.read(max(CHUNK, len(text) - place))
            if not more:
                raise
            text, place = text[place:] + more, 0
        else:
            yield value


def after_array(file: TextIO, text: str) -> str:
    """Return what begins the next array, '' if the file ends before. Raises ValueError."""
    while not text.strip() and (more := file.read(CHUNK)):
        text = more
    if text.strip()[:1] not in ("", "["):
        raise ValueError("an array is followed by something else")
    return text.lstrip()


def line_values(file: TextIO) -> Iterator[Any]:
    """Yield the value of each line, None for a bad one; or the one value of a whole document."""
    for line in file:
        if line.strip() == "{":
            yield json.loads(line + file.read())
        elif line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield None


# Conversations


def as_line(value: Any, second: int, counts: Lost, lost: Lost) -> Object | None:
    """Return a conversation as the exchange format has it, or None for anything else."""
    try:
        make = from_export if "mapping" in value else from_messages
        return make(value, second, counts, lost)
    except (AttributeError, KeyError, TypeError):
        return None


def from_export(conversation: Object, second: int, counts: Lost, lost: Lost) -> Object:
    """Return a conversation of ChatGPT's export, with the messages of its current branch."""
    source_id = conversation.get("conversation_id") or conversation.get("id")
    nodes = current_path(conversation)
    taken = {key for key, _ in nodes}
    for key, node in conversation["mapping"].items():
        if key not in taken and not is_empty((node or {}).get("message") or {}):
            lost["messages of other branches"] += 1
    given = [(key, node["message"]) for key, node in nodes if node.get("message")]
    times = [time_of(message, lost) for _, message in given]
    began = time_of(conversation, lost)
    began = next((time for time in [began, *times] if time is not None), second)
    thread_id = made_id("thread", source_id or stable(conversation["mapping"]))
    messages = []
    for (key, message), time in zip(given, times, strict=True):
        made = export_message(message, counts, lost)
        messages.append((made_id("msg", key), time, made))
    title = conversation.get("title")
    return exchange_line(thread_id, began, metadata_of(title, lost), messages, lost)


def current_path(conversation: Object) -> list[tuple[str, Object]]:
    """Return the nodes from the root to the current one, which may not be named."""
    mapping, path = conversation["mapping"], {}
    key = conversation.get("current_node")
    if not isinstance(key, str) or key not in mapping:
        key = newest_leaf(mapping)
    while isinstance(key, str) and mapping.get(key) and key not in path:
        path[key] = mapping[key]
        key = mapping[key].get("parent")
    return [*reversed(path.items())]


def newest_leaf(mapping: Object) -> str | None:
    """Return the key of the newest node that is no other's parent; of equals, the last."""
    parents = {(node or {}).get("parent") for node in mapping.values()}
    leaves = [key for key in reversed(mapping) if key not in parents]
    messages = {key: (mapping[key] or {}).get("message") or {} for key in leaves}
    return max(leaves, key=lambda key: time_of(messages[key], Lost()) or 0, default=None)


def export_message(message: Object, counts: Lost, lost: Lost) -> Object | None:
    """Return role, content, attachments and metadata of a message of an export, or None."""
    if is_empty(message):
        counts["empty"] += 1
        return None
    if reason := why_left_out(message):
        lost[reason] += 1
        return None
    about = message.get("metadata") or {}
    for key in ("citations", "content_references"):
        if about.get(key):
            lost[f"{key} of messages"] += len(about[key])
    parts = export_parts(message["content"], lost)
    shown = {part["image_file"]["file_id"] for part in parts if part["type"] == "image_file"}
    given = [each for each in about.get("attachments") or [] if each.get("id") not in shown]
    made = {"role": message["author"]["role"], "content": parts} | attached(given, lost)
    return made if parts or made["attachments"] else None


def is_empty(message: Object) -> bool:
    """Tell whether a message says nothing, as the roots of ChatGPT's conversations do."""
    about, content = message.get("metadata") or {}, message.get("content") or {}
    if about.get("attachments") or about.get("user_context_message_data"):
        return False
    return not any(says(value) for key, value in content.items() if key not in NO_CONTENT)


def says(value: Any) -> bool:
    """Tell whether there is anything but empty strings, arrays and objects in a value."""
    if isinstance(value, list | dict):
        return any(map(says, value.values() if isinstance(value, dict) else value))
    return bool(value)


def why_left_out(message: Object) -> str:
    """Return what a message is that has no place in a thread; '' for one to take."""
    role = (message.get("author") or {}).get("role")
    kind = (message.get("content") or {}).get("content_type")
    if role not in ROLES:
        return f"{role} messages"
    if (message.get("metadata") or {}).get("is_visually_hidden_from_conversation"):
        return "hidden messages"
    return "" if kind in ("text", "multimodal_text", "code") else f"{kind} messages"


def export_parts(content: Object, lost: Lost) -> list[Object]:
    """Return the content of a message of an export as parts."""
    given = content.get("parts") or []
    if content["content_type"] == "code":
        given = [fenced(content.get("text") or "\n".join(given), content.get("language"))]
    elif content.get("text"):
        given = [content["text"], *given]
    return [part for each in given if (part := export_part(each, lost))]


def fenced(code: str, language: Any) -> str:
    """Return code as a block of Markdown, with a fence that is longer than any in the code."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language if language not in (None, 'unknown') else ''}\n{code}\n{fence}"


def export_part(part: Any, lost: Lost) -> Object | None:
    """Return a part of an export: text, a transcription, or an image with its file id."""
    if isinstance(part, str):
        return text_part(part, lost) if part else None
    kind = part.get("content_type") if isinstance(part, dict) else type(part).__name__
    if kind in ("text", "audio_transcription") and isinstance(part.get("text"), str):
        return text_part(part["text"], lost)
    if kind == "image_asset_pointer":
        _, _, place = str(part.get("asset_pointer")).partition("://")
        file_id = re.search("file[-_][A-Za-z0-9_-]+", place)
        if file_id and len(file_id[0]) <= MOST_ID_CHARACTERS:
            return {"type": "image_file", "image_file": {"file_id": file_id[0], "detail": "auto"}}
    lost[f"{kind} parts"] += 1
    return None


def attached(given: list[Object], lost: Lost) -> Object:
    """Return the files of a message as its attachments, and their names as its metadata."""
    names = {str(each.get("id")): str(each.get("name") or "") for each in given}
    known = [each for each in names if each.startswith(FILE_IDS)]
    ids = [each for each in known if len(each) <= MOST_ID_CHARACTERS][:MOST_ATTACHMENTS]
    lost["attachments"] += sum(str(each.get("id")) not in ids for each in given)
    named = [each for each in ids if names[each]]
    keys = [each for each in named if len(each) <= MOST_KEY_CHARACTERS][:MOST_PAIRS]
    lost["names of attachments"] += len(named) - len(keys)
    return {
        "attachments": [{"file_id": each, "tools": []} for each in ids],
        "metadata": {each: shortened(names[each], "names", lost) for each in keys},
    }


# Lines of messages


def from_messages(line: Object, second: int, counts: Lost, lost: Lost) -> Object:
    """Return a line of OpenAI's {"messages": …} form; equal lines are told apart by their order."""
    source_id = line.get("id")
    if not isinstance(source_id, str):
        digest = stable(line)
        counts[digest] += 1
        source_id = f"{digest} {counts[digest]}"
    for key in line.keys() - {"id", "messages", "title"}:
        lost[f"{key} of lines"] += bool(line[key])
    messages: list[Made] = []
    for number, message in enumerate(line["messages"]):
        key = f"{source_id} {number}"
        messages.append((made_id("msg", key), None, chat_message(message, counts, lost)))
    pairs = metadata_of(line.get("title"), lost)
    return exchange_line(made_id("thread", source_id), second, pairs, messages, lost)


def chat_message(message: Object, counts: Lost, lost: Lost) -> Object | None:
    """Return role and content of one of OpenAI's chat messages, or None."""
    if message.get("role") not in ROLES:
        lost[f"{message.get('role')} messages"] += 1
        return None
    for key in message.keys() - {"role", "content", "refusal"}:
        lost[f"{key} of messages"] += bool(message[key]) or message[key] == 0
    given = message.get("content") or []
    given = [given] if isinstance(given, str | dict) else given
    parts = [part for each in given if (part := chat_part(each, lost))]
    if message.get("refusal"):
        parts.append(refusal_part(message["refusal"], lost))
    if not given and not parts:
        counts["empty"] += 1
    made = {"role": message["role"], "content": parts, "attachments": [], "metadata": {}}
    return made if parts else None


def chat_part(part: Any, lost: Lost) -> Object | None:
    """Return a part of a chat message: text, a refusal, or an image on the web."""
    if isinstance(part, str):
        return text_part(part, lost)
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind == "text" and isinstance(part.get("text"), str):
        return text_part(part["text"], lost)
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return refusal_part(part["refusal"], lost)
    image = part.get("image_url") if kind == "image_url" else None
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and len(url) <= MOST_URL_CHARACTERS and HTTP_URL.fullmatch(url):
        detail = image.get("detail") if isinstance(image, dict) else "auto"
        detail = detail if detail in ("low", "high") else "auto"
        return {"type": "image_url", "image_url": {"url": url, "detail": detail}}
    lost[f"{kind} parts"] += 1
    return None


# The exchange format


def exchange_line(
    thread_id: str,
    began: int,
    pairs: Object,
    given: list[Made],
    lost: Lost,
) -> Object:
    """Return a thread and those of its messages that were made, each with a time."""
    messages, time = [], began
    for message_id, own_time, made in given:
        time = own_time if own_time is not None else time
        if made:
            fixed = {"id": message_id, "object": "thread.message", "created_at": time}
            messages.append(fixed | {"thread_id": thread_id, **made})
    keep_order(messages, lost)
    thread = {"id": thread_id, "object": "thread", "created_at": began}
    thread |= {"metadata": pairs, "tool_resources": {}}
    return {"thread": thread, "messages": messages}


def keep_order(messages: list[Object], lost: Lost) -> None:
    """Give the last message the time before it where all times fall: an import reverses such."""
    times = [message["created_at"] for message in messages]
    if len(times) > 1 and all(new < old for old, new in pairwise(times)):
        messages[-1]["created_at"] = times[-2]
        lost["times of messages that stand in falling order"] += 1


def text_part(text: str, lost: Lost) -> Object:
    """Return a text part."""
    return {"type": "text", "text": {"value": storable(text, lost), "annotations": []}}


def refusal_part(text: str, lost: Lost) -> Object:
    """Return a refusal part."""
    return {"type": "refusal", "refusal": storable(text, lost)}


def metadata_of(title: Any, lost: Lost) -> Object:
    """Return the metadata of a thread with this title, if it has one."""
    if not title or not isinstance(title, str):
        return {}
    return {"title": shortened(title, "titles", lost)}


def shortened(text: str, what: str, lost: Lost) -> str:
    """Return a text as a value of metadata."""
    lost[f"ends of {what} above {MOST_VALUE_CHARACTERS} characters"] += (
        len(text) > MOST_VALUE_CHARACTERS
    )
    return storable(text, lost)[:MOST_VALUE_CHARACTERS]


def storable(text: str, lost: Lost) -> str:
    """Return a text with U+FFFD for U+0000 and for halves of characters, which no import takes."""
    stored, count = UNSTORABLE.subn("\ufffd", text)
    lost["characters that cannot be stored"] += count
    return stored


def time_of(given: Object, lost: Lost) -> int | None:
    """Return the second in which a conversation or message was made, or None."""
    time: Any = given.get("create_time")
    if type(time) in (int, float) and math.isfinite(time) and 0 <= time <= LAST_SECOND:
        return int(time)
    lost["times that are no seconds"] += time is not None
    return None


def made_id(prefix: str, source_id: Any) -> str:
    """Return an id that is always the same for one of the source, with the digits of a UUID."""
    text = str(source_id)
    return f"{prefix}_{text.replace('-', '') if UUID.fullmatch(text) else stable(text)[:32]}"


def stable(value: Any) -> str:
    """Return a digest that equal values share."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
