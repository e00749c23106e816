"""The scripts in examples/, run as a person runs them, against live servers."""

import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from conftest import Commands, Server
from flask import Flask, request
from openai import OpenAI
from openai.pagination import SyncCursorPage
from openai.types.beta import Thread
from werkzeug.serving import make_server

from config import ROOT
from rules.errors import ApiError

pytestmark = pytest.mark.sqlite_only("the examples speak HTTP")

MESSAGES = [
    {"role": "user", "content": "Which tram? é 😀"},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "This one:"},
            {"type": "image_url", "image_url": {"url": "https://e.x/i.png", "detail": "low"}},
        ],
        "metadata": {"k": "v"},
    },
    {
        "role": "user",
        "content": [{"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}}],
        "attachments": [{"file_id": "file-2", "tools": [{"type": "file_search"}]}],
    },
]


def run_example(name: str, *arguments: Any, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script with streams of its own, in this process: importing openai takes a second."""
    command = [str(ROOT / "examples" / name), *map(str, arguments)]
    given, out, err = (TextIOWrapper(tempfile.TemporaryFile(), "utf-8") for _ in range(3))  # noqa: SIM115
    with given, out, err:
        given.write(stdin)
        given.seek(0)
        streams = {"argv": command, "stdin": given, "stdout": out, "stderr": err}
        with (
            patch.multiple(sys, **streams),
            warnings.catch_warnings(action="ignore"),
            pytest.raises(SystemExit) as end,
        ):
            runpy.run_path(command[0], run_name="__main__")
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(command, end.value.code, out.read(), err.read())


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def contents(sdk: OpenAI, thread: str) -> list[Any]:
    messages = sdk.beta.threads.messages.list(thread, order="asc", limit=100)
    keys = ("role", "content", "attachments", "metadata")
    return [{key: message.to_dict()[key] for key in keys} for message in messages]


@pytest.fixture
def filled(server: Server) -> Iterator[tuple[OpenAI, list[str]]]:
    """The shared live server with three threads, and their ids, oldest first."""
    ids: list[str] = []
    with server.sdk() as sdk:
        resources: Any = {"code_interpreter": {"file_ids": ["file-3"]}}
        ids.append(sdk.beta.threads.create(messages=MESSAGES, metadata={"user": "u1"}).id)
        many: Any = [{"role": "user", "content": str(number)} for number in range(250)]
        ids.append(sdk.beta.threads.create(messages=many, tool_resources=resources).id)
        ids.append(sdk.beta.threads.create().id)
        yield sdk, ids
        for thread in ids:
            sdk.beta.threads.delete(thread)


@contextmanager
def running(app: Flask) -> Iterator[str]:
    """Serve an app on a port; yield its base URL."""
    service = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{service.port}/v1"
    finally:
        service.shutdown()
        thread.join()
        service.server_close()


@pytest.fixture
def closing(app: Flask) -> Iterator[str]:
    """A service that is closing: it lists no threads, and one of them it cannot read."""
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.before_request
    def refuse() -> None:
        if request.method == "GET" and request.path == "/v1/threads":
            message = "Your request to GET /v1/threads must be made with a session key."
            raise ApiError(401, message, code="missing_scope")
        if request.path.startswith("/v1/threads/thread_broken"):
            raise ApiError(422, "This thread cannot be read.")

    with running(app) as url:
        yield url


def test_move_copies_what_the_server_lists_into_an_import_file(
    server: Server, filled: tuple[OpenAI, list[str]], tmp_path: Path, flask: Commands
) -> None:
    sdk, thread_ids = filled
    output = tmp_path / "threads.jsonl"
    moved = run_example("move_from_server.py", "--from", server.base_url, "--output", output)
    assert (moved.returncode, moved.stdout) == (0, "")
    assert moved.stderr.endswith("copied 3, copied before 0, failed 0\n")
    assert [line["thread"]["id"] for line in lines(output)] == thread_ids
    assert lines(output)[0]["thread"] == sdk.beta.threads.retrieve(thread_ids[0]).to_dict()
    flask("import", output)
    exported = [json.loads(line) for line in flask("export").stdout.splitlines()]
    for copy, moved_line in zip(exported, lines(output), strict=True):
        assert copy["thread"] == moved_line["thread"]
        pairs = zip(copy["messages"], moved_line["messages"], strict=True)
        assert all(stored.items() >= message.items() for stored, message in pairs)


def test_move_goes_on_where_it_was_interrupted(
    server: Server, filled: tuple[OpenAI, list[str]], tmp_path: Path
) -> None:
    output = tmp_path / "threads.jsonl"
    move = ("move_from_server.py", "--from", server.base_url, "--output", output)
    run_example(*move)
    whole = output.read_bytes()
    output.write_bytes(whole[: whole.index(b"\n") + 100])
    again = run_example(*move)
    assert again.stderr.endswith("copied 2, copied before 1, failed 0\n")
    assert output.read_bytes() == whole


def sockets() -> set[str]:
    """Return the sockets that this process has open."""
    files = {os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
    return {name for name in files if name.startswith("socket:")}


def test_move_closes_its_connections(
    server: Server, filled: tuple[OpenAI, list[str]], tmp_path: Path
) -> None:
    sdk, thread_ids = filled
    sdk.beta.threads.retrieve(thread_ids[0])  # its own connection is open
    before = sockets()
    run_example(
        "move_from_server.py", "--from", server.base_url, "--output", tmp_path / "threads.jsonl"
    )
    assert sockets() <= before


def test_move_into_another_server_keeps_messages_and_metadata(
    server: Server,
    filled: tuple[OpenAI, list[str]],
    serve: Callable[..., Any],
    tmp_path: Path,
) -> None:
    sdk, thread_ids = filled
    output = tmp_path / "moved.txt"
    with serve() as target, target.sdk() as new:
        move = ("move_from_server.py", "--from", server.base_url, "--to", target.base_url)
        moved = run_example(*move, "--output", output)
        assert moved.returncode == 0
        assert moved.stderr.endswith("copied 3, copied before 0, failed 0\n")
        ids = dict(line.split() for line in output.read_text().splitlines())
        assert list(ids) == thread_ids
        for old_id, new_id in ids.items():
            assert contents(new, new_id) == contents(sdk, old_id)
            old, copy = sdk.beta.threads.retrieve(old_id), new.beta.threads.retrieve(new_id)
            assert (copy.metadata, copy.tool_resources) == (old.metadata, old.tool_resources)
        again = run_example(*move, "--output", output)
        assert again.stderr.endswith("copied 0, copied before 3, failed 0\n")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_move_appends_the_messages_that_no_request_creates_or_leaves_nothing(
    server: Server, app: Flask, tmp_path: Path
) -> None:
    appended, output = [], tmp_path / "moved.txt"
    client = app.test_client()

    @app.before_request
    def refuse() -> None:
        if request.method == "POST" and request.path.endswith("/messages"):
            appended.append(request.path)
            if len(appended) == 3:
                raise ApiError(422, "This message is refused.")

    with server.sdk() as sdk, running(app) as new:
        texts: list[Any] = [{"role": "user", "content": str(number)} for number in range(1_004)]
        old = sdk.beta.threads.create(messages=texts[:1_000]).id
        for message in texts[1_000:]:
            sdk.beta.threads.messages.create(old, **message)
        move = ("move_from_server.py", "--from", server.base_url, "--to", new, "--output", output)
        failed = run_example(*move)
        assert (failed.returncode, "This message is refused." in failed.stderr) == (1, True)
        assert (output.read_text(), client.get("/v1/threads").json["data"]) == ("", [])
        assert run_example(*move).returncode == 0
        sdk.beta.threads.delete(old)
    [made] = client.get("/v1/threads").json["data"]
    assert output.read_text() == f"{old} {made['id']}\n"
    text = client.get(f"/admin/threads/{made['id']}/export?as=jsonl").text
    stored = [each["content"][0]["text"]["value"] for each in json.loads(text)["messages"]]
    assert stored == [str(number) for number in range(1_004)]


def test_move_says_what_to_do_when_the_list_is_refused(closing: str, tmp_path: Path) -> None:
    moved = run_example("move_from_server.py", "--from", closing, "--output", tmp_path / "out")
    assert moved.returncode == 1
    assert "must be made with a session key" in moved.stderr
    assert "--ids FILE" in moved.stderr
    assert "Traceback" not in moved.stderr


@pytest.mark.parametrize("from_stdin", [False, True])
def test_move_copies_the_ids_of_a_file_and_reports_those_that_fail(
    closing: str, app: Flask, tmp_path: Path, from_stdin: bool
) -> None:
    client = app.test_client()
    thread_ids = [
        client.post("/v1/threads", json={"messages": MESSAGES}).json["id"] for _ in range(2)
    ]
    ids = f"{thread_ids[0]}\nthread_broken\n\nthread_unknown\n {thread_ids[1]} \n{thread_ids[0]}\n"
    (tmp_path / "ids").write_text(ids)
    file = "-" if from_stdin else tmp_path / "ids"
    output = tmp_path / "threads.jsonl"
    arguments = ("--from", closing, "--ids", file, "--output", output)
    moved = run_example("move_from_server.py", *arguments, stdin=ids)
    assert moved.returncode == 1
    assert moved.stderr.splitlines() == [
        "thread_broken: Error code: 422 - This thread cannot be read.",
        "thread_unknown: Error code: 404 - No thread found with id 'thread_unknown'.",
        "copied 2, copied before 1, failed 2",
    ]
    assert [line["thread"]["id"] for line in lines(output)] == thread_ids


PARAMETERS = {"type": "object", "properties": {"unit": {"anyOf": [{}], "default": None}}}
FUNCTION = {"name": "get", "description": "Weather", "parameters": PARAMETERS}
ASSISTANT: Any = {
    "model": "gpt-4o",
    "name": "Weather",
    "instructions": "Be brief.",
    "tools": [{"type": "function", "function": FUNCTION}, {"type": "code_interpreter"}],
    "temperature": 0.5,
    "metadata": {"a": "1"},
    "tool_resources": {"code_interpreter": {"file_ids": ["file-1"]}},
}
CALLS = {"tool_calls": [{"name": "get", "arguments": {"city": "Rome"}}]}


@pytest.fixture
def answering(serve: Callable[..., Any]) -> Iterator[tuple[Server, str]]:
    """A server with an assistant, and a thread whose first run called and whose second failed."""
    with serve(MOCK="on") as server, server.sdk() as sdk:
        replies = [CALLS, {"text": "20 degrees."}]
        rules = [
            {"times": 1, "replies": replies},
            {"replies": [{"error": {"code": "server_error"}}]},
        ]
        assert server.call("PUT", "/_mock/replies", {"rules": rules}).status == 200
        assistant = sdk.beta.assistants.create(**ASSISTANT).id
        thread = sdk.beta.threads.create(messages=MESSAGES[:1]).id  # type: ignore[arg-type]
        runs = sdk.beta.threads.runs
        asked = runs.create_and_poll(thread_id=thread, assistant_id=assistant)
        assert asked.required_action is not None
        [call] = asked.required_action.submit_tool_outputs.tool_calls
        outputs: Any = [{"tool_call_id": call.id, "output": "20"}]
        runs.submit_tool_outputs_and_poll(run_id=asked.id, thread_id=thread, tool_outputs=outputs)
        assert runs.create_and_poll(thread_id=thread, assistant_id=assistant).status == "failed"
        yield server, assistant


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_move_copies_assistants_and_runs_with_their_ids(
    answering: tuple[Server, str], tmp_path: Path, flask: Commands
) -> None:
    server, assistant = answering
    output = tmp_path / "all.jsonl"
    move = ("move_from_server.py", "--from", server.base_url, "--output", output)
    moved = run_example(*move)
    assert (moved.returncode, moved.stderr) == (0, "copied 2, copied before 0, failed 0\n")
    assert lines(output)[0]["assistant"]["id"] == assistant
    assert run_example(*move).stderr == "copied 0, copied before 2, failed 0\n"
    imported = flask("import", output)
    assert imported.stderr.endswith("imported 2, replaced 0, skipped 0, refused 0\n")
    kept, thread = (json.loads(line) for line in flask("export").stdout.splitlines())
    assert kept == {"assistant": json.loads(server.call("GET", f"/v1/assistants/{assistant}").body)}
    assert [run["status"] for run in thread["runs"]] == ["completed", "failed"]
    assert [len(run["steps"]) for run in thread["runs"]] == [2, 0]
    assert thread == json.loads(server.call("GET", "/admin/threads/export?as=jsonl").body)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_move_makes_assistants_in_another_server_and_says_that_runs_stay(
    answering: tuple[Server, str], server: Server, tmp_path: Path
) -> None:
    source, assistant = answering
    output = tmp_path / "moved.txt"
    move = ("move_from_server.py", "--from", source.base_url, "--to", server.base_url)
    moved = run_example(*move, "--output", output)
    assert moved.returncode == 3
    assert "left out 2 times: runs of threads" in moved.stderr
    ids = dict(line.split() for line in output.read_text().splitlines())
    with source.sdk() as old, server.sdk() as new:
        copy = new.beta.assistants.retrieve(ids[assistant]).to_dict()
        given = old.beta.assistants.retrieve(assistant).to_dict()
        own = {"id", "created_at"}
        assert {key: copy[key] for key in copy.keys() - own} == {
            key: given[key] for key in given.keys() - own
        }
        for thread in new.get_api_list("/threads", model=Thread, page=SyncCursorPage[Thread]):
            new.beta.threads.delete(thread.id)
        new.beta.assistants.delete(ids[assistant])


def odd_run(**changed: Any) -> dict[str, Any]:
    tools = [{"type": "retrieval"}, {"type": "file_search", "file_search": None}]
    fixed = {"id": "run_odd", "object": "thread.run", "created_at": 3, "status": "completed"}
    parents = {"thread_id": "thread_odd", "assistant_id": "asst_1"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 3}
    return fixed | parents | {"model": "m", "tools": tools, "usage": usage} | changed


def test_move_cleans_the_runs_and_assistants_of_an_odd_server(
    tmp_path: Path, flask: Commands
) -> None:
    """It has no steps."""
    app = service(ODD_THREAD | {"metadata": {}}, ODD_MESSAGE | {"content": [], "attachments": []})
    runs = {"object": "list", "has_more": False, "data": [odd_run(server="own", file_ids=["f"])]}
    assistant = {"id": "asst_1", "object": "assistant", "created_at": 1, "model": "m", "own": 1}
    page = runs | {"data": [assistant | {"metadata": {"n": 1}, "tools": None}]}
    app.add_url_rule("/v1/threads/thread_odd/runs", "runs", lambda: runs)
    app.add_url_rule("/v1/assistants", "assistants", lambda: page)
    output = tmp_path / "all.jsonl"
    with running(app) as old:
        moved = run_example("move_from_server.py", "--from", old, "--output", output)
    told = moved.stderr.splitlines()
    assert 'asst_1: left out {"n": 1}' in told
    assert 'run_odd: left out {"type": "retrieval"}' in told
    assert 'run_odd: left out {"cost": 3}' in told
    fields = ("own of assistants", "server of runs", "file_ids of runs")
    assert {f"left out 1 times: {field}" for field in fields} <= set(told)
    assert "refused 0" in flask("import", output).stderr
    _, thread = (json.loads(line) for line in flask("export").stdout.splitlines())
    [run] = thread["runs"]
    assert [tool["type"] for tool in run["tools"]] == ["file_search"]
    assert (run["usage"]["total_tokens"], run["steps"]) == (2, [])


def test_move_goes_on_when_the_assistants_are_refused(tmp_path: Path) -> None:
    app = service(ODD_THREAD, ODD_MESSAGE)
    app.add_url_rule("/v1/assistants", "assistants", lambda: ({"error": {"message": "no"}}, 401))
    with running(app) as old:
        output = ("--output", tmp_path / "out")
        moved = run_example("move_from_server.py", "--from", old, *output)
    assert (moved.returncode, "copied 1, copied before 0, failed 1" in moved.stderr) == (1, True)
    assert "The server's list of assistants ended early" in moved.stderr


CITATION = {"type": "file_citation", "text": "[1]", "start_index": 0, "end_index": 3}
ODD_MESSAGE = {
    "id": "msg_odd",
    "object": "thread.message",
    "created_at": 2,
    "thread_id": "thread_odd",
    "role": "assistant",
    "assistant_id": "asst_1",
    "run_id": "run_1",
    "metadata": {"kept": "1", "null": None, "long": "v" * 513, "k" * 65: "long"},
    "file_ids": [],
    "server": "own",
    "content": [
        {
            "type": "text",
            "text": {
                "value": "[1] is so.",
                "annotations": [
                    CITATION | {"file_citation": {"file_id": "assistant-1", "quote": "so"}},
                    CITATION | {"type": "url_citation", "url_citation": {"url": "https://e.x"}},
                    CITATION | {"type": "container_citation", "container_citation": {"id": "c"}},
                    {"type": "file_path", "text": "a", "file_path": {"file_id": "file-1"}},
                ],
                "extra": 1,
            },
        },
        {"type": "image_file", "image_file": {"file_id": "assistant-2"}},
        {"type": "image_file", "image_file": {"file_id": "cfile-2"}},
        {"type": "image_file", "image_file": {"file_id": "file-3", "detail": None}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "audio", "audio": {}},
    ],
    "attachments": [
        {"file_id": "file-4"},
        {"file_id": "file-5", "tools": [{"type": "file_search", "file_search": {"a": 1}}]},
        {"file_id": "assistant-6", "tools": [{"type": "function"}]},
        {"file_id": "vs_7", "tools": []},
    ],
}
ODD_RESOURCES = {"code_interpreter": {"file_ids": ["assistant-8"]}, "browser": {"urls": ["u"]}}


ODD_THREAD = {"id": "thread_odd", "object": "thread", "created_at": 1, "metadata": {"n": 1}, "x": 1}


def service(thread: dict[str, Any], message: dict[str, Any]) -> Flask:
    """Return a service with one thread and one message, whose lists end with an empty page."""
    app = Flask("odd")
    app.json.sort_keys = False

    def page(one: dict[str, Any]) -> dict[str, Any]:
        is_first = "after" not in request.args
        return {"object": "list", "has_more": is_first, "data": [one] if is_first else []}

    app.add_url_rule("/v1/threads", "list", lambda: page(thread))
    app.add_url_rule("/v1/threads/thread_odd", "thread", lambda: thread)
    app.add_url_rule("/v1/threads/thread_odd/messages", "messages", lambda: page(message))
    return app


@pytest.fixture
def odd() -> Iterator[str]:
    """A service with one thread of older versions, full of what its specification lacks."""
    with running(service(ODD_THREAD | {"tool_resources": ODD_RESOURCES}, ODD_MESSAGE)) as url:
        yield url


LEFT_OUT = [
    '{"browser": {"urls": ["u"]}}',
    '{"n": 1}',
    '{"quote": "so"}',
    "container_citation",
    "file_path",
    '{"extra": 1}',
    "cfile-2",
    "data:image/png",
    "audio",
    '{"file_search": {"a": 1}}',
    '{"type": "function"}',
    "vs_7",
    '{"null": null}',
    '{"long": "vvv',
    '{"kkk',
]
NOT_CREATED = ['"file_citation"', '"url_citation"']
FIELDS = ["left out 1 times: x of threads", "left out 1 times: server of messages"]
RUN_FIELDS = [f"left out 1 times: {key} of messages" for key in ("assistant_id", "run_id")]


def assert_left_out(
    moved: subprocess.CompletedProcess[str], values: list[str], fields: list[str]
) -> None:
    *told, last = moved.stderr.splitlines()
    assert (moved.returncode, last) == (3, "copied 1, copied before 0, failed 0"), moved.stderr
    assert told[len(values) :] == fields
    for number, (word, line) in enumerate(zip(values, told, strict=False)):
        where = "thread_odd" if number < 2 else "thread_odd: msg_odd"
        assert line.startswith(f"{where}: left out {{")
        assert word in line


def test_what_move_copied_of_an_odd_server_is_imported(
    odd: str, tmp_path: Path, flask: Commands
) -> None:
    output = tmp_path / "threads.jsonl"
    moved = run_example("move_from_server.py", "--from", odd, "--output", output)
    assert_left_out(moved, LEFT_OUT, FIELDS)
    imported = flask("import", output)
    assert "imported 1" in imported.stderr, imported.stderr
    exported = json.loads(flask("export").stdout)
    assert exported["thread"]["metadata"] == {}
    known = {"code_interpreter": {"file_ids": ["assistant-8"]}}
    assert exported["thread"]["tool_resources"] == known
    [message] = exported["messages"]
    text, *images = message["content"]
    file_citation, url_citation = text["text"]["annotations"]
    assert text["text"]["value"] == "[1] is so."
    assert file_citation == CITATION | {"file_citation": {"file_id": "assistant-1"}}
    assert url_citation["url_citation"]["url"] == "https://e.x"
    assert [image["image_file"]["file_id"] for image in images] == ["assistant-2", "file-3"]
    assert message["metadata"] == {"kept": "1"}
    assert message["attachments"] == [
        {"file_id": "file-4", "tools": []},
        {"file_id": "file-5", "tools": [{"type": "file_search"}]},
        {"file_id": "assistant-6", "tools": []},
    ]


def test_move_copies_an_odd_thread_into_another_server_once(
    odd: str, server: Server, tmp_path: Path
) -> None:
    output = tmp_path / "moved.txt"
    move = ("move_from_server.py", "--from", odd, "--to", server.base_url, "--output", output)
    assert_left_out(run_example(*move), LEFT_OUT + NOT_CREATED, FIELDS + RUN_FIELDS)
    first = output.read_text()
    output.unlink()
    assert_left_out(run_example(*move), LEFT_OUT + NOT_CREATED, FIELDS + RUN_FIELDS)
    assert output.read_text() == first


@pytest.mark.parametrize(
    "content", ["plain", ["plain"], [{"type": "text", "text": "plain"}]], ids=["all", "part", "in"]
)
def test_move_takes_a_plain_text_as_a_part(tmp_path: Path, content: Any) -> None:
    with running(service(ODD_THREAD, ODD_MESSAGE | {"content": content})) as old:
        moved = run_example("move_from_server.py", "--from", old, "--output", tmp_path / "out")
    assert "copied 1, copied before 0, failed 0" in moved.stderr
    [line] = lines(tmp_path / "out")
    part = {"type": "text", "text": {"value": "plain", "annotations": []}}
    assert line["messages"][0]["content"] == [part]


@pytest.mark.parametrize(
    "odd", [{"content": 5}, {"content": [5]}, {"attachments": ["file-1"]}, {"metadata": "a"}]
)
def test_move_names_a_thread_of_an_unknown_form_and_goes_on(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    app = service(ODD_THREAD, ODD_MESSAGE | odd)
    fine, empty = ODD_THREAD | {"id": "thread_fine"}, {"data": [], "has_more": False}
    app.add_url_rule("/v1/threads/thread_fine", "fine", lambda: fine)
    app.add_url_rule("/v1/threads/thread_fine/messages", "none", lambda: empty)
    (tmp_path / "ids").write_text("thread_odd thread_fine")
    with running(app) as old:
        move = ("move_from_server.py", "--from", old, "--ids", tmp_path / "ids")
        moved = run_example(*move, "--output", tmp_path / "out")
    assert moved.returncode == 1
    assert "copied 1, copied before 0, failed 1" in moved.stderr
    assert "thread_odd: has an unknown form: " in moved.stderr
    assert [line["thread"]["id"] for line in lines(tmp_path / "out")] == ["thread_fine"]


def test_move_takes_the_files_of_the_first_version_as_attachments(tmp_path: Path) -> None:
    message = ODD_MESSAGE | {"file_ids": ["file-1", "file-2"], "attachments": None}
    with running(service(ODD_THREAD, message)) as old:
        run_example("move_from_server.py", "--from", old, "--output", tmp_path / "out")
    [line] = lines(tmp_path / "out")
    attachments = [{"file_id": "file-1", "tools": []}, {"file_id": "file-2", "tools": []}]
    assert line["messages"][0]["attachments"] == attachments


def test_move_adds_its_queries_to_every_request_to_the_source(tmp_path: Path) -> None:
    app, asked = service(ODD_THREAD, ODD_MESSAGE), []

    @app.before_request
    def note() -> None:
        asked.append((request.path, request.args["api-version"], request.args["b"]))

    with running(app) as url:
        queries = ("--query", "api-version=2024-05-01-preview", "--query", "b=c=d")
        output = ("--output", tmp_path / "out")
        moved = run_example("move_from_server.py", "--from", url, *queries, *output)
    assert "copied 1" in moved.stderr
    messages = "/v1/threads/thread_odd/messages"
    runs, thread = "/v1/threads/thread_odd/runs", "/v1/threads/thread_odd"
    paths = ["/v1/assistants", "/v1/threads", thread, messages, messages, runs, "/v1/threads"]
    assert asked == [(path, "2024-05-01-preview", "c=d") for path in paths]


def test_move_shows_the_key_where_azure_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, keys = service(ODD_THREAD, ODD_MESSAGE), set()
    monkeypatch.setenv("SOURCE_API_KEY", "secret")

    @app.before_request
    def note() -> None:
        keys.add((request.headers.get("api-key"), request.headers["Authorization"]))

    with running(app) as url:
        move = ("move_from_server.py", "--from", url, "--output", tmp_path / "out")
        run_example(*move)
        assert keys == {(None, "Bearer secret")}
        keys.clear()
        run_example(*move, "--query", "api-version=1")
        assert keys == {("secret", "Bearer secret")}


@pytest.mark.parametrize("query", ["api-version", "=1"])
def test_move_refuses_a_query_without_name_or_value(tmp_path: Path, query: str) -> None:
    arguments = ("--from", "http://127.0.0.1:9/v1", "--output", tmp_path / "out")
    moved = run_example("move_from_server.py", *arguments, "--query", query)
    assert moved.returncode == 2
    assert f"'{query}' is not NAME=VALUE" in moved.stderr


def test_conversations_follow_the_mapping(
    server: Server, filled: tuple[OpenAI, list[str]], tmp_path: Path
) -> None:
    _, thread_ids = filled
    export = tmp_path / "threads.jsonl"
    run_example("move_from_server.py", "--from", server.base_url, "--output", export)
    result = run_example("to_conversations.py", export)
    assert result.returncode == 0
    calls = [json.loads(line) for line in result.stdout.splitlines()]
    first = [call for call in calls if call["thread"] == thread_ids[0]]
    assert first == [
        {
            "thread": thread_ids[0],
            "path": "/conversations",
            "body": {
                "metadata": {"user": "u1"},
                "items": [
                    {
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": "Which tram? é 😀"}],
                    },
                    {
                        "type": "message",
                        "role": "assistant",
                        "content": [
                            {"type": "output_text", "text": "This one:"},
                            {
                                "type": "input_image",
                                "image_url": "https://e.x/i.png",
                                "detail": "low",
                            },
                        ],
                    },
                    {
                        "type": "message",
                        "role": "user",
                        "content": [
                            {"type": "input_image", "file_id": "file-1", "detail": "auto"},
                            {"type": "input_file", "file_id": "file-2"},
                        ],
                    },
                ],
            },
        }
    ]
    assert [call["body"] for call in calls if call["thread"] == thread_ids[2]] == [
        {"metadata": {}, "items": []}
    ]


def test_conversations_take_twenty_items_a_call(tmp_path: Path) -> None:
    part = {"type": "text", "text": {"value": "x", "annotations": []}}
    message = {"role": "user", "content": [part], "attachments": []}
    lengths = (0, 1, 20, 21, 45)
    exported = [
        {
            "thread": {"id": f"thread_{length}", "metadata": None, "tool_resources": {}},
            "messages": [message] * length,
        }
        for length in lengths
    ]
    text = "\n".join(map(json.dumps, exported))
    result = run_example("to_conversations.py", stdin=text)
    calls = [json.loads(line) for line in result.stdout.splitlines()]
    more = "/conversations/{conversation_id}/items"
    assert [(c["thread"], c["path"], len(c["body"]["items"])) for c in calls] == [
        ("thread_0", "/conversations", 0),
        ("thread_1", "/conversations", 1),
        ("thread_20", "/conversations", 20),
        ("thread_21", "/conversations", 20),
        ("thread_21", more, 1),
        ("thread_45", "/conversations", 20),
        ("thread_45", more, 20),
        ("thread_45", more, 5),
    ]


def test_conversations_report_what_has_no_target(tmp_path: Path) -> None:
    citation = {"type": "file_citation", "text": "x", "start_index": 0, "end_index": 1}
    text = {"type": "text", "text": {"value": "x", "annotations": [citation] * 2}}
    refused = {"type": "refusal", "refusal": "No."}
    message = {
        "role": "assistant",
        "content": [text, refused],
        "attachments": [{"file_id": "file-1", "tools": [{"type": "file_search"}]}],
        "metadata": {"a": "1"},
        "assistant_id": "asst_1",
        "run_id": "run_1",
        "incomplete_details": {"reason": "max_tokens"},
    }
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    exported = {
        "thread": {"id": "thread_1", "metadata": {}, "tool_resources": resources},
        "messages": [message, message | {"content": [refused], "attachments": None}],
        "runs": [{"id": "run_1"}, {"id": "run_2"}],
    }
    result = run_example(
        "to_conversations.py", stdin=f'{json.dumps(exported)}\n[]\n{{"assistant": {{}}}}\n'
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == [
        "1 threads",
        "1 calls",
        "1 lines that are no exported thread",
        "Without a target:",
        "  2 annotations of texts",
        "  2 assistant_id of messages",
        "  1 assistants",
        "  2 ids and times of messages",
        "  1 ids and times of threads",
        "  2 incomplete_details of messages",
        "  1 messages without content",
        "  2 metadata of messages",
        "  2 refusal parts",
        "  2 run_id of messages",
        "  2 runs of threads",
        "  1 tool_resources of threads",
        "  1 tools of attachments",
    ]
    assert result.stderr.startswith("line 2: not an exported thread")


@pytest.mark.parametrize("name", ["from_chatgpt.py", "move_from_server.py", "to_conversations.py"])
def test_example_explains_itself(name: str) -> None:
    """In a process of its own."""
    command = [sys.executable, ROOT / "examples" / name, "--help"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    result = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    assert result.returncode == 0
    assert f"examples/{name}" in result.stdout
