"""`flask export`, `import` and `prune`, and the exchange format."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import Commands
from flask import Flask
from flask.testing import FlaskClient

from cli import data
from config import ROOT
from exchange import exports
from rules import strict_json
from rules.ids_and_clock import unix_now

FIXTURE = ROOT / "examples" / "thread_abc123.jsonl"
JANUARY_2024 = 1_704_067_200
DAY = 86_400
Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run a command in this process: run("export", "--as", "markdown")."""
    commands = (data.export, data.import_, data.prune)
    by_name = {command.name: command for command in commands}

    def invoke(name: str, *arguments: str | Path, **options: Any) -> Result:
        with app.app_context():
            command = by_name[name]
            arguments_ = [str(argument) for argument in arguments]
            result = app.test_cli_runner().invoke(command, arguments_, **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return invoke


def test_a_thread_of_any_number_of_messages_moves(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(strict_json, "MAX_VALUES", 100)
    path = tmp_path / "all.jsonl"
    path.write_text(json.dumps(line(1, messages=50)))
    assert run("import", path).exit_code == 0
    run("export", "--output", path)
    assert run("import", "--on-conflict", "replace", path).exit_code == 0


def command_line(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "flask", *map(str, arguments)]


def environment(database_url: str) -> dict[str, str]:
    return os.environ | {"THREADS_DATABASE_URL": database_url, "THREADS_DURABILITY": "normal"}


def line(number: int, messages: int = 1, **changed: Any) -> dict[str, Any]:
    """Return one line of the exchange format, as its value."""
    thread_id = f"thread_{number}"
    thread = {
        "id": thread_id,
        "object": "thread",
        "created_at": JANUARY_2024 + number,
        "metadata": {"number": str(number)},
        "tool_resources": {},
    }
    return {
        "thread": thread | changed,
        "messages": [message(f"msg_{turn}", thread_id) for turn in range(messages)],
    }


def message(id_: str, thread_id: str, **changed: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "object": "thread.message",
        "created_at": JANUARY_2024,
        "assistant_id": None,
        "thread_id": thread_id,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": JANUARY_2024,
        "incomplete_at": None,
        "role": "user",
        "content": [{"type": "text", "text": {"value": f"Hello {id_}", "annotations": []}}],
        "attachments": [],
        "metadata": {},
    } | changed


def write(path: Path, *lines: Any) -> Path:
    texts = [text if isinstance(text, str) else json.dumps(text) for text in lines]
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8", newline="")
    return path


def listed(client: FlaskClient, **query: Any) -> list[str]:
    return [thread["id"] for thread in client.get("/v1/threads", query_string=query).json["data"]]


RICH = line(1, 0, metadata={"größe": "😀 \"'\u2028"}, tool_resources={"file_search": {}})
RICH["messages"] = [
    message(
        "msg_b",
        "thread_1",
        role="assistant",
        assistant_id="asst_1",
        run_id="run_1",
        status="incomplete",
        incomplete_details={"reason": "max_tokens"},
        completed_at=None,
        incomplete_at=JANUARY_2024 + 5,
        metadata={"k": "v"},
        content=[
            {
                "type": "text",
                "text": {
                    "value": "See 【4:0†a.txt】 and sandbox:/b.csv",
                    "annotations": [
                        {
                            "type": "file_citation",
                            "text": "【4:0†a.txt】",
                            "start_index": 4,
                            "end_index": 15,
                            "file_citation": {"file_id": "file-1"},
                        },
                        {
                            "type": "file_path",
                            "text": "sandbox:/b.csv",
                            "start_index": 20,
                            "end_index": 34,
                            "file_path": {"file_id": "file-2"},
                        },
                    ],
                },
            },
            {"type": "refusal", "refusal": "No."},
            {"type": "image_url", "image_url": {"url": "https://e.x/i.png", "detail": "low"}},
            {"type": "image_file", "image_file": {"file_id": "file-3", "detail": "auto"}},
        ],
        attachments=[{"file_id": "file-4", "tools": [{"type": "file_search"}]}],
    ),
    message("msg_a", "thread_1", content=[]),
]


def test_export_import_export_gives_the_same_bytes(
    run: Run, client: FlaskClient, tmp_path: Path
) -> None:
    """Also with more threads than a page, and more messages than are read at once."""
    path = write(tmp_path / "given", RICH, *(line(n) for n in range(2, 120)), line(200, 600))
    assert run("import", path).exit_code == 0
    thread = client.post("/v1/threads", json={"messages": [{"role": "user", "content": "é"}]}).json
    first = run("export").stdout_bytes
    assert first.count(b"\n") == 121
    for id_ in [f"thread_{number}" for number in (*range(1, 120), 200)] + [thread["id"]]:
        assert client.delete(f"/v1/threads/{id_}").status_code == 200
    assert run("export").stdout_bytes == b""
    (tmp_path / "first").write_bytes(first)
    assert run("import", tmp_path / "first").exit_code == 0
    assert run("export").stdout_bytes == first


def test_line_is_the_thread_and_its_messages_as_the_api_has_them(
    run: Run, client: FlaskClient
) -> None:
    bodies = [{"role": "user", "content": text} for text in ("first", "second")]
    thread = client.post("/v1/threads", json={"messages": bodies, "metadata": {"a": "1"}}).json
    messages = client.get(f"/v1/threads/{thread['id']}/messages?order=asc").json["data"]
    exported = json.loads(run("export").stdout)
    assert list(exported) == ["thread", "messages"]
    assert exported == {"thread": thread, "messages": messages}


def test_every_kind_of_content_survives(run: Run, client: FlaskClient, tmp_path: Path) -> None:
    run("import", write(tmp_path / "rich", RICH))
    exported = json.loads(run("export").stdout)
    data = client.get("/v1/threads/thread_1/messages?order=asc").json["data"]
    assert exported == {"thread": client.get("/v1/threads/thread_1").json, "messages": data}
    assert exported["thread"].items() >= RICH["thread"].items()
    pairs = zip(data, RICH["messages"], strict=True)
    assert all(stored.items() >= message.items() for stored, message in pairs)


def test_imported_threads_list_at_their_place_in_time(
    run: Run, client: FlaskClient, tmp_path: Path
) -> None:
    new = client.post("/v1/threads").json["id"]
    run("import", write(tmp_path / "old", line(5), line(3), line(4)))
    assert listed(client) == [new, "thread_5", "thread_4", "thread_3"]
    assert listed(client, created_before=JANUARY_2024 + 5) == ["thread_4", "thread_3"]
    assert listed(client, q="hello", **{"metadata[number]": "4"}) == ["thread_4"]


def test_fixture_file_makes_the_documented_thread(run: Run, client: FlaskClient) -> None:
    """Its messages have the hosted API's shape, without `status` and its like."""
    fixture = json.loads(FIXTURE.read_text("utf-8"))
    assert "status" not in fixture["messages"][0]
    assert run("import", FIXTURE).exit_code == 0
    assert client.get("/v1/threads/thread_abc123").json == fixture["thread"]
    data = client.get("/v1/threads/thread_abc123/messages?order=asc").json["data"]
    assert all(a.items() >= b.items() for a, b in zip(data, fixture["messages"], strict=True))
    assert [(m["status"], m["completed_at"] - m["created_at"]) for m in data] == [
        ("completed", 0),
        ("completed", 0),
    ]


def test_only_a_complete_message_is_given_a_time_of_completion(
    run: Run, client: FlaskClient, tmp_path: Path
) -> None:
    thread = line(1, 0)
    for status in ("completed", "incomplete", "in_progress"):
        thread["messages"].append(message(f"msg_{status}", "thread_1", status=status))
        del thread["messages"][-1]["completed_at"]
    assert run("import", write(tmp_path / "given", thread)).exit_code == 0
    data = client.get("/v1/threads/thread_1/messages?order=asc").json["data"]
    assert [item["completed_at"] for item in data] == [JANUARY_2024, None, None]


def _without(key: str) -> dict[str, Any]:
    value = line(2)
    del value["messages"][0][key]
    return value


def _with(**changed: Any) -> dict[str, Any]:
    value = line(2)
    value["messages"][0] |= changed
    return value


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "Invalid body: failed to parse JSON value."),
        ("[]", "Invalid type: expected an object, but got an array instead."),
        ('"thread"', "Invalid type: expected an object, but got a string instead."),
        ("\ud800", None),
        ('{"thread": {}, "thread": {}}', "Invalid body: duplicate JSON key 'thread'."),
        (r'{"thread": "\u0000"}', "Invalid body: strings cannot hold the NUL character (U+0000)."),
        ({}, "Missing required parameter: 'thread'."),
        ({"thread": line(2)["thread"]}, "Missing required parameter: 'messages'."),
        (line(2, object="conversation"), "Invalid value: 'conversation'."),
        (_with(run_id="r" * 65), "Invalid 'messages[0].run_id': string too long."),
        (line(2, id="conv_2"), "Invalid 'thread.id': 'conv_2'. Expected an ID that begins with"),
        (line(2, id="thread_/"), "Invalid 'thread.id': ids hold letters, digits, '_' and '-'"),
        (line(2, id="thread_" + "x" * 64), "Invalid 'thread.id': string too long."),
        (line(2, created_at="now"), "Invalid type for 'thread.created_at': expected an integer"),
        (line(2, created_at=-1), "Invalid 'thread.created_at': integer below minimum value."),
        (line(2, created_at=10**30), "Invalid body: failed to parse JSON value."),
        (line(2, title="x"), "Unknown parameter: 'thread.title'."),
        (line(2, metadata={"a": 1}), "Invalid type for 'thread.metadata.a': expected a string"),
        (_without("role"), "Missing required parameter: 'messages[0].role'."),
        (_with(role="tool"), "Invalid value: 'tool'."),
        (_with(id="msg_1", thread_id="thread_3"), "Invalid 'messages[0].thread_id': the message"),
        (_with(content="Hello"), "Invalid type for 'messages[0].content': expected an array"),
        (
            {"thread": line(2)["thread"], "messages": line(2)["messages"] * 2},
            "Two messages of this thread have the same id.",
        ),
    ],
)
def test_bad_line_is_named_and_loses_nothing_else(
    run: Run, client: FlaskClient, tmp_path: Path, bad: Any, reason: str | None
) -> None:
    path = tmp_path / "lines"
    texts = [json.dumps(line(1)), bad if isinstance(bad, str) else json.dumps(bad)]
    texts += ["", json.dumps(line(3))]
    path.write_bytes("\n".join(texts).encode("utf-8", "surrogatepass"))
    result = run("import", path)
    assert result.exit_code == 1
    sentences = result.stderr.splitlines()
    expected = f"{path}:2: {reason or 'Invalid body: encountered a unicode decode error'}"
    assert sentences[0].startswith(expected)
    assert sentences[-1] == "imported 2, replaced 0, skipped 0, refused 1"
    assert listed(client) == ["thread_3", "thread_1"]


@pytest.mark.parametrize(
    ("on_conflict", "status", "summary", "number"),
    [
        ([], 1, "imported 1, replaced 0, skipped 0, refused 1", "1"),
        (["--on-conflict", "fail"], 1, "imported 1, replaced 0, skipped 0, refused 1", "1"),
        (["--on-conflict", "skip"], 0, "imported 1, replaced 0, skipped 1, refused 0", "1"),
        (["--on-conflict", "replace"], 0, "imported 1, replaced 1, skipped 0, refused 0", "new"),
    ],
)
def test_on_conflict_says_what_becomes_of_a_thread_that_exists(
    run: Run,
    client: FlaskClient,
    tmp_path: Path,
    on_conflict: list[str],
    status: int,
    summary: str,
    number: str,
) -> None:
    run("import", write(tmp_path / "first", line(1, 3)))
    second = write(tmp_path / "second", line(1, 1, metadata={"number": "new"}), line(2))
    result = run("import", *on_conflict, second)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (status, summary)
    assert (f"{second}:1: Thread thread_1 exists already." in result.stderr) == (status == 1)
    assert client.get("/v1/threads/thread_1").json["metadata"] == {"number": number}
    messages = client.get("/v1/threads/thread_1/messages").json["data"]
    assert len(messages) == (1 if number == "new" else 3)
    assert listed(client) == ["thread_2", "thread_1"]


def test_replaced_thread_is_found_by_its_new_text_and_metadata_only(
    run: Run, client: FlaskClient, tmp_path: Path
) -> None:
    run("import", write(tmp_path / "first", line(1, 3)))
    new = line(1, 1, metadata={"number": "new"})
    run("import", "--on-conflict", "replace", write(tmp_path / "second", new))
    assert listed(client, q="msg_2") == []
    assert listed(client, **{"metadata[number]": "1"}) == []
    assert listed(client, q="msg_0", **{"metadata[number]": "new"}) == ["thread_1"]


DOCUMENT = "1: This is one JSON document, not JSON Lines: nothing of it was read."


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([line(1), line(2)]),
        json.dumps([line(1), line(2)], indent=2),
        json.dumps(line(1), indent=2),
        json.dumps({"object": "list", "data": [line(1)]}, indent="\t").replace("\n", "\r\n"),
        "[\n" + ",\n".join(json.dumps(line(number)) for number in (1, 2)) + "\n]",
    ],
)
def test_one_json_document_is_said_once(
    run: Run, client: FlaskClient, tmp_path: Path, text: str
) -> None:
    result = run("import", write(tmp_path / "given", text))
    told = [sentence for sentence in result.stderr.splitlines() if "bytes" not in sentence]
    assert (result.exit_code, len(told)) == (1, 2)
    assert told[0].startswith(f"{tmp_path / 'given'}:{DOCUMENT}")
    assert told[1] == "imported 0, replaced 0, skipped 0, refused 1"
    assert listed(client) == []


@pytest.mark.parametrize("bad", ["{", "[", "[]", '{"thread": {"id": "thread_9",'])
def test_a_bad_first_line_is_no_document(
    run: Run, client: FlaskClient, tmp_path: Path, bad: str
) -> None:
    run("import", write(tmp_path / "given", bad, line(1), line(2)))
    assert listed(client) == ["thread_2", "thread_1"]


def test_equal_errors_are_counted_after_the_fifth(run: Run, tmp_path: Path) -> None:
    given = write(tmp_path / "given", *map(line, range(1_500)))
    run("import", given)
    given.write_text(given.read_text() + json.dumps(line(1_500, title="x")))
    result = run("import", given)
    *told, more, last = [each for each in result.stderr.splitlines() if "bytes" not in each]
    *alike, other = told
    assert alike == [
        f"{given}:{number + 1}: Thread thread_{number} exists already." for number in range(5)
    ]
    assert other.endswith(":1501: Unknown parameter: 'thread.title'.")
    assert more == f"{given}: … and 1,495 more like it: Thread thread_0 exists already."
    assert last == "imported 0, replaced 0, skipped 0, refused 1,501"


def test_equal_errors_are_counted_in_each_file(run: Run, tmp_path: Path) -> None:
    paths = [write(tmp_path / name, *["{}"] * 4) for name in "ab"]
    assert run("import", *paths).stderr.count("Missing required parameter: 'thread'.") == 8


def test_several_files_are_read_in_turn(run: Run, client: FlaskClient, tmp_path: Path) -> None:
    paths = [write(tmp_path / str(number), line(number)) for number in (1, 2)]
    assert run("import", *paths).exit_code == 0
    assert listed(client) == ["thread_2", "thread_1"]


@pytest.mark.parametrize("on_conflict", ["skip", "replace"])
def test_killed_import_can_be_run_again(
    run: Run, client: FlaskClient, tmp_path: Path, database_url: str, on_conflict: str
) -> None:
    path = write(tmp_path / "lines", *(line(number, 50) for number in range(60)))
    half = path.read_bytes()[: path.stat().st_size // 2]
    process = subprocess.Popen(
        command_line("import", "-"),
        cwd=ROOT,
        env=environment(database_url),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(half)
    process.stdin.flush()
    while not listed(client):
        assert process.poll() is None
    process.kill()
    process.wait()
    process.stdin.close()
    stored = [json.loads(text) for text in run("export").stdout.splitlines()]
    assert 0 < len(stored) < 60
    assert {len(thread["messages"]) for thread in stored} == {50}
    assert run("import", "--on-conflict", on_conflict, path).exit_code == 0
    stored = [json.loads(text) for text in run("export").stdout.splitlines()]
    assert [thread["thread"]["id"] for thread in stored] == [f"thread_{n}" for n in range(60)]
    assert {len(thread["messages"]) for thread in stored} == {50}


def test_projects_are_apart(run: Run, client: FlaskClient, tmp_path: Path) -> None:
    path = write(tmp_path / "lines", line(1))
    for project in ([], ["--project", "other"]):
        assert run("import", *project, path).exit_code == 0
    client.delete("/v1/threads/thread_1")
    assert run("export").stdout == ""
    assert json.loads(run("export", "--project", "other").stdout)["thread"]["id"] == "thread_1"
    assert run("prune", "--older-than", "1d", "--dry-run").stdout.startswith("0 threads")
    run("prune", "--older-than", "1d")
    assert run("export", "--project", "other").stdout != ""
    run("prune", "--older-than", "1d", "--project", "other")
    assert run("export", "--project", "other").stdout == ""


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        (["--metadata", "number=2"], [2]),
        (["--metadata", "number=2", "--metadata", "other=x"], []),
        (["--metadata", "="], []),
        (["--created-after", str(JANUARY_2024 + 1)], [2, DAY]),
        (["--created-before", "2024-01-02"], [1, 2]),
        (["--created-after", "2024-01-01", "--created-before", "2024-01-02"], [1, 2]),
        (["--q", "HELLO"], [1, 2, DAY]),
        (["--q", "hello nobody"], []),
        (["--q", "hello", "--metadata", "number=1"], [1]),
    ],
)
def test_export_takes_the_filters_of_a_list(
    run: Run, tmp_path: Path, filters: list[str], numbers: list[int]
) -> None:
    run("import", write(tmp_path / "lines", line(DAY), line(2), line(1)))
    exported = [json.loads(text) for text in run("export", *filters).stdout.splitlines()]
    assert [e["thread"]["id"] for e in exported] == [f"thread_{number}" for number in numbers]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--metadata", "user"], "Write it as key=value."),
        (["export", "--created-after", "soon"], "Write it as seconds since 1970 or as YYYY-MM-DD."),
        (["export", "--created-after", "²"], "Write it as seconds since 1970 or as YYYY-MM-DD."),
        (["export", "--created-before", "9" * 30], "Write it as seconds since 1970"),
        (["export", "--q", " "], "Invalid 'q': expected at least one word."),
        (["export", "--as", "xml"], "'xml' is not one of 'jsonl', 'markdown'."),
        (["export", "--output", "/nowhere/x"], "No such file or directory"),
        (["import", "/nowhere/x"], "No such file or directory"),
        (["import"], "Missing argument"),
        (["prune"], "Missing option '--older-than'"),
        *(
            (["prune", "--older-than", age], "Write it as a number and s, m, h, d or w")
            for age in ("30", "d", "", "-1d", "1y", "²d", "9" * 30 + "d")
        ),
    ],
)
def test_wrong_argument_is_refused_in_one_line(
    run: Run, arguments: list[str], message: str
) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_markdown_is_one_document_with_a_heading_a_message(run: Run, tmp_path: Path) -> None:
    run("import", write(tmp_path / "rich", RICH))
    assert run("export", "--as", "markdown").stdout == (
        "# thread_1\n"
        "\n"
        "- created: 2024-01-01 00:00:01 UTC\n"
        "- größe: 😀 \"'\u2028\n"
        "\n"
        "## assistant, 2024-01-01 00:00:00 UTC\n"
        "\n"
        "See 【4:0†a.txt】 and sandbox:/b.csv\n"
        "\n"
        "*Refused: No.*\n"
        "\n"
        "*Image: https://e.x/i.png*\n"
        "\n"
        "*Image: file-3*\n"
        "\n"
        "*Attached: file-4*\n"
        "\n"
        "## user, 2024-01-01 00:00:00 UTC\n"
        "\n"
    )


def test_export_writes_a_file(run: Run, tmp_path: Path) -> None:
    run("import", write(tmp_path / "lines", line(1)))
    (tmp_path / "out").write_text("old")
    result = run("export", "--output", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((tmp_path / "out").read_text())["thread"] == line(1)["thread"]


def test_export_of_nothing_is_an_empty_file(run: Run, tmp_path: Path) -> None:
    assert run("export", "--output", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_export_into_a_device_leaves_the_device(run: Run) -> None:
    assert run("export", "--output", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_failed_export_leaves_the_old_file_and_no_other(
    client: FlaskClient, tmp_path: Path, database_url: str
) -> None:
    """The file may not grow as large as the export: as on a full disk, a write fails midway."""
    message = {"role": "user", "content": "x" * 200_000}
    for _ in range(3):
        client.post("/v1/threads", json={"messages": [message]})
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "threads.jsonl").write_text("old")
    export = command_line("export", "--output", folder / "threads.jsonl")
    process = subprocess.run(
        ["bash", "-c", 'ulimit -f 300; exec "$@"', "bash", *export],
        cwd=ROOT,
        env=environment(database_url),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].endswith("File too large")
    assert "Traceback" not in process.stderr
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [
        ("threads.jsonl", "old")
    ]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("export > /dev/full", "No space left on device"),
        ("export --q $'\\xff'", "Arguments must be UTF-8."),
        ("keys create default > /dev/full", "No space left on device"),
    ],
)
def test_a_command_that_fails_says_why_in_one_line(
    client: FlaskClient, database_url: str, command: str, reason: str
) -> None:
    client.post("/v1/threads")
    process = in_a_shell(command, database_url)
    assert process.returncode == 1
    assert reason in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("/dev/full", "No space left on device"),
        ("", "No such file or directory"),
        ("1" * 300, "File name too long"),
    ],
)
def test_an_export_into_no_file_says_why_in_one_line(
    client: FlaskClient, flask: Commands, output: str, reason: str
) -> None:
    client.post("/v1/threads")
    assert reason in flask("export", "--output", output, status=1).stderr.splitlines()[-1]


def test_a_key_that_nobody_saw_is_revoked(database_url: str, flask: Commands) -> None:
    assert in_a_shell("keys create default > /dev/full", database_url).returncode == 1
    assert "revoked 2" in flask("keys", "list").stdout


def test_an_export_goes_to_a_pipe_by_its_name(client: FlaskClient, database_url: str) -> None:
    thread = client.post("/v1/threads").json["id"]
    assert thread in in_a_shell("export --output /dev/stdout | cat", database_url).stdout


def in_a_shell(command: str, database_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", " ".join([*map(str, command_line()), command])],
        cwd=ROOT,
        env=environment(database_url),
        capture_output=True,
        text=True,
    )


def test_thread_deleted_during_an_export_is_left_out(app: Flask, client: FlaskClient) -> None:
    first, second = (client.post("/v1/threads").json["id"] for _ in range(2))
    with app.app_context():
        lines = exports.export("default", {}, exports.as_jsonl)
        assert first.encode() in b"".join(next(lines))
        client.delete(f"/v1/threads/{second}")
        assert list(lines) == []


def test_progress_in_a_pipe_is_lines_on_stderr(client: FlaskClient, database_url: str) -> None:
    thread = client.post("/v1/threads").json["id"]
    result = subprocess.run(
        command_line("export"),
        cwd=ROOT,
        env=environment(database_url),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["thread"]["id"] == thread
    assert result.stderr == "Exported 1 of 1 threads\n"


@pytest.mark.parametrize("name", ["export", "import"])
def test_progress_on_a_terminal_is_a_bar(client: FlaskClient, database_url: str, name: str) -> None:
    client.post("/v1/threads")
    arguments = [] if name == "export" else [FIXTURE]
    terminal, other_end = pty.openpty()
    with subprocess.Popen(
        command_line(name, *arguments),
        cwd=ROOT,
        env=environment(database_url) | {"TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=other_end,
    ) as process:
        os.close(other_end)
        output = b"".join(_read_terminal(terminal))
    os.close(terminal)
    assert process.returncode == 0
    assert b"[####################################]  100%" in output


def _read_terminal(terminal: int) -> Iterator[bytes]:
    try:
        while data := os.read(terminal, 4096):
            yield data
    except OSError:
        return


@pytest.fixture
def aged(run: Run, client: FlaskClient, tmp_path: Path) -> dict[str, str]:
    """Threads by age: old, old with a recent message, old with an old message, new."""
    now = unix_now()
    old, talked, silent = (line(number, number - 1) for number in (1, 2, 3))
    talked["messages"][0]["created_at"] = now - 10 * DAY
    run("import", write(tmp_path / "aged", old, talked, silent))
    new = client.post("/v1/threads").json["id"]
    return {"old": "thread_1", "talked": "thread_2", "silent": "thread_3", "new": new}


@pytest.mark.parametrize(
    ("arguments", "survivors"),
    [
        (["--older-than", "30d"], ["new", "talked"]),
        (["--older-than", "720h"], ["new", "talked"]),
        (["--older-than", "9d"], ["new"]),
        (["--older-than", "1w"], ["new"]),
        (["--older-than", "5000w"], ["new", "silent", "talked", "old"]),
        (["--older-than", "30d", "--metadata", "number=3"], ["new", "talked", "old"]),
        (
            ["--older-than", "30d", "--metadata", "number=3", "--metadata", "a=b"],
            ["new", "silent", "talked", "old"],
        ),
        (["--older-than", "30d", "--metadata", "number=2"], ["new", "silent", "talked", "old"]),
    ],
)
def test_prune_deletes_threads_without_activity(
    run: Run, client: FlaskClient, aged: dict[str, str], arguments: list[str], survivors: list[str]
) -> None:
    remaining = [aged[name] for name in survivors]
    dry = run("prune", "--dry-run", *arguments)
    count = 4 - len(survivors)
    assert dry.stdout == f"{count} thread{'' if count == 1 else 's'} would be deleted.\n"
    assert len(listed(client)) == 4
    result = run("prune", *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"Deleted {4 - len(survivors)}")
    assert listed(client) == remaining


@pytest.mark.usefixtures("aged")
def test_a_prune_that_is_refused_later_says_how_much_is_gone(
    run: Run, monkeypatch: pytest.MonkeyPatch, busy_after: Callable[[int], None]
) -> None:
    monkeypatch.setattr(data, "_PRUNED_AT_ONCE", 1)
    busy_after(3)  # two before the first thread
    result = run("prune", "--older-than", "30d")
    assert result.exit_code == 1
    assert "The database is busy; only 1 was deleted." in result.stderr


def test_prune_finishes_what_a_killed_process_left(
    run: Run, threads_left: Callable[[], int]
) -> None:
    run("prune", "--older-than", "30d")
    assert threads_left() == 0


def test_cursor_of_a_pruned_thread_keeps_its_place(
    run: Run, client: FlaskClient, aged: dict[str, str]
) -> None:
    run("prune", "--older-than", "30d")
    assert listed(client, after=aged["silent"]) == [aged["talked"]]
