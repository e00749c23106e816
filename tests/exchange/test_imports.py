"""Runs travel with their threads: export, import and seed keep their ids, times and steps."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands, until
from flask import Flask
from flask.testing import FlaskClient

import cli
import database
from database import startup
from exchange import exports, imports, reports, undo
from rules import refusals
from rules.errors import ApiError
from store import batches, deleted_threads, deletions

ENDED = ("completed", "incomplete", "failed", "cancelled", "expired")
ACTIVE = ("queued", "in_progress", "requires_action", "cancelling")
PARAMETERS = {"type": "object", "properties": {"unit": {"enum": ["C", None], "default": None}}}
TOOLS = [
    {"type": "function", "function": {"name": "get", "parameters": PARAMETERS, "strict": False}},
    {"type": "code_interpreter"},
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "total_tokens": 3,
    "prompt_token_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
WRITES = {"type": "message_creation", "message_creation": {"message_id": "msg_1"}}
SEARCH = {"ranking_options": {"ranker": "auto", "hybrid_search": None}, "results": []}
CALLS = {
    "type": "tool_calls",
    "tool_calls": [
        {**CALL, "function": {**CALL["function"], "output": None}},  # type: ignore[dict-item]
        {"id": "call_2", "type": "file_search", "file_search": SEARCH},
    ],
}
SUMMARY = "imported 1, replaced 0, skipped 0, refused 0"
CANCELLED = "cancelled 1 times: runs that were active"
Bring = Callable[..., list[str]]


def step(number: int = 1, run: str = "run_1", **changed: Any) -> dict[str, Any]:
    fixed = {"id": f"step_{number}", "object": "thread.run.step", "created_at": 20 + number}
    parents = {"run_id": run, "assistant_id": "asst_1", "thread_id": "thread_1"}
    state = {"type": "message_creation", "status": "completed", "cancelled_at": None}
    times = {"completed_at": 30, "expires_at": None, "failed_at": None, "last_error": None}
    return fixed | parents | state | times | {"step_details": WRITES, "usage": USAGE} | changed


def run(number: int = 1, *steps: dict[str, Any], **changed: Any) -> dict[str, Any]:
    fixed = {"id": f"run_{number}", "object": "thread.run", "created_at": 10 + number}
    parents = {"assistant_id": "asst_1", "thread_id": "thread_1"}
    times = {"started_at": 12, "expires_at": None, "cancelled_at": None, "failed_at": None}
    state = {"status": "completed", **times, "completed_at": 40, "required_action": None}
    settings = {"last_error": None, "model": "gpt-4o", "instructions": None, "tools": TOOLS}
    more = {"tool_resources": {"code_interpreter": {"file_ids": []}}, "metadata": {"a": "1"}}
    numbers = {"temperature": 0.5, "top_p": 1.0, "reasoning_effort": None}
    limits = {"max_completion_tokens": None, "max_prompt_tokens": 256}
    strategy = {"truncation_strategy": {"type": "auto", "last_messages": None}}
    end = {"incomplete_details": None, "usage": USAGE, "response_format": "auto"}
    choice = {"tool_choice": "auto", "parallel_tool_calls": False, "steps": list(steps)}
    all_settings = settings | more | numbers | limits | strategy | end | choice
    return fixed | parents | state | all_settings | changed


def line(*runs: Any, messages: Any = (), **more: Any) -> dict[str, Any]:
    thread = {"id": "thread_1", "object": "thread", "created_at": 7}
    return {"thread": thread, "messages": list(messages), "runs": list(runs)} | more


@pytest.fixture
def bring(flask: Commands, tmp_path: Path) -> Bring:
    """Import values, a line each; return what is said about the file and the sum."""

    def bring(*given: Any, status: int = 0, options: tuple[str, ...] = ()) -> list[str]:
        path = tmp_path / "given"
        path.write_text("\n".join(map(json.dumps, given)), "utf-8")
        said = flask("import", str(path), *options, status=status).stderr.splitlines()
        return [each.removeprefix(f"{path}:").strip() for each in said if "bytes" not in each]

    return bring


def runs_of(client: FlaskClient) -> list[Any]:
    """The runs of the thread as the API has them, each with its steps, oldest first."""
    address = "/v1/threads/thread_1/runs"
    data: list[Any] = client.get(f"{address}?order=asc&limit=100").json["data"]
    for each in data:
        steps = client.get(f"{address}/{each['id']}/steps?order=asc&limit=100")
        each["steps"] = steps.json["data"]
    return data


@pytest.mark.parametrize("status", ENDED)
def test_an_imported_run_is_what_the_line_says(
    bring: Bring, client: FlaskClient, status: str
) -> None:
    given = run(1, step(1), step(2, type="tool_calls", step_details=CALLS), status=status)
    assert bring(line(given)) == [SUMMARY]
    assert runs_of(client) == [given]


def test_a_run_of_this_server_travels(client: FlaskClient, flask: Commands, bring: Bring) -> None:
    """Export, import and export give the same bytes; a line without runs has no such key."""
    assistant = client.post("/v1/assistants", json={"model": "m", "tools": TOOLS}).json["id"]
    message = {"role": "user", "content": "Hi"}
    body = {"assistant_id": assistant, "thread": {"messages": [message]}, "temperature": 1}
    made = client.post("/v1/threads/runs", json=body).json
    address = f"/v1/threads/{made['thread_id']}/runs/{made['id']}"
    assert until(lambda: client.get(address).json["status"] == "completed")
    client.post("/v1/threads")
    first = flask("export").stdout
    _, thread, bare = map(json.loads, first.splitlines())
    assert list(thread) == ["thread", "messages", "runs"]
    assert list(bare) == ["thread", "messages"]
    steps = client.get(f"{address}/steps?order=asc").json["data"]
    assert thread["runs"] == [client.get(address).json | {"steps": steps}]
    bring(*map(json.loads, first.splitlines()), options=("--on-conflict", "replace"))
    assert flask("export").stdout == first
    assert thread["messages"][1]["run_id"] == made["id"]


def test_runs_and_steps_keep_their_order_and_every_form_of_export_has_them(
    bring: Bring, client: FlaskClient, flask: Commands
) -> None:
    given = [run(number, step(1, f"run_{number}"), step(2, f"run_{number}")) for number in (1, 2)]
    bring(line(*given))
    assert [each["id"] for each in runs_of(client)] == ["run_1", "run_2"]
    one = client.get("/admin/threads/thread_1/export?as=jsonl").text
    array = client.get("/admin/threads/export?as=json").json
    assert json.loads(one) == json.loads(flask("export").stdout) == array[0]
    assert array[0]["runs"] == given
    assert "run_1" not in flask("export", "--as", "markdown").stdout


def test_runs_are_found_and_listed_as_those_made_here(bring: Bring, client: FlaskClient) -> None:
    bring(line(run(1, step(1))))
    address = "/v1/threads/thread_1/runs"
    given = run(1)
    del given["steps"]
    assert client.get(f"{address}/run_1").json == given
    assert client.get(f"{address}/run_1/steps/step_1").json == step(1)
    assert client.get(f"{address}?after=run_1").json["data"] == []
    client.post(f"{address}/run_1", json={"metadata": {"b": "2"}})
    assert client.get(f"{address}/run_1").json == given | {"metadata": {"b": "2"}}
    assert client.delete("/v1/threads/thread_1").status_code == 200


@pytest.mark.parametrize("status", ACTIVE)
def test_an_active_run_comes_in_cancelled_and_locks_nothing(
    bring: Bring, client: FlaskClient, status: str
) -> None:
    """It ends with the newest time that the line has of it; steps that have ended stay."""
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [CALL]}}
    open_step = step(
        2, type="tool_calls", step_details=CALLS, status="in_progress", completed_at=None
    )
    given = run(
        1,
        step(1, completed_at=35),
        open_step | {"usage": None, "expires_at": 611},
        status=status,
        required_action=action,
        completed_at=None,
        expires_at=611,
        usage=None,
    )
    assert bring(line(given)) == [CANCELLED, SUMMARY]
    end = {"status": "cancelled", "cancelled_at": 35, "expires_at": None}
    [kept] = runs_of(client)
    assert kept["steps"] == [step(1, completed_at=35), open_step | {"usage": None} | end]
    assert kept == given | {**end, "required_action": None, "steps": kept["steps"]}
    message = {"role": "user", "content": "still here"}
    assert client.post("/v1/threads/thread_1/messages", json=message).status_code == 200


def test_a_run_may_lack_what_may_be_null(bring: Bring, client: FlaskClient) -> None:
    """An SDK dumps a function without its output, and nulls of everything else."""
    given = {key: value for key, value in run(1).items() if value is not None}
    for key in ("tool_resources", "metadata", "temperature", "truncation_strategy", "tool_choice"):
        del given[key]
    del given["response_format"], given["parallel_tool_calls"], given["top_p"]
    calls = {**CALLS, "tool_calls": [CALL]}
    bare = {key: value for key, value in step(1).items() if value is not None}
    given["steps"] = [bare | {"type": "tool_calls", "step_details": calls}]
    assert bring(line(given | {"last_error": None})) == [SUMMARY]
    [kept] = runs_of(client)
    assert kept["steps"][0]["step_details"]["tool_calls"][0]["function"]["output"] is None
    defaults = {"tool_resources": {}, "metadata": {}, "temperature": 1.0, "tool_choice": "auto"}
    assert kept.items() >= (defaults | {"parallel_tool_calls": True}).items()
    assert kept["truncation_strategy"] == {"type": "auto", "last_messages": None}
    assert kept["tools"] == TOOLS


@pytest.mark.parametrize("empty", [{}, {"runs": []}, {"runs": None}])
def test_a_line_may_have_no_runs(bring: Bring, client: FlaskClient, empty: Any) -> None:
    given = line()
    del given["runs"]
    assert bring(given | empty) == [SUMMARY]
    assert runs_of(client) == []


def test_saved_pages_and_keys_of_older_versions_are_taken_and_told(
    bring: Bring, client: FlaskClient
) -> None:
    """Lists are saved newest first."""
    steps = {"object": "list", "data": [step(2), step(1)], "has_more": False}
    older = {"_request_id": "req_1", "file_ids": ["file-1"], "steps": steps}
    steps["data"][0] |= {"metadata": {}, "expired_at": 9}
    page = {"object": "list", "data": [run(2), run(1) | older], "has_more": True}
    said = bring(line(runs=page))
    assert sorted(said) == sorted(
        [
            "left out 1 times: the pages after a saved page that has more",
            "left out 1 times: _request_id",
            "left out 1 times: file_ids of runs",
            "left out 1 times: metadata of steps",
            "left out 1 times: expired_at of steps",
            "put in order 1 times: the steps of a run, which were newest first",
            "put in order 1 times: the runs of a thread, which were newest first",
            SUMMARY,
        ]
    )
    assert runs_of(client) == [run(1, step(1), step(2)), run(2)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line(run(1), run(1)), "Two runs of this thread have the same id."),
        (line(run(1, step(1), step(1))), "Two steps of this run have the same id."),
        (line(run(1, thread_id="thread_2")), "Invalid 'runs[0].thread_id': the run is of another"),
        (
            line(run(1), run(2, step(1, "run_2", thread_id="thread_2"))),
            "Invalid 'runs[1].steps[0].thread_id': the step is of another thread",
        ),
        (
            line(run(1, step(1, "run_2"))),
            "Invalid 'runs[0].steps[0].run_id': the step is of another run",
        ),
        (line(run(1, status="done")), "Invalid value: 'done'."),
        (line(run(1, assistant_id=None)), "Missing required parameter: 'runs[0].assistant_id'."),
        (line(run(1, own=1)), "Unknown parameter: 'runs[0].own'."),
        (line(run(1, metadata={"k": None})), "Invalid type for 'runs[0].metadata.k'"),
        (line(run(1, id=1)), "Invalid type for 'runs[0].id'"),
        (line(1), "Invalid type for 'runs[0]'"),
        (line(runs="none"), "Invalid type for 'runs'"),
        (line(run(1, steps=1)), "Invalid type for 'runs[0].steps'"),
        (line(run(1, step(1, step_details={}))), "Missing required parameter: 'runs[0].steps[0]"),
    ],
)
def test_wrong_runs_are_refused(
    bring: Bring, client: FlaskClient, bad: dict[str, Any], reason: str
) -> None:
    said = bring(bad, status=1)
    assert said[0].startswith(f"1: {reason}")
    assert client.get("/v1/threads").json["data"] == []


def test_a_replaced_thread_has_the_runs_of_its_new_line(bring: Bring, client: FlaskClient) -> None:
    bring(line(run(1, step(1)), run(2)))
    new = run(1, step(2), model="new")
    bring(line(new), options=("--on-conflict", "replace"))
    assert runs_of(client) == [new]


def delete_and_undo(project: str, thread_id: str, _: bytes) -> None:
    undo.delete_threads(project, [thread_id], None, is_kept=True)
    with database.read() as connection:
        [deletion, *_] = deleted_threads.kept(connection, project).deletions
    undo.restore(project, deletion.deletion)


def replace(project: str, _: str, line: bytes) -> None:
    list(imports.import_lines(project, [line], "replace"))


def delete_and_import(project: str, thread_id: str, line: bytes) -> None:
    deletions.delete_thread(project, thread_id)
    list(imports.import_lines(project, [line], "fail"))


@pytest.mark.parametrize("sort", ["created_at", "last_active_at"])
@pytest.mark.parametrize("bring_back", [delete_and_undo, replace, delete_and_import])
def test_a_thread_that_comes_back_has_its_place_in_the_lists(
    app: Flask, client: FlaskClient, bring_back: Callable[..., None], sort: str
) -> None:
    """A reader goes on behind it, among threads of one second."""
    lines = [
        json.dumps(line(thread={"id": f"thread_{each}", "object": "thread", "created_at": 7}))
        for each in range(1, 5)
    ]
    encoded = [each.encode() for each in lines]
    with app.app_context():
        list(imports.import_lines("default", encoded, "fail"))
        for number in (2, 3, 2):
            bring_back("default", f"thread_{number}", encoded[number - 1])
    query = {"order": "asc", "sort": sort, "after": "thread_2"}
    found = client.get("/v1/threads", query_string=query).json["data"]
    assert [each["id"] for each in found] == ["thread_3", "thread_4"]


def test_a_thread_with_another_time_gets_a_new_place(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        for number, second in ((1, 7), (2, 8), (1, 8)):
            thread = {"id": f"thread_{number}", "object": "thread", "created_at": second}
            replace("default", "", json.dumps(line(thread=thread)).encode())
    found = client.get("/v1/threads?order=asc").json["data"]
    assert [each["id"] for each in found] == ["thread_2", "thread_1"]


def test_a_deleted_message_is_no_cursor_of_a_thread_that_is_replaced(
    app: Flask, client: FlaskClient
) -> None:
    """The other messages are new rows, all behind its place."""
    address = "/v1/threads/thread_1/messages"
    with app.app_context():
        replace("default", "", json.dumps(line()).encode())
        body = {"role": "user", "content": "x"}
        first, _ = (client.post(address, json=body).json["id"] for _ in range(2))
        with database.read() as connection:
            kept = exports.thread_pieces(connection, "default", "thread_1", exports.as_jsonl)
            whole = b"".join(kept)
        client.delete(f"{address}/{first}")
        assert client.get(f"{address}?order=asc&after={first}").status_code == 200
        other = whole.replace(first.encode(), b"msg_other")
        replace("default", "", other)
    assert client.get(f"{address}?order=asc&after={first}").status_code == 400


def test_undo_brings_a_thread_back_that_is_still_being_deleted(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise refusals.busy()

    messages = [{"role": "user", "content": "x"}] * 3
    thread_id = client.post("/v1/threads", json={"messages": messages}).json["id"]
    monkeypatch.setattr(deletions, "MESSAGES_AT_ONCE", 2)
    monkeypatch.setattr(deletions, "delete_hidden", busy)
    with app.app_context():
        delete_and_undo("default", thread_id, b"")
        monkeypatch.undo()
        deletions.delete_left()
    assert len(client.get(f"/v1/threads/{thread_id}/messages").json["data"]) == 3


def test_a_replaced_assistant_has_its_place_in_the_list(app: Flask, client: FlaskClient) -> None:
    lines = []
    for number in range(1, 4):
        own = {"id": f"asst_{number}", "object": "assistant", "created_at": 7, "model": "m"}
        lines.append(json.dumps({"assistant": own | {"tools": []}}).encode())
    with app.app_context():
        list(imports.import_lines("default", lines, "fail"))
        list(imports.import_lines("default", [lines[1]], "replace"))
    found = client.get("/v1/assistants?order=asc&after=asst_2").json["data"]
    assert [each["id"] for each in found] == ["asst_3"]


@pytest.mark.sqlite_only("the mock controls")
@pytest.mark.parametrize("way", ["seed", "reset"])
def test_the_mock_controls_load_runs(
    client_with: Callable[..., FlaskClient], tmp_path: Path, way: str
) -> None:
    given = json.dumps(line(run(1, step(1)), _request_id="r"))
    (tmp_path / "seed").write_text(given)
    client = client_with(MOCK="on", SEED=str(tmp_path / "seed"))
    answer = client.post(f"/_mock/{way}", data=given if way == "seed" else b"")
    assert answer.status_code == 200, answer.text
    assert runs_of(client) == [run(1, step(1))]
    assert client.post("/_mock/snapshot").status_code == 200
    client.delete("/v1/threads/thread_1")
    assert client.post("/_mock/restore").status_code == 200
    assert runs_of(client) == [run(1, step(1))]


def test_mock_seed_says_what_it_changed(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(MOCK="on")
    active = line(run(1, status="queued", file_ids=[]))
    second = line(_request_id="r")
    second["thread"]["id"] = "thread_2"
    answer = client.post("/_mock/seed", data=f"{json.dumps(active)}\n{json.dumps(second)}").json
    assert sorted(answer.pop("notes")) == [
        CANCELLED,
        "left out 1 times: _request_id",
        "left out 1 times: file_ids of runs",
    ]
    assert answer == {"object": "mock.seed", "threads": 2, "assistants": 0}


def test_a_seed_at_start_says_what_it_changed(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is loaded already says nothing."""
    seed = tmp_path / "seed.jsonl"
    seed.write_text(json.dumps(line(_request_id="r")))
    app = cli.create_app({"DATABASE_URL": database_url, "SEED": str(seed)})
    with app.app_context():
        cli.prepare_database()
        assert capsys.readouterr().err == f"{seed}: left out 1 times: _request_id\n"
        cli.prepare_database()
        assert capsys.readouterr().err == ""
    startup.close(app)


def test_the_runs_of_a_thread_are_never_all_in_memory(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight times the steps take no more memory."""
    monkeypatch.setattr(batches, "MAX_BYTES", 500_000)
    function = {"name": "get", "arguments": "{}", "output": "x" * 50_000}
    details = {"type": "tool_calls", "tool_calls": [CALL | {"function": function}]}

    def peak(count: int) -> int:
        steps = [step(n, type="tool_calls", step_details=details) for n in range(count)]
        given = json.dumps(line(run(1, *steps))).encode()
        list(imports.import_lines("default", [given], "replace"))
        tracemalloc.start()
        sizes = [*map(len, exports.export_thread("default", "thread_1", exports.as_jsonl))]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sum(sizes) > count * 50_000
        return peak

    with app.app_context():
        peak(1)  # it makes what is made once
        assert peak(160) < 1.5 * peak(20)


def test_the_messages_of_a_line_become_rows_one_by_one(app: Flask) -> None:
    text = {"type": "text", "text": {"value": "x" * 50_000 + "💾", "annotations": []}}
    fixed = {"object": "thread.message", "thread_id": "thread_1", "role": "user"}
    messages = [{**fixed, "id": f"msg_{n}", "created_at": n, "content": [text]} for n in range(80)]
    given = json.dumps(line(messages=messages), ensure_ascii=False).encode()
    with app.app_context():
        list(imports.import_lines("default", [b"{}"], "fail"))  # it makes what is made once
        tracemalloc.start()
        outcomes = list(imports.import_lines("default", [given], "fail"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert [each.result for each in outcomes] == ["imported"]
    assert peak < 7 * len(given)


def test_lines_are_counted_before_they_are_read() -> None:
    data = b"{}\n" * 1_000_000
    tracemalloc.start()
    with pytest.raises(ApiError, match="at most 10 lines"):
        reports.import_bytes("default", data, "skip", 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(data)
