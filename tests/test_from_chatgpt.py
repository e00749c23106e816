"""examples/from_chatgpt.py, run as a person runs it; what it writes is imported."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands
from test_examples import lines, run_example

from config import ROOT

Node = tuple[str, str | None, dict[str, Any] | None]
CONVERSATION_ID = "67f3a2c1-1b2c-8003-9d8e-0123456789ab"
THREAD_ID = "thread_67f3a2c11b2c80039d8e0123456789ab"


def message(role: str, *parts: Any, time: float | None = None, **other: Any) -> dict[str, Any]:
    """A message of ChatGPT's export; `other` has keys of its content, or its metadata."""
    about = other.pop("metadata", {})
    content = {"content_type": "text", "parts": [*parts]} | other
    author = {"role": role, "name": None, "metadata": {}}
    return {"author": author, "create_time": time, "content": content, "metadata": about}


def conversation(*nodes: Node, **fields: Any) -> dict[str, Any]:
    """A conversation of nodes (key, parent, message), whose last node is the current one."""
    mapping = {
        key: {"id": key, "message": given, "parent": parent, "children": []}
        for key, parent, given in nodes
    }
    current = nodes[-1][0] if nodes else None
    fixed = {"title": "Trams", "create_time": 1.5, "current_node": current}
    return fixed | {"conversation_id": CONVERSATION_ID, "mapping": mapping} | fields


def chain(*messages: dict[str, Any] | None, **fields: Any) -> dict[str, Any]:
    """A conversation without branches."""
    parents = [None, *(f"node{number}" for number in range(len(messages)))]
    nodes = [(f"node{n}", parents[n], given) for n, given in enumerate(messages)]
    return conversation(*nodes, **fields)


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), "utf-8")
    return path


def turned(folder: Path, value: Any, status: int = 0) -> tuple[list[Any], list[str]]:
    """Turn one document into exchange lines; return them and what stderr says of losses."""
    output = folder / "threads.jsonl"
    path = write(folder / "conversations.json", value)
    result = run_example("from_chatgpt.py", path, "--output", output)
    assert (result.returncode, result.stdout) == (status, ""), result.stderr
    told = [line.strip() for line in result.stderr.splitlines()[1:]]
    return lines(output), [line for line in told if line != "Left out:"]


def texts(line: dict[str, Any]) -> list[str]:
    return [each["content"][0]["text"]["value"] for each in line["messages"]]


def test_a_conversation_becomes_a_thread_that_is_imported(tmp_path: Path, flask: Commands) -> None:
    given = chain(
        None, message("user", "Which tram? é 😀", time=2.9), message("assistant", "28", time=3)
    )
    made, losses = turned(tmp_path, [given])
    assert losses == []
    imported = flask("import", tmp_path / "threads.jsonl")
    assert "imported 1," in imported.stderr
    exported = json.loads(flask("export").stdout)
    assert exported["thread"] == made[0]["thread"]
    assert exported["thread"] == {
        "id": THREAD_ID,
        "object": "thread",
        "created_at": 1,
        "metadata": {"title": "Trams"},
        "tool_resources": {},
    }
    assert texts(exported) == ["Which tram? é 😀", "28"]
    stored = exported["messages"]
    assert [(each["role"], each["created_at"]) for each in stored] == [
        ("user", 2),
        ("assistant", 3),
    ]
    assert [each["id"] for each in stored] == [each["id"] for each in made[0]["messages"]]


def test_importing_twice_replaces(tmp_path: Path, flask: Commands) -> None:
    older = [chain(message("user", "a")), {"messages": [{"role": "user", "content": "line"}]}]
    newer = [chain(message("user", "a"), message("assistant", "b")), *older[1:]]
    threads = tmp_path / "threads.jsonl"
    for given, outcome in ((older, "imported 2, replaced 0"), (newer, "imported 0, replaced 2")):
        turned(tmp_path, given)
        done = flask("import", "--on-conflict", "replace", threads)
        assert outcome in done.stderr
    exported = [json.loads(line) for line in flask("export").stdout.splitlines()]
    assert sorted(map(texts, exported)) == [["a", "b"], ["line"]]


def test_ids_are_letters_and_digits_that_tell_sources_apart(tmp_path: Path) -> None:
    given = [chain(message("user", "a"), conversation_id=name) for name in ("a-b", "ab", "é/ü")]
    given += [chain(message("user", "a"), conversation_id=None, id="ab-old")]
    given += [chain(message("user", "no id"), conversation_id=None)]
    made, _ = turned(tmp_path, given)
    ids = [line["thread"]["id"] for line in made]
    ids += [line["messages"][0]["id"] for line in made[:1]]
    assert len(set(ids)) == 6
    assert all(each.partition("_")[2].isalnum() and each.isascii() for each in ids)
    assert [line["thread"]["id"] for line in turned(tmp_path, given)[0]] == ids[:5]


def branches(**fields: Any) -> dict[str, Any]:
    return conversation(
        ("root", None, message("system", "")),
        ("question", "root", message("user", "question", time=1)),
        ("answer", "question", message("assistant", "answer", time=2)),
        ("again", "question", message("assistant", "answered again", time=4)),
        ("thanks", "answer", message("user", "thanks", time=3)),
        **fields,
    )


@pytest.mark.parametrize(
    ("current", "taken"),
    [
        ("thanks", ["question", "answer", "thanks"]),
        ("again", ["question", "answered again"]),
        (None, ["question", "answered again"]),
        ("gone", ["question", "answered again"]),
    ],
)
def test_the_current_branch_is_taken_and_the_others_are_counted(
    tmp_path: Path, current: str | None, taken: list[str]
) -> None:
    [line], losses = turned(tmp_path, [branches(current_node=current)], status=3)
    assert texts(line) == taken
    lost = 4 - len(taken)
    assert losses == ["1 messages had no content", f"{lost} messages of other branches"]


def test_a_loop_of_parents_ends(tmp_path: Path) -> None:
    given = conversation(("a", "b", message("user", "a")), ("b", "a", message("assistant", "b")))
    [line], _ = turned(tmp_path, [given])
    assert texts(line) == ["a", "b"]


@pytest.mark.parametrize(
    ("began", "times", "expected"),
    [
        (5.2, [None, 7.9, None], [5, 5, 7, 7]),
        (None, [None, 7.9, 8], [7, 7, 7, 8]),
        (9, [7, 8, 8], [9, 7, 8, 8]),
        (1, [9, 8, 10], [1, 9, 8, 10]),
    ],
)
def test_times_are_kept_and_a_missing_one_is_that_before(
    tmp_path: Path, began: float | None, times: list[float | None], expected: list[int]
) -> None:
    given = chain(*(message("user", "a", time=time) for time in times), create_time=began)
    [line], _ = turned(tmp_path, [given])
    found = [line["thread"]["created_at"], *(each["created_at"] for each in line["messages"])]
    assert found == expected


def test_a_conversation_without_any_time_has_that_of_its_file(tmp_path: Path) -> None:
    [line], _ = turned(tmp_path, [chain(message("user", "a"), create_time=None)])
    second = int((tmp_path / "conversations.json").stat().st_mtime)
    assert line["thread"]["created_at"] == line["messages"][0]["created_at"] == second


@pytest.mark.parametrize("time", [-1, 1e30, "yesterday", True, [1]])
def test_a_time_that_is_none_is_counted(tmp_path: Path, time: Any) -> None:
    [line], losses = turned(tmp_path, [chain(message("user", "a", time=time))], status=3)
    assert line["messages"][0]["created_at"] == 1
    assert losses == ["1 times that are no seconds"]


def test_messages_whose_times_fall_keep_their_order_when_imported(
    tmp_path: Path, flask: Commands
) -> None:
    given = [chain(message("user", "first", time=9), message("assistant", "second", time=8))]
    _, losses = turned(tmp_path, given, status=3)
    assert losses == ["1 times of messages that stand in falling order"]
    flask("import", tmp_path / "threads.jsonl")
    assert texts(json.loads(flask("export").stdout)) == ["first", "second"]


@pytest.mark.parametrize("title", [None, ""])
def test_a_missing_title_makes_no_metadata(tmp_path: Path, title: str | None) -> None:
    [line], losses = turned(tmp_path, [chain(message("user", "a"), title=title)])
    assert (line["thread"]["metadata"], losses) == ({}, [])


def test_a_long_title_is_cut_and_counted(tmp_path: Path) -> None:
    [line], losses = turned(tmp_path, [chain(title="é" * 513)], status=3)
    assert line["thread"]["metadata"] == {"title": "é" * 512}
    assert losses == ["1 ends of titles above 512 characters"]


IMAGE = {"content_type": "image_asset_pointer", "width": 1}


def test_text_images_code_and_transcriptions_are_content(tmp_path: Path, flask: Commands) -> None:
    parts = [
        IMAGE | {"asset_pointer": "file-service://file-Ab12"},
        IMAGE | {"asset_pointer": "sediment://file_00ab"},
        IMAGE | {"asset_pointer": "sediment://hash#file_00cd#p_0.jpg"},
        {"content_type": "audio_transcription", "text": "said", "direction": "in"},
        "",
        "typed",
    ]
    code = {"content_type": "code", "language": "python", "text": "print('```')", "parts": None}
    given = chain(
        message("user", *parts, content_type="multimodal_text"),
        message("assistant", **code),
        message("assistant", **code | {"language": "unknown", "text": "search()"}),
    )
    [line], losses = turned(tmp_path, [given])
    assert losses == []
    first, *codes = line["messages"]
    files = [each["image_file"]["file_id"] for each in first["content"][:3]]
    assert files == ["file-Ab12", "file_00ab", "file_00cd"]
    assert [each["text"]["value"] for each in first["content"][3:]] == ["said", "typed"]
    blocks = ["````python\nprint('```')\n````", "```\nsearch()\n```"]
    assert texts({"messages": codes}) == blocks
    assert "imported 1," in flask("import", tmp_path / "threads.jsonl").stderr


def test_attached_files_are_attachments_and_their_names_metadata(tmp_path: Path) -> None:
    files = [{"id": "file-1", "name": "a.pdf"}, {"id": "file-2"}, {"id": "file-3", "name": "i.png"}]
    image = IMAGE | {"asset_pointer": "file-service://file-3"}
    about = {"attachments": files}
    given = chain(message("user", image, metadata=about, content_type="multimodal_text"))
    [line], losses = turned(tmp_path, [given])
    [made] = line["messages"]
    assert made["attachments"] == [{"file_id": f"file-{n}", "tools": []} for n in (1, 2)]
    assert (made["metadata"], losses) == ({"file-1": "a.pdf"}, [])


def test_more_files_and_names_than_a_message_takes_are_counted(
    tmp_path: Path, flask: Commands
) -> None:
    files = [{"id": f"file-{number}", "name": "a"} for number in range(22)] + [{"name": "no id"}]
    given = chain(message("user", "a", metadata={"attachments": files}))
    [line], losses = turned(tmp_path, [given], status=3)
    assert len(line["messages"][0]["attachments"]) == 20
    assert losses == ["3 attachments", "4 names of attachments"]
    assert "imported 1," in flask("import", tmp_path / "threads.jsonl").stderr


HIDDEN = {"is_visually_hidden_from_conversation": True}


@pytest.mark.parametrize(
    ("given", "loss"),
    [
        (message("system", "Be brief."), "1 system messages"),
        (message("system", "", metadata={"user_context_message_data": {}}), ""),
        (
            message("system", "", metadata={"user_context_message_data": {"about": "me"}}),
            "1 system messages",
        ),
        (message("tool", content_type="execution_output", text="4"), "1 tool messages"),
        (message("user", "me", metadata=HIDDEN), "1 hidden messages"),
        (
            message("user", content_type="user_editable_context", user_profile="me"),
            "1 user_editable_context messages",
        ),
        (message("assistant", content_type="thoughts", thoughts=[{"content": "hm"}]), "1 thoughts"),
        (message("assistant", content_type="thoughts", thoughts=[]), ""),
        (message("assistant", content_type="reasoning_recap", content="4s"), "1 reasoning_recap"),
        (message("user", IMAGE | {"asset_pointer": None}), "1 image_asset_pointer parts"),
        (message("user", IMAGE | {"asset_pointer": "file-service://x"}), "1 image_asset_pointer"),
        (message("user", {"content_type": "audio_asset_pointer"}), "1 audio_asset_pointer parts"),
        (message("user", 5), "1 int parts"),
        (message("assistant", ""), ""),
        ({"author": None, "content": {"content_type": "text", "parts": ["a"]}}, "1 None messages"),
        ({"id": "a"}, ""),
    ],
)
def test_what_has_no_place_in_a_thread_is_counted(
    tmp_path: Path, given: dict[str, Any], loss: str
) -> None:
    [line], told = turned(tmp_path, [chain(given)], status=3 if loss else 0)
    assert line["messages"] == []
    assert len(told) == 1
    assert told[0].startswith(loss or "1 messages had no content")


def test_citations_are_counted(tmp_path: Path) -> None:
    about = {"citations": [{}, {}], "content_references": [{}], "model_slug": "gpt-4o"}
    given = message("assistant", "a", metadata=about)
    [line], losses = turned(tmp_path, [chain(given)], status=3)
    assert texts(line) == ["a"]
    assert losses == ["2 citations of messages", "1 content_references of messages"]


def test_characters_that_no_import_takes_are_replaced_and_counted(
    tmp_path: Path, flask: Commands
) -> None:
    given = chain(message("user", "a\x00b\ud83dc"), title="\ud83d")
    [line], losses = turned(tmp_path, [given], status=3)
    assert texts(line) == ["a\ufffdb\ufffdc"]
    assert losses == ["3 characters that cannot be stored"]
    assert "imported 1," in flask("import", tmp_path / "threads.jsonl").stderr


ODD_ENTRIES = [None, 5, "a", [], {}, {"mapping": []}, {"mapping": {"a": 1}}, {"messages": "a"}]


def test_entries_that_are_no_conversation_are_named_and_lose_nothing_else(tmp_path: Path) -> None:
    given = [*ODD_ENTRIES, chain(message("user", "a"))]
    [line], told = turned(tmp_path, given, status=3)
    assert texts(line) == ["a"]
    path = tmp_path / "conversations.json"
    result = run_example("from_chatgpt.py", path)
    named = [text for text in result.stderr.splitlines() if "is no conversation" in text]
    assert named == [f"{path}: entry {n + 1} is no conversation" for n in range(8)]
    assert told[-1] == "8 entries that are no conversation"


def test_openai_lines_become_threads(tmp_path: Path, flask: Commands) -> None:
    parts = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://e.x/i.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "input_audio", "input_audio": {}},
    ]
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]},
        {"role": "tool", "content": "4", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "four", "weight": 0, "refusal": None},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
    line = {"messages": chat, "tools": [{"type": "function"}], "parallel_tool_calls": False}
    path = tmp_path / "tuning.jsonl"
    path.write_text(f"\ufeff{json.dumps(line)}\n\n{json.dumps(line)}\nnot json\n", "utf-8")
    output = tmp_path / "threads.jsonl"
    result = run_example("from_chatgpt.py", path, "--output", output)
    assert result.returncode == 3
    assert result.stderr.splitlines() == [
        f"{path}: entry 3 is no conversation",
        "2 threads, 6 messages",
        "2 messages had no content",
        "Left out:",
        "  1 entries that are no conversation",
        "  2 image_url parts",
        "  2 input_audio parts",
        "  2 system messages",
        "  2 tool messages",
        "  2 tool_calls of messages",
        "  2 tools of lines",
        "  2 weight of messages",
    ]
    assert "imported 2," in flask("import", output).stderr
    exported = json.loads(flask("export").stdout.splitlines()[0])
    question, answer, refusal = exported["messages"]
    assert question["content"] == [
        {"type": "text", "text": {"value": "Look:", "annotations": []}},
        {"type": "image_url", "image_url": {"url": "https://e.x/i.png", "detail": "low"}},
    ]
    assert texts({"messages": [answer]}) == ["four"]
    assert refusal["content"] == [{"type": "refusal", "refusal": "No."}]


def test_one_document_on_many_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(chain(message("user", "a")), indent=2))
    result = run_example("from_chatgpt.py", path)
    assert result.returncode == 0
    assert texts(json.loads(result.stdout)) == ["a"]


@pytest.mark.parametrize("is_zip", [False, True])
def test_the_files_of_a_folder_or_zip_are_read_in_order(tmp_path: Path, is_zip: bool) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write(folder / "conversations-001.json", [chain(message("user", "b"), conversation_id="2")])
    write(folder / "conversations-000.json", [chain(message("user", "a"), conversation_id="1")])
    write(folder / "shared_conversations.json", [{"id": "not read"}])
    source = folder
    if is_zip:
        source = tmp_path / "export.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"inside/{path.name}")
    result = run_example("from_chatgpt.py", source)
    assert result.returncode == 0, result.stderr
    assert [texts(json.loads(line)) for line in result.stdout.splitlines()] == [["a"], ["b"]]


@pytest.mark.parametrize("between", ["", "\n\n", " " * 600_000])
def test_arrays_in_a_row_are_read(tmp_path: Path, between: str) -> None:
    path, given = tmp_path / "all.json", [[chain(message("user", text))] for text in "abc"]
    path.write_text(between.join(map(json.dumps, [*given[:2], [], given[2]])) + between)
    result = run_example("from_chatgpt.py", path)
    assert result.returncode == 0, result.stderr
    assert [texts(json.loads(line)) for line in result.stdout.splitlines()] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("rest", ["{}", "]", "\n, [", "x"])
def test_anything_else_after_an_array_is_named(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps([chain(message("user", "a"))]) + rest)
    result = run_example("from_chatgpt.py", path)
    assert result.returncode == 1
    assert f"{path}: cannot be read to its end: an array is followed by" in result.stderr
    assert texts(json.loads(result.stdout)) == ["a"]


def test_several_files_are_read_and_one_that_breaks_off_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.json", [chain(message("user", "b"))])
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps([chain(message("user", "a"))])[:-1] + ', {"title"')
    (tmp_path / "empty").mkdir()
    result = run_example("from_chatgpt.py", broken, tmp_path / "empty", whole)
    assert result.returncode == 1
    assert [texts(json.loads(line)) for line in result.stdout.splitlines()] == [["a"], ["b"]]
    first, second, last = result.stderr.splitlines()
    assert first.startswith(f"{broken}: cannot be read to its end: ")
    assert second.startswith(f"{tmp_path / 'empty'}: cannot be read to its end: there is no ")
    assert last == "2 threads, 2 messages"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip_file_is_named(tmp_path: Path, compression: int) -> None:
    source = tmp_path / "export.zip"
    with zipfile.ZipFile(source, "w", compression) as archive:
        archive.writestr("conversations.json", json.dumps([chain(message("user", "a" * 999))]))
    whole = source.read_bytes()
    source.write_bytes(whole[:60] + b"\0" * 20 + whole[80:])
    result = run_example("from_chatgpt.py", source)
    assert result.returncode == 1
    assert result.stderr.startswith(f"{source}: cannot be read to its end: ")
    assert "Traceback" not in result.stderr


def test_a_wrong_command_line_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [])
    for words in ([], [tmp_path / "gone"], [path, "--output", path]):
        assert run_example("from_chatgpt.py", *words).returncode == 2
    assert path.read_text() == "[]"


MEASURED = """
import runpy, sys, tracemalloc
sys.argv = sys.argv[1:]
tracemalloc.start()
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    one = json.dumps(chain(*[message("user", "word " * 200)] * 100))
    peaks = []
    for count in (10, 100):
        path = tmp_path / f"{count}.json"
        path.write_text(f"[{','.join([one] * count)}]")
        example, output = ROOT / "examples" / "from_chatgpt.py", tmp_path / "out"
        command = [sys.executable, "-c", MEASURED, example, path, "--output", output]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True).stdout))
    assert path.stat().st_size > 10_000_000
    assert peaks[1] < 1.1 * peaks[0]
