"""/_mock: access, state, faults, the request log, repeatable ids and clock."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from threading import Thread as Task
from typing import Any

import openai
import pytest
import sqlalchemy as sa
from conftest import Server, bearer, refusal, serving, until
from flask import Flask
from flask.testing import FlaskClient
from pages import token_in
from playwright.sync_api import Browser, Page
from werkzeug.test import TestResponse

import database
from access import api_keys
from models import db
from schemas import MAX_SECONDS
from web.request_checks import MAX_FORM_BYTES

COPIES = pytest.mark.sqlite_only("reset, snapshot and restore copy SQLite's file")
CONTROLS = [
    ("POST", "/_mock/reset"),
    ("POST", "/_mock/seed"),
    ("POST", "/_mock/snapshot"),
    ("POST", "/_mock/restore"),
    ("GET", "/_mock/faults"),
    ("POST", "/_mock/faults"),
    ("DELETE", "/_mock/faults"),
    ("GET", "/_mock/requests"),
    ("DELETE", "/_mock/requests"),
    ("PUT", "/_mock/ids"),
    ("PUT", "/_mock/clock"),
]
CHANGING = [
    ("POST", "/_mock/reset"),
    ("POST", "/_mock/seed"),
    ("POST", "/_mock/snapshot"),
    ("POST", "/_mock/restore"),
    ("PUT", "/_mock/ids"),
    ("PUT", "/_mock/clock"),
]
HARMLESS = [
    ("GET", "/_mock/faults", None),
    ("POST", "/_mock/faults", {"rules": []}),
    ("DELETE", "/_mock/faults", None),
    ("GET", "/_mock/requests", None),
    ("DELETE", "/_mock/requests", None),
]
HELLO = {"role": "user", "content": "hello"}
FROZEN = 1_700_000_000


@pytest.fixture
def mocked(client_with: Callable[..., FlaskClient]) -> FlaskClient:
    """The client of an app with THREADS_MOCK=on."""
    return client_with(MOCK="on")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("mock") / "log") as server:
        yield server


@pytest.fixture
def live(shared: Server) -> Server:
    """A live server in memory, as empty as at its start."""
    for method, path in [("post", "/reset"), ("delete", "/faults"), ("delete", "/requests")]:
        control(shared, method, path)
    return shared


@pytest.fixture
def seed_file(tmp_path: Path) -> Path:
    path = tmp_path / "seed.jsonl"
    path.write_bytes(line("thread_seed", "grüße", "blue whale"))
    return path


def line(thread_id: str, *texts: str, **metadata: str) -> bytes:
    """One line of the exchange format."""
    thread = {
        "id": thread_id,
        "object": "thread",
        "created_at": 7,
        "metadata": metadata,
        "tool_resources": {},
    }
    messages = [
        {
            "id": f"msg_{number}",
            "object": "thread.message",
            "created_at": 7,
            "assistant_id": None,
            "thread_id": thread_id,
            "run_id": None,
            "role": "user",
            "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
            "attachments": [],
            "metadata": {},
        }
        for number, text in enumerate(texts)
    ]
    return json.dumps({"thread": thread, "messages": messages}).encode() + b"\n"


def control(server: Server, method: str, address: str, body: Any = None, **query: Any) -> Any:
    """Call a control of a live server through the SDK, which raises for a refusal."""
    with server.sdk() as sdk:
        send = getattr(sdk.with_options(base_url=f"{server.root_url}/_mock"), method)
        options = {} if body is None else {"body": body}
        return send(address, cast_to=object, options={"params": query}, **options)


def threads(client: FlaskClient, **query: Any) -> list[str]:
    answer = client.get("/v1/threads", query_string={"limit": 100, "order": "asc", **query})
    return [thread["id"] for thread in answer.json["data"]]


def create(client: FlaskClient, **body: Any) -> str:
    return client.post("/v1/threads", json=body).json["id"]


def add(client: FlaskClient, thread_id: str, text: str) -> TestResponse:
    return client.post(f"/v1/threads/{thread_id}/messages", json=HELLO | {"content": text})


def set_rules(client: FlaskClient, *rules: dict[str, Any]) -> None:
    assert client.post("/_mock/faults", json={"rules": rules}).status_code == 200


def statuses(client: FlaskClient, count: int, path: str = "/v1/threads") -> list[int]:
    return [client.get(path).status_code for _ in range(count)]


def log(client: FlaskClient, **query: str) -> list[Any]:
    return client.get("/_mock/requests", query_string=query).json["data"]


def fault(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, answer.json["error"]["code"]


# access


@pytest.mark.parametrize(("method", "path", "body"), HARMLESS)
def test_controls_are_on_without_keys_and_with_one_worker(
    client_with: Callable[..., FlaskClient], method: str, path: str, body: Any
) -> None:
    answer = client_with().open(path, method=method, json=body)
    assert answer.status_code == 200


@pytest.mark.parametrize("settings", [{"MOCK": "off"}, {"WORKERS": 2}], ids=str)
@pytest.mark.parametrize(("method", "path"), CONTROLS)
def test_controls_are_404_when_off_or_with_two_workers(
    client_with: Callable[..., FlaskClient], settings: dict[str, Any], method: str, path: str
) -> None:
    answer = client_with(**settings).open(path, method=method)
    assert fault(answer) == (404, None)


def test_controls_are_404_once_a_key_exists(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    client = app.test_client()
    assert client.get("/_mock/faults").status_code == 200
    with app.app_context():
        headers = bearer(api_keys.create("default", "", None))
    assert until(lambda: client.get("/v1/threads").status_code == 401)
    for sent in ({}, headers):
        answers = [client.open(path, method=method, headers=sent) for method, path in CONTROLS]
        assert {answer.status_code for answer in answers} == {404}


def test_faults_of_open_mode_end_with_the_first_key(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    client = app.test_client()
    set_rules(client, {"status": 503})
    with app.app_context():
        headers = bearer(api_keys.create("default", "", None))
    assert until(lambda: client.get("/v1/threads", headers=headers).status_code == 200)


@COPIES
def test_mock_on_keeps_the_controls_with_keys(make_app: Callable[..., Flask]) -> None:
    app = make_app(MOCK="on")
    with app.app_context():
        secret = api_keys.create("default", "", None)
    client = app.test_client()
    assert client.post("/_mock/reset").status_code == 401
    answer = client.post("/_mock/reset", headers=bearer(secret))
    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["X-Mock-Fault", "X-Mock-Delay"])
def test_headers_do_nothing_when_the_mock_is_off(
    client_with: Callable[..., FlaskClient], header: str
) -> None:
    client = client_with(MOCK="off")
    assert client.get("/healthz", headers={header: "nonsense"}).status_code == 200


def test_mock_on_with_two_workers_refuses_to_start_with_one_line(tmp_path: Path) -> None:
    lines = refusal(tmp_path / "log", MOCK="on", WORKERS=2)
    assert len(lines) == 1
    assert "THREADS_MOCK=on needs THREADS_WORKERS=1" in lines[0]


@COPIES
@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_on_a_file_what_changes_data_is_403_and_names_the_cure(
    client_with: Callable[..., FlaskClient], method: str, path: str
) -> None:
    client = client_with()
    thread = create(client)
    answer = client.open(path, method=method, json={"seed": 1})
    assert fault(answer) == (403, "database_is_kept")
    message = answer.json["error"]["message"]
    assert "THREADS_DATABASE_URL=memory" in message
    assert "THREADS_MOCK=on" in message
    assert threads(client) == [thread]


@COPIES
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/reset", None),
        ("post", "/seed", None),
        ("put", "/ids", {"seed": None}),
        ("put", "/clock", {}),
    ],
)
def test_in_memory_what_changes_data_needs_no_setting(
    live: Server, method: str, path: str, body: Any
) -> None:
    assert control(live, method, path, body)


# state


@COPIES
def test_every_reset_empties_lists_and_searches(mocked: FlaskClient) -> None:
    for _ in range(3):
        create(mocked, messages=[HELLO], metadata={"a": "1"})
        assert mocked.post("/_mock/reset").json == {"object": "mock.reset"}
        assert threads(mocked) == threads(mocked, q="hello") == []
        assert threads(mocked, **{"metadata[a]": "1"}) == []


@COPIES
def test_reset_in_memory_empties(live: Server) -> None:
    with live.sdk() as sdk:
        thread = sdk.beta.threads.create()
        control(live, "post", "/reset")
        with pytest.raises(openai.NotFoundError):
            sdk.beta.threads.retrieve(thread.id)


@COPIES
def test_reset_returns_a_file_database_to_the_seed(
    make_app: Callable[..., Flask], seed_file: Path
) -> None:
    client = make_app(MOCK="on", SEED=str(seed_file)).test_client()
    create(client)
    for _ in range(2):
        client.post("/_mock/reset")
        assert threads(client) == threads(client, q="WHALE") == ["thread_seed"]
        add(client, "thread_seed", "more")
        client.delete("/v1/threads/thread_seed")


@COPIES
def test_reset_in_memory_returns_to_the_seed(serve: Callable[..., Any], seed_file: Path) -> None:
    with serve(SEED=seed_file, DATABASE_URL="memory") as server, server.sdk() as sdk:
        before = sdk.beta.threads.messages.list("thread_seed").data
        for _ in range(2):
            sdk.beta.threads.delete("thread_seed")
            control(server, "post", "/reset")
            assert sdk.beta.threads.messages.list("thread_seed").data == before


@COPIES
def test_the_first_reset_keeps_nothing_that_is_written_meanwhile(live: Server) -> None:
    stop = Event()

    def write() -> None:
        while not stop.is_set():
            live.call("POST", "/v1/threads")

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write) for _ in range(2)]
        control(live, "post", "/reset")
        stop.set()
        for writer in writers:
            writer.result()
    control(live, "post", "/reset")
    assert json.loads(live.call("GET", "/v1/threads").body)["data"] == []


@COPIES
def test_reset_forgets_idempotency_keys(mocked: FlaskClient) -> None:
    def created() -> str:
        headers = {"Idempotency-Key": "k"}
        return mocked.post("/v1/threads", json={}, headers=headers).json["id"]

    for _ in range(2):
        first = created()
        mocked.post("/_mock/reset")
        assert created() != first


def filled(app: Flask) -> set[str]:
    """Return the names of the tables that have rows."""
    with app.app_context(), database.snapshot() as connection:
        tables = db.metadata.tables.values()
        return {each.name for each in tables if connection.row(sa.select(each).limit(1))}


def fill_tables(client: FlaskClient) -> None:
    """Put a row at least into every table. The client gets a key, and signs in."""
    with client.application.app_context():
        secret = api_keys.create("default", "", None)
    client.environ_base["HTTP_AUTHORIZATION"] = bearer(secret)["Authorization"]
    assert until(lambda: client.get("/admin/").status_code == 302)
    for key in (secret, "wrong"):  # the failure is after the success, which would forget it
        form = {"key": key, "csrf_token": token_in(client.get("/admin/sign-in").text)}
        client.post("/admin/sign-in", data=form)
    doomed, removed, _ = (create(client, messages=[HELLO], metadata={"a": "1"}) for _ in range(3))
    client.delete(f"/v1/threads/{removed}")
    deletion = f"/admin/threads/{doomed}/delete"
    client.post(deletion, data={"csrf_token": token_in(client.get(deletion).text)})
    assistant = client.post("/v1/assistants", json={"model": "m"}).json["id"]
    body = {"assistant_id": assistant, "thread": {"messages": [HELLO]}}
    run = client.post("/v1/threads/runs", json=body, headers={"Idempotency-Key": "k"}).json
    address = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
    assert until(lambda: client.get(address).json["status"] == "completed")


@COPIES
def test_reset_empties_every_table_but_those_of_access(mocked: FlaskClient) -> None:
    fill_tables(mocked)
    assert filled(mocked.application) == set(db.metadata.tables)
    assert mocked.post("/_mock/reset").status_code == 200
    assert filled(mocked.application) == {"api_keys", "failed_sign_ins", "sessions"}


def test_reset_clears_neither_the_request_log_nor_the_faults(mocked: FlaskClient) -> None:
    mocked.get("/v1/threads")
    set_rules(mocked, {"path": "/nowhere", "status": 503})
    mocked.post("/_mock/reset")
    assert [entry["path"] for entry in log(mocked)] == ["/v1/threads"]
    assert len(mocked.get("/_mock/faults").json["rules"]) == 1


@COPIES
def test_writes_that_meet_a_reset_all_succeed(live: Server) -> None:
    answers = []

    def write() -> None:
        with live.sdk() as sdk:
            answers.extend(sdk.beta.threads.create(messages=[HELLO]) for _ in range(30))

    writers = [Task(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        control(live, "post", "/reset")
    assert len(answers) == 90


@COPIES
def test_seed_loads_threads_with_their_ids_and_times(mocked: FlaskClient) -> None:
    lines = line("thread_a", "one", "two", k="v") + b"\r\n" + line("thread_b")
    answer = mocked.post("/_mock/seed", data=lines)
    assert answer.json == {"object": "mock.seed", "threads": 2, "assistants": 0, "notes": []}
    assert threads(mocked) == ["thread_a", "thread_b"]
    thread = mocked.get("/v1/threads/thread_a").json
    assert (thread["created_at"], thread["metadata"]) == (7, {"k": "v"})


@COPIES
def test_seed_replaces_a_thread_that_exists(mocked: FlaskClient) -> None:
    mocked.post("/_mock/seed", data=line("thread_a", "one"))
    mocked.post("/_mock/seed", data=line("thread_a", "two"))
    assert threads(mocked, q="one") == []
    assert threads(mocked, q="two") == ["thread_a"]


@COPIES
def test_a_seed_of_nothing_loads_nothing(mocked: FlaskClient) -> None:
    assert mocked.post("/_mock/seed").json == {
        "object": "mock.seed",
        "threads": 0,
        "assistants": 0,
        "notes": [],
    }


@COPIES
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", "line 2: Invalid body: failed to parse JSON"),
        (b"[]", "line 2: Invalid type: expected an object"),
        (b"{}", "line 2: Missing required parameter: 'thread'"),
        (line("bad_id"), "line 2: Invalid 'thread.id': 'bad_id'"),
        (b"\xff", "line 2: Invalid body: encountered a unicode decode error"),
    ],
)
def test_a_bad_line_of_a_seed_is_400_and_named(
    mocked: FlaskClient, bad: bytes, reason: str
) -> None:
    answer = mocked.post("/_mock/seed", data=line("thread_a") + bad)
    assert fault(answer) == (400, "invalid_seed")
    assert reason in answer.json["error"]["message"]
    assert threads(mocked) == []


@COPIES
def test_restore_brings_back_threads_lists_and_searches(mocked: FlaskClient) -> None:
    thread = create(mocked, messages=[HELLO], metadata={"a": "1"})
    mocked.post("/_mock/snapshot")
    mocked.delete(f"/v1/threads/{thread}")
    other = create(mocked, messages=[{"role": "user", "content": "goodbye"}])
    assert threads(mocked, q="hello") == []
    for _ in range(2):
        assert mocked.post("/_mock/restore").json == {"object": "mock.restore"}
        assert threads(mocked) == threads(mocked, q="hello") == [thread]
        assert threads(mocked, **{"metadata[a]": "1"}) == [thread]
        assert threads(mocked, q="goodbye") == []
        assert mocked.get(f"/v1/threads/{other}").status_code == 404
        add(mocked, thread, "later words")
        assert threads(mocked, q="later") == [thread]


@COPIES
def test_a_second_snapshot_replaces_the_first(mocked: FlaskClient) -> None:
    mocked.post("/_mock/snapshot")
    thread = create(mocked)
    mocked.post("/_mock/snapshot")
    mocked.delete(f"/v1/threads/{thread}")
    mocked.post("/_mock/restore")
    assert threads(mocked) == [thread]


@COPIES
def test_restore_in_memory_brings_back_what_was_searched(live: Server) -> None:
    with live.sdk() as sdk:
        thread = sdk.beta.threads.create(messages=[HELLO])
        control(live, "post", "/snapshot")
        sdk.beta.threads.delete(thread.id)
        control(live, "post", "/restore")
        page = sdk.get("/threads", cast_to=object, options={"params": {"q": "hello"}})
    assert [each["id"] for each in page["data"]] == [thread.id]


@COPIES
def test_what_is_refused_after_a_seed_or_restore_says_what_is_done(
    mocked: FlaskClient, busy_after: Callable[[int], None]
) -> None:
    mocked.post("/_mock/snapshot")
    create(mocked)
    busy_after(1)
    answers = [mocked.post("/_mock/seed", data=line("thread_a")), mocked.post("/_mock/restore")]
    assert [fault(each) for each in answers] == [(503, "database_busy")] * 2
    told = [each.json["error"]["message"] for each in answers]
    rest = "but runs were not queued again. Try again in a second."
    assert told[0] == f"The database is busy; all lines were loaded, {rest}"
    assert told[1] == f"The database is busy; the snapshot is back, {rest}"
    assert threads(mocked) == []


@COPIES
def test_restore_without_a_snapshot_is_400(mocked: FlaskClient) -> None:
    assert fault(mocked.post("/_mock/restore")) == (400, "no_snapshot")


@COPIES
@pytest.mark.parametrize("way", ["restore", "reset"])
def test_no_key_is_brought_back_or_lost(make_app: Callable[..., Flask], way: str) -> None:
    app = make_app(MOCK="on")
    with app.app_context():
        old = api_keys.create("default", "", None)
        client = app.test_client()
        headers = bearer(old)
        client.post("/_mock/reset", headers=headers)
        client.post("/_mock/snapshot", headers=headers)
        api_keys.revoke(old)
        headers = bearer(api_keys.create("default", "", None))
        usable = {"headers": headers}
        assert until(lambda: client.post(f"/_mock/{way}", **usable).status_code == 200)
        api_keys.cache()._read_at = float("-inf")
    assert client.get("/v1/threads", **usable).status_code == 200
    answer = client.get("/v1/threads", headers=bearer(old))
    assert fault(answer) == (401, "invalid_api_key")


# THREADS_SEED


def test_the_seed_is_there_at_the_start(serve: Callable[..., Any], seed_file: Path) -> None:
    with serve(SEED=seed_file) as server, server.sdk() as sdk:
        assert sdk.beta.threads.retrieve("thread_seed").created_at == 7


def test_only_an_empty_database_is_seeded(
    serve: Callable[..., Any], seed_file: Path, client: FlaskClient, database_url: str
) -> None:
    create(client)
    with (
        serve(SEED=seed_file, DATABASE_URL=database_url) as server,
        server.sdk() as sdk,
        pytest.raises(openai.NotFoundError),
    ):
        sdk.beta.threads.retrieve("thread_seed")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory."),
        (b"\n{\n", "2: Invalid body: failed to parse JSON value."),
        (line("bad_id"), "1: Invalid 'thread.id': 'bad_id'."),
    ],
    ids=["missing", "no-json", "no-thread"],
)
def test_a_bad_seed_stops_the_start_with_one_line(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_bytes(content)
    [message] = refusal(tmp_path / "log", SEED=path)
    assert message.startswith(f"THREADS_SEED: {path}:")
    assert reason in message


def test_a_seed_with_a_bad_line_far_down_leaves_the_database_empty(
    client_with: Callable[..., FlaskClient], tmp_path: Path, database_url: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"".join(line(f"thread_{number}", "x") for number in range(600)) + b"{\n")
    refusal(tmp_path / "log", SEED=path, DATABASE_URL=database_url)
    assert threads(client_with()) == []


# faults


@pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 503, 599])
def test_a_fault_answers_with_its_status_in_the_envelope(mocked: FlaskClient, status: int) -> None:
    set_rules(mocked, {"status": status})
    answer = mocked.get("/v1/threads")
    code = "rate_limit_exceeded" if status == 429 else "injected_fault"
    assert fault(answer) == (status, code)
    assert answer.json["error"].keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_fault_stops_the_request_before_it_changes_anything(mocked: FlaskClient) -> None:
    set_rules(mocked, {"method": "POST", "status": 503})
    mocked.post("/v1/threads", json={})
    assert threads(mocked) == []


@pytest.mark.parametrize(
    ("rule", "hit", "missed"),
    [
        ({"method": "POST"}, [("POST", "/v1/threads")], [("GET", "/v1/threads")]),
        (
            {"path": "/v1/threads*"},
            [("POST", "/v1/threads"), ("GET", "/v1/threads/thread_a/messages")],
            [("POST", "/threads"), ("GET", "/healthz")],
        ),
        (
            {"path": "*/messages"},
            [("GET", "/threads/thread_a/messages"), ("GET", "/v1/threads/thread_a/messages")],
            [("GET", "/v1/threads/thread_a/messages/msg_a"), ("GET", "/v1/threads")],
        ),
        ({"path": "/v1/threads"}, [("GET", "/v1/threads?limit=1")], [("GET", "/v1/threads/t")]),
        ({"method": "DELETE", "path": "*"}, [("DELETE", "/v1/threads/t")], [("POST", "/threads")]),
    ],
)
def test_a_rule_matches_its_method_and_path_only(
    mocked: FlaskClient, rule: Any, hit: list[tuple[str, str]], missed: list[tuple[str, str]]
) -> None:
    set_rules(mocked, {"status": 503, **rule})
    assert {mocked.open(path, method=method).status_code for method, path in hit} == {503}
    assert 503 not in {mocked.open(path, method=method).status_code for method, path in missed}


def test_the_controls_themselves_never_fail(mocked: FlaskClient) -> None:
    set_rules(mocked, {"path": "*", "status": 503})
    headers = {"X-Mock-Fault": "503"}
    assert mocked.delete("/_mock/faults", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([{"status": 503, "times": 2}], [503, 503, 200, 200]),
        ([{"status": 503, "every": 3, "times": 2}], [200, 200, 503] * 2 + [200] * 3),
        ([{"status": 503, "rate": 0}], [200] * 10),
        ([{"status": 503, "rate": 1}], [503] * 10),
        ([{"status": 503, "rate": 1.0}], [503] * 10),
        ([{"status": 500, "times": 1}, {"status": 501}, {"status": 502}], [500, 501, 501]),
    ],
    ids=["times", "every", "never", "always", "always-as-decimal", "first-that-is-due"],
)
def test_a_rule_says_which_requests_fail(
    mocked: FlaskClient, rules: list[Any], expected: list[int]
) -> None:
    set_rules(mocked, *rules)
    assert statuses(mocked, len(expected)) == expected


def test_a_rate_with_a_seed_repeats(mocked: FlaskClient) -> None:
    runs = []
    for _ in range(2):
        set_rules(mocked, {"status": 503, "rate": 0.5, "seed": 3})
        runs.append(statuses(mocked, 40))
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}


def test_rules_are_shown_with_their_counts(mocked: FlaskClient) -> None:
    rule = {"path": "/healthz", "status": 503, "every": 2}
    set_rules(mocked, rule)
    statuses(mocked, 5, "/healthz")
    statuses(mocked, 1, "/docs")
    assert mocked.get("/_mock/faults").json == {"rules": [{**rule, "matched": 5, "fired": 2}]}


def test_new_rules_replace_the_old_ones_and_cleared_rules_are_gone(mocked: FlaskClient) -> None:
    set_rules(mocked, {"status": 503})
    set_rules(mocked, {"path": "/docs", "status": 503})
    assert statuses(mocked, 1) == [200]
    set_rules(mocked, {"status": 503})
    assert mocked.delete("/_mock/faults").json == {"rules": []}
    assert statuses(mocked, 1) == [200]


@pytest.mark.parametrize(
    ("rule", "after", "after_ms"),
    [
        ({}, "1", "10"),
        ({"retry_after": 3, "retry_after_ms": 0}, "3", "0"),
        ({"retry_after": 3}, "3", None),
        ({"retry_after_ms": 20}, None, "20"),
        ({"status": 503, "retry_after": 3}, "3", None),
    ],
)
def test_a_fault_says_when_to_retry(
    mocked: FlaskClient, rule: Any, after: str | None, after_ms: str | None
) -> None:
    """SDKs obey retry-after-ms first: a default beside the rule's own time would undo it."""
    set_rules(mocked, {"status": 429, **rule})
    headers = mocked.get("/v1/threads").headers
    assert (headers.get("retry-after"), headers.get("retry-after-ms")) == (after, after_ms)


def test_a_rule_may_play_any_error_object(mocked: FlaskClient) -> None:
    error = {"message": "Run run_a is active.", "type": "odd", "param": "run", "code": None}
    set_rules(mocked, {"status": 400, **error})
    answer = mocked.post("/threads")
    assert (answer.status_code, answer.json) == (400, {"error": error})


@pytest.mark.parametrize(
    ("rule", "header"),
    [({"should_retry": True}, "true"), ({"should_retry": False}, "false"), ({}, None)],
)
def test_a_rule_may_send_should_retry(mocked: FlaskClient, rule: Any, header: Any) -> None:
    set_rules(mocked, {"status": 500, **rule})
    assert mocked.get("/v1/threads").headers.get("x-should-retry") == header


@pytest.mark.parametrize("delay", [40, [40, 60], [60, 40]], ids=str)
def test_a_delay_lasts_at_least_as_long_as_asked(mocked: FlaskClient, delay: Any) -> None:
    set_rules(mocked, {"delay_ms": delay})
    assert mocked.get("/v1/threads").status_code == 200
    assert log(mocked)[0]["milliseconds"] >= 40


@pytest.mark.parametrize("delay", ["40ms", "0ms"])
def test_a_header_delays_one_request(mocked: FlaskClient, delay: str) -> None:
    assert mocked.get("/v1/threads", headers={"X-Mock-Delay": delay}).status_code == 200
    assert log(mocked)[0]["milliseconds"] >= int(delay.removesuffix("ms"))


def test_faults_leave_the_preflights_of_pages_alone(
    client_with: Callable[..., FlaskClient],
) -> None:
    client = client_with(CORS_ORIGINS=["http://page.example"])
    set_rules(client, {"status": 503, "times": 1})
    asks = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/v1/threads", headers=asks).status_code == 200
    assert client.post("/v1/threads").status_code == 503
    assert [entry["method"] for entry in log(client)] == ["POST"]


def test_cleared_rules_let_the_requests_go_that_they_delay(serve: Callable[..., Any]) -> None:
    with serve(WORKER_THREADS=4) as server, ExitStack() as stack:
        control(server, "post", "/faults", {"rules": [{"path": "/healthz", "delay_ms": 60_000}]})
        delayed = [HTTPConnection(*server.address, timeout=20) for _ in range(3)]
        for connection in delayed:
            stack.enter_context(closing(connection)).request("GET", "/healthz")
        assert until(lambda: control(server, "get", "/faults")["rules"][0]["fired"] == 3)
        control(server, "delete", "/faults")
        assert [connection.getresponse().status for connection in delayed] == [200] * 3


def test_a_delayed_request_whose_client_gave_up_is_not_stored(serve: Callable[..., Any]) -> None:
    """It does not hold its thread either: here all of them waited."""
    with serve(WORKER_THREADS=2) as server:
        control(server, "post", "/faults", {"rules": [{"method": "POST", "delay_ms": 60_000}]})
        for _ in range(2):
            with closing(HTTPConnection(*server.address, timeout=20)) as connection:
                connection.request("POST", "/v1/threads")

        def given_up() -> list[int]:
            logged = control(server, "get", "/requests", path="/v1/threads")["data"]
            return [entry["status"] for entry in logged]

        assert until(lambda: given_up() == [503, 503])
        control(server, "delete", "/faults")
        assert json.loads(server.call("GET", "/v1/threads").body)["data"] == []


def test_a_header_fails_one_request(mocked: FlaskClient) -> None:
    assert fault(mocked.get("/healthz", headers={"X-Mock-Fault": "503"})) == (503, "injected_fault")
    assert statuses(mocked, 1) == [200]


def test_a_header_delays_and_fails_together(mocked: FlaskClient) -> None:
    headers = {"X-Mock-Fault": "500", "X-Mock-Delay": "40ms"}
    assert mocked.get("/v1/threads", headers=headers).status_code == 500
    assert log(mocked)[0]["milliseconds"] >= 40


def test_a_header_goes_before_the_rules_and_leaves_their_counts(mocked: FlaskClient) -> None:
    set_rules(mocked, {"status": 500, "times": 1})
    assert mocked.get("/healthz", headers={"X-Mock-Fault": "429"}).status_code == 429
    assert statuses(mocked, 2) == [500, 200]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Mock-Fault", "200"),
        ("X-Mock-Fault", "600"),
        ("X-Mock-Fault", "50x"),
        ("X-Mock-Fault", "Drop"),
        ("X-Mock-Delay", "250"),
        ("X-Mock-Delay", "-1ms"),
        ("X-Mock-Delay", "0.5s"),
        ("X-Mock-Delay", "61s"),
        ("X-Mock-Delay", "99999ms"),
    ],
)
def test_a_bad_mock_header_is_a_clear_400(mocked: FlaskClient, name: str, value: str) -> None:
    answer = mocked.get("/healthz", headers={name: value})
    assert fault(answer) == (400, "invalid_value")
    assert name in answer.json["error"]["message"]


@COPIES
def test_the_sdk_retries_two_429s_into_one_object_and_three_log_rows(live: Server) -> None:
    rule = {"method": "POST", "path": "/v1/threads*", "status": 429, "times": 2}
    control(live, "post", "/faults", {"rules": [rule]})
    with live.sdk(max_retries=2) as sdk:
        thread = sdk.beta.threads.create(metadata={"a": "1"})
        page = sdk.get("/threads", cast_to=object)
    assert [each["id"] for each in page["data"]] == [thread.id]
    rows = control(live, "get", "/requests", path="/v1/threads")["data"][:-1]
    assert [(row["method"], row["status"]) for row in rows] == [
        ("POST", 429),
        ("POST", 429),
        ("POST", 200),
    ]
    assert [row["body"] for row in rows] == [{"metadata": {"a": "1"}}] * 3


@COPIES
@pytest.mark.parametrize(
    ("rule", "rows"),
    [({"status": 503, "should_retry": False}, 1), ({"status": 400, "should_retry": True}, 3)],
    ids=str,
)
def test_the_sdk_obeys_should_retry(live: Server, rule: Any, rows: int) -> None:
    control(live, "post", "/faults", {"rules": [{"path": "/v1/threads", **rule}]})
    with live.sdk(max_retries=2) as sdk, pytest.raises(openai.APIStatusError):
        sdk.beta.threads.create()
    assert len(control(live, "get", "/requests")["data"]) == rows


@COPIES
def test_the_sdk_sends_one_off_faults_as_extra_headers(live: Server) -> None:
    headers = {"X-Mock-Fault": "429", "X-Mock-Delay": "1ms"}
    with live.sdk() as sdk, pytest.raises(openai.RateLimitError):
        sdk.beta.threads.create(extra_headers=headers)


@COPIES
@pytest.mark.parametrize("by", ["rule", "header"])
@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_a_dropped_connection_is_one_whether_or_not_the_change_was_stored(
    live: Server, by: str, when: str, stored: int
) -> None:
    headers = {"X-Mock-Fault": {"before": "drop", "after": "drop-after"}[when]}
    if by == "rule":
        headers = {}
        control(live, "post", "/faults", {"rules": [{"drop": when, "times": 1}]})
    with live.sdk() as sdk:
        with pytest.raises(openai.APIConnectionError):
            sdk.beta.threads.create(extra_headers=headers)
        assert len(sdk.get("/threads", cast_to=object)["data"]) == stored


@COPIES
def test_a_dropped_connection_leaves_only_json_on_stderr(live: Server) -> None:
    before = len(live.log.read_text().splitlines())
    with live.sdk() as sdk, pytest.raises(openai.APIConnectionError):
        sdk.beta.threads.create(extra_headers={"X-Mock-Fault": "drop-after"})
    control(live, "get", "/requests")
    lines = live.log.read_text().splitlines()[before:]
    assert {json.loads(each).get("level") for each in lines} == {None}


@pytest.mark.parametrize("size", [20_000, MAX_FORM_BYTES + 1])
def test_a_fault_reads_no_form_above_its_limit(mocked: FlaskClient, size: int) -> None:
    headers = {"X-Mock-Fault": "503"}
    answer = mocked.post("/admin/sign-in", data={"key": "k" * size}, headers=headers)
    assert answer.status_code == (413 if size > MAX_FORM_BYTES else 503)


# ids and clock


@COPIES
def test_ids_repeat_from_a_seed(mocked: FlaskClient) -> None:
    def ids() -> tuple[str, str]:
        mocked.post("/_mock/reset")
        assert mocked.put("/_mock/ids", json={"seed": 7}).json == {"seed": 7}
        thread = create(mocked)
        return thread, add(mocked, thread, "hello").json["id"]

    assert ids() == ids()


@pytest.mark.parametrize("seed", [8, None])
def test_another_seed_gives_other_ids_and_null_random_ones(
    mocked: FlaskClient, seed: int | None
) -> None:
    mocked.put("/_mock/ids", json={"seed": 7})
    first = create(mocked)
    mocked.put("/_mock/ids", json={"seed": 7})
    assert mocked.put("/_mock/ids", json={"seed": seed}).json == {"seed": seed}
    assert create(mocked) != first


def test_ids_of_a_seed_look_like_any_other(mocked: FlaskClient) -> None:
    mocked.put("/_mock/ids", json={"seed": -1})
    body = {"tool_resources": {"file_search": {"vector_stores": [{}]}}}
    thread = mocked.post("/v1/threads", json=body).json
    assert len(thread["id"]) == len("thread_") + 24
    assert len(thread["tool_resources"]["file_search"]["vector_store_ids"][0]) == 35


@pytest.mark.sqlite_only("with many writers a repeated id is taken for a race, and answered 503")
def test_an_id_that_exists_already_is_a_clear_400(mocked: FlaskClient) -> None:
    for _ in range(2):
        mocked.put("/_mock/ids", json={"seed": 7})
        answer = mocked.post("/v1/threads", json={})
    assert fault(answer) == (400, "id_exists")
    assert "/_mock/reset" in answer.json["error"]["message"]


def test_a_frozen_clock_stands(mocked: FlaskClient) -> None:
    assert mocked.put("/_mock/clock", json={"frozen_at": FROZEN}).json == {"now": FROZEN}
    thread = create(mocked)
    assert mocked.get(f"/v1/threads/{thread}").json["created_at"] == FROZEN
    assert add(mocked, thread, "hello").json["created_at"] == FROZEN


@pytest.mark.parametrize("offset", [3600, -3600])
def test_a_frozen_clock_is_moved(mocked: FlaskClient, offset: int) -> None:
    body = {"frozen_at": FROZEN, "offset_seconds": offset}
    assert mocked.put("/_mock/clock", json=body).json == {"now": FROZEN + offset}


@pytest.mark.parametrize("offset", [86_400, -86_400])
def test_a_moved_clock_runs_on_from_there(mocked: FlaskClient, offset: int) -> None:
    before = mocked.post("/v1/threads").json["created_at"]
    mocked.put("/_mock/clock", json={"offset_seconds": offset})
    moved = mocked.post("/v1/threads").json["created_at"]
    assert 0 <= moved - before - offset <= 60


@pytest.mark.parametrize("body", [None, {}, {"frozen_at": None}], ids=str)
def test_the_clock_is_set_right_again(mocked: FlaskClient, body: Any) -> None:
    before = mocked.post("/v1/threads").json["created_at"]
    mocked.put("/_mock/clock", json={"frozen_at": 1})
    mocked.put("/_mock/clock", json=body)
    assert mocked.post("/v1/threads").json["created_at"] >= before


# bad control requests


@pytest.mark.parametrize(
    ("rule", "param", "code"),
    [
        ({"status": 200}, "rules[0].status", "integer_below_min_value"),
        ({"status": 600}, "rules[0].status", "integer_above_max_value"),
        ({"status": "503"}, "rules[0].status", "invalid_type"),
        ({"method": "PATCH"}, "rules[0].method", "invalid_value"),
        ({"path": ""}, "rules[0].path", "empty_string"),
        ({"path": 1}, "rules[0].path", "invalid_type"),
        ({"delay_ms": -1}, "rules[0].delay_ms", "integer_below_min_value"),
        ({"delay_ms": 60_001}, "rules[0].delay_ms", "integer_above_max_value"),
        ({"delay_ms": [1]}, "rules[0].delay_ms", "invalid_type"),
        ({"delay_ms": "1ms"}, "rules[0].delay_ms", "invalid_type"),
        ({"drop": "now"}, "rules[0].drop", "invalid_value"),
        ({"times": 0}, "rules[0].times", "integer_below_min_value"),
        ({"times": 10**9 + 1}, "rules[0].times", "integer_above_max_value"),
        ({"every": 0}, "rules[0].every", "integer_below_min_value"),
        ({"rate": 1.1}, "rules[0].rate", "invalid_type"),
        ({"rate": True}, "rules[0].rate", "invalid_type"),
        ({"seed": "a"}, "rules[0].seed", "invalid_type"),
        ({"should_retry": "no"}, "rules[0].should_retry", "invalid_type"),
        ({"retry_after": -1}, "rules[0].retry_after", "integer_below_min_value"),
        ({}, "rules[0].status", "invalid_value"),
        ({"path": "/v1/*", "times": 1}, "rules[0].status", "invalid_value"),
        ({"retry_after": 1}, "rules[0].retry_after", "invalid_value"),
        ({"delay_ms": 1, "retry_after_ms": 1}, "rules[0].retry_after_ms", "invalid_value"),
        ({"drop": "before", "should_retry": True}, "rules[0].should_retry", "invalid_value"),
        ({"status": 503, "drop": "after"}, "rules[0].drop", "invalid_value"),
        ({"statuss": 503}, "rules[0].statuss", "unknown_parameter"),
        ("503", "rules[0]", "invalid_type"),
    ],
)
def test_a_bad_rule_is_400_and_leaves_the_rules_as_they_were(
    mocked: FlaskClient, rule: Any, param: str, code: str
) -> None:
    set_rules(mocked, {"path": "/kept", "status": 503})
    answer = mocked.post("/_mock/faults", json={"rules": [rule]})
    assert fault(answer) == (400, code)
    assert answer.json["error"]["param"] == param
    assert [each["path"] for each in mocked.get("/_mock/faults").json["rules"]] == ["/kept"]


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/_mock/faults", None, "rules"),
        ("POST", "/_mock/faults", {}, "rules"),
        ("POST", "/_mock/faults", {"rules": {}}, "rules"),
        ("POST", "/_mock/faults", {"rules": [{}] * 101}, "rules"),
        ("POST", "/_mock/faults", [], None),
        ("GET", "/_mock/requests?path=", None, "path"),
        ("GET", "/_mock/requests?method=GET", None, "method"),
        ("GET", "/_mock/requests?since=a&since=b", None, "since"),
        ("PUT", "/_mock/ids", None, "seed"),
        ("PUT", "/_mock/ids", {"seed": "a"}, "seed"),
        ("PUT", "/_mock/ids", {"seed": 1.5}, "seed"),
        ("PUT", "/_mock/clock", {"frozen_at": -1}, "frozen_at"),
        ("PUT", "/_mock/clock", {"frozen_at": "now"}, "frozen_at"),
        ("PUT", "/_mock/clock", {"offset_seconds": 1.5}, "offset_seconds"),
        ("PUT", "/_mock/clock", {"offset_seconds": None}, "offset_seconds"),
        ("PUT", "/_mock/clock", {"frozen_at": 1, "offset_seconds": -2}, "offset_seconds"),
        ("PUT", "/_mock/clock", {"offset_seconds": MAX_SECONDS}, "offset_seconds"),
        ("PUT", "/_mock/clock", {"now": 1}, "now"),
    ],
    ids=str,
)
def test_a_bad_control_request_is_a_clear_400(
    mocked: FlaskClient, method: str, path: str, body: Any, param: str | None
) -> None:
    answer = mocked.open(path, method=method, json=body)
    assert answer.status_code == 400
    assert answer.json["error"]["param"] == param


def test_a_control_that_is_no_json_is_415(mocked: FlaskClient) -> None:
    answer = mocked.post("/_mock/faults", data="rules", content_type="text/plain")
    assert fault(answer) == (415, "unsupported_media_type")


# pages in a real browser

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
SUBMIT = """url => {
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", action: url });
    document.body.append(form);
    form.submit();
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_page() as page:
        yield page


def fetch_text(page: Page, url: str, options: dict[str, Any]) -> str:
    """Fetch an address from a page; return what its script gets to see."""
    script = "([url, options]) => fetch(url, options).then(a => a.text(), e => e.name)"
    text: str = page.evaluate(script, [url, options])
    return text


@COPIES
@HOSTS
@pytest.mark.parametrize("path", ["/_mock/reset", "/_mock/faults"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "TypeError"),
        ({"mode": "no-cors"}, ""),
        ({"mode": "no-cors", "credentials": "include", "body": "{}"}, ""),
        ({"headers": {"Content-Type": "application/json"}, "body": '{"rules": []}'}, "TypeError"),
    ],
    ids=["plain", "no-cors", "with-credentials", "json"],
)
def test_a_page_of_another_origin_cannot_use_the_controls(
    live: Server, page: Page, pages: int, host: str, path: str, options: Any, text: str
) -> None:
    with live.sdk() as sdk:
        thread = sdk.beta.threads.create()
        page.goto(f"http://{host}:{pages}/")
        assert fetch_text(page, live.root_url + path, {"method": "POST", **options}) == text
        assert sdk.beta.threads.retrieve(thread.id) == thread


@COPIES
@HOSTS
def test_a_form_of_another_origin_cannot_reset(
    live: Server, page: Page, pages: int, host: str
) -> None:
    with live.sdk() as sdk:
        thread = sdk.beta.threads.create()
        page.goto(f"http://{host}:{pages}/")
        with page.expect_navigation(url=f"{live.root_url}/_mock/reset") as answer:
            page.evaluate(SUBMIT, f"{live.root_url}/_mock/reset")
        assert answer.value.status == 403
        assert sdk.beta.threads.retrieve(thread.id) == thread


@COPIES
@HOSTS
@pytest.mark.parametrize("path", ["/v1/threads", "/_mock/requests"])
@pytest.mark.parametrize(("mode", "text"), [("cors", "TypeError"), ("no-cors", "")])
def test_a_page_of_another_origin_cannot_read(
    live: Server, page: Page, pages: int, host: str, path: str, mode: str, text: str
) -> None:
    page.goto(f"http://{host}:{pages}/")
    assert fetch_text(page, live.root_url + path, {"mode": mode}) == text


@COPIES
def test_a_page_of_our_own_origin_can(live: Server, page: Page) -> None:
    with live.sdk() as sdk:
        thread = sdk.beta.threads.create()
        page.goto(f"{live.root_url}/healthz")
        assert thread.id in fetch_text(page, f"{live.root_url}/v1/threads", {})
        assert "mock.reset" in fetch_text(page, f"{live.root_url}/_mock/reset", {"method": "POST"})
        assert thread.id not in fetch_text(page, f"{live.root_url}/v1/threads", {})


# THREADS_REQUIRE_BETA

NO_BETA = (
    "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by "
    "setting the header 'OpenAI-Beta: assistants=v2'."
)
MALFORMED = (
    "Invalid beta header provided: '{}'. The header should be in the format "
    "'OpenAI-Beta: example_beta=v1'."
)


@pytest.mark.parametrize("path", ["/threads", "/v1/threads/thread_a/messages"])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, NO_BETA),
        ("v1", MALFORMED.format("v1")),
        ("", MALFORMED.format("")),
        ("assistants=v2,", MALFORMED.format("")),
        ("vector_stores=v1", "Unknown beta requested: 'vector_stores'."),
        ("assistants=v1", "Unknown beta requested: 'assistants=v1'."),
    ],
)
def test_a_required_beta_is_asked_for_in_the_hosted_words(
    client_with: Callable[..., FlaskClient], path: str, header: str | None, message: str
) -> None:
    client = client_with(REQUIRE_BETA=True)
    answer = client.get(path, headers={} if header is None else {"OpenAI-Beta": header})
    assert answer.status_code == 400
    assert answer.json["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_beta",
    }


@pytest.mark.parametrize("header", ["assistants=v2", "realtime=v1, assistants=v2"])
def test_a_required_beta_lets_its_requests_through(
    client_with: Callable[..., FlaskClient], header: str
) -> None:
    client = client_with(REQUIRE_BETA=True)
    assert client.get("/v1/threads", headers={"OpenAI-Beta": header}).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/_mock/faults", "/openapi.json"])
def test_a_required_beta_concerns_the_api_only(
    client_with: Callable[..., FlaskClient], path: str
) -> None:
    assert client_with(REQUIRE_BETA=True).get(path).status_code == 200


def test_the_sdk_sends_the_beta_that_is_required(serve: Callable[..., Any]) -> None:
    with serve(REQUIRE_BETA="on") as server, server.sdk() as sdk:
        assert sdk.beta.threads.create().object == "thread"
