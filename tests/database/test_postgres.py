"""PostgreSQL: order under many writers, refusals by SQLSTATE, restarts, moving over and back.

Part of `make test-postgres`, which runs all other tests on a server, too.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import clusters
import flask_migrate
import pytest
import sqlalchemy as sa
from conftest import (
    Server,
    await_ready,
    close,
    flask_process,
    launched,
    postgres_settings,
    refusal,
    serving,
    until,
)
from flask import Flask
from flask.testing import FlaskClient
from openai import APIStatusError, OpenAI

import cli
import database
from app import create_app
from config import ROOT
from database import postgres
from exchange import exports, imports
from lists import matches
from lists import threads as thread_lists
from models import DEFAULT_PROJECT, db
from rules.errors import ApiError
from store import messages, stored_answers, threads

CLIENTS = 16
RESTARTS = 5
WRITES_BETWEEN = 100
LATE = 5
USER = {"role": "user", "content": "Hi"}
BACK_SECONDS = 2


@pytest.fixture
def url(cluster: clusters.Cluster) -> Iterator[str]:
    url = cluster.new()
    yield url
    cluster.give_back(url)


@pytest.fixture
def app(url: str) -> Iterator[Flask]:
    app = create_app(postgres_settings(url))
    yield app
    close(app)


@pytest.fixture
def two(url: str, tmp_path: Path) -> Iterator[list[Server]]:
    """Two servers of two workers on one database."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(tmp_path / f"log{n}", DATABASE_URL=url, WORKERS=2))
            for n in range(2)
        ]


@pytest.fixture
def sdks(two: list[Server]) -> Iterator[list[OpenAI]]:
    """Sixteen clients, every other one of the other server."""
    with ExitStack() as stack:
        yield [stack.enter_context(two[n % 2].sdk()) for n in range(CLIENTS)]


def new_thread(app: Flask) -> str:
    with app.app_context():
        thread = database.write(
            lambda connection: threads.create_thread(connection, DEFAULT_PROJECT, {})
        )
    return str(thread["id"])


def append(
    app: Flask, thread_id: str, text: str, then: Callable[[], object] = lambda: None
) -> None:
    """Add a message; do what comes `then` before it is committed."""
    body = {"role": "user", "content": [{"type": "text", "text": text}]}

    def change(connection: database.Connection) -> None:
        messages.create_message(connection, DEFAULT_PROJECT, thread_id, body)
        then()

    with app.app_context():
        database.write(change)


def somebody_waits(app: Flask) -> bool:
    """Tell whether a statement waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with app.app_context(), database.read() as connection:
        return bool(connection.value(waiting))


def page_forward(sdk: OpenAI, thread_id: str) -> list[str]:
    pages = sdk.beta.threads.messages.list(thread_id, order="asc", limit=7)
    return [message.content[0].text.value for message in pages]


def test_an_append_waits_for_the_one_before_it(app: Flask) -> None:
    thread_id = new_thread(app)
    with ThreadPoolExecutor() as pool:
        stored, seen = threading.Event(), threading.Event()
        first = pool.submit(
            append, app, thread_id, "first", lambda: (stored.set(), seen.wait(timeout=10))
        )
        assert stored.wait(timeout=10)
        second = pool.submit(append, app, thread_id, "second")
        waits = until(lambda: somebody_waits(app))
        seen.set()
        assert waits
        first.result()
        second.result()
    texts = [message["content"][0]["text"]["value"] for message in messages_of(app, thread_id)]
    assert texts == ["second", "first"]


def messages_of(app: Flask, thread_id: str) -> list[dict[str, Any]]:
    return list(app.test_client().get(f"/threads/{thread_id}/messages").json["data"])


def test_a_forward_reader_never_passes_a_message(app: Flask, sdks: list[OpenAI]) -> None:
    """A reader follows the end of a thread while fifteen clients append.

    Some appends take their place early and commit late. Each message comes once.
    """
    thread_id = sdks[0].beta.threads.create().id
    texts: list[str] = []
    pages: list[int] = []

    def wait_for_two_pages() -> None:
        count = len(pages)
        until(lambda: len(pages) > count + 1, seconds=0.2)

    def write_late() -> None:
        for turn in range(LATE):
            append(app, thread_id, f"late {turn}", then=wait_for_two_pages)

    def write(number: int) -> None:
        for turn in range(20):
            content = f"{number} {turn}"
            sdks[number].beta.threads.messages.create(thread_id, role="user", content=content)

    def follow(done: threading.Event) -> None:
        last: dict[str, str] = {}
        while True:
            ended = done.is_set()
            page = sdks[0].beta.threads.messages.list(thread_id, order="asc", limit=7, **last)
            pages.append(len(page.data))
            texts.extend(message.content[0].text.value for message in page.data)
            if page.data:
                last = {"after": page.data[-1].id}
            elif ended:
                return

    done = threading.Event()
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        reader = pool.submit(follow, done)
        late = pool.submit(write_late)
        try:
            list(pool.map(write, range(1, CLIENTS)))
            late.result()
        finally:
            done.set()
        reader.result()
    assert len(texts) == len(set(texts)) == 20 * (CLIENTS - 1) + LATE
    assert texts == page_forward(sdks[1], thread_id)


def test_rows_that_were_there_are_paged_once_while_others_come_and_go(sdks: list[OpenAI]) -> None:
    initial = [f"initial {number}" for number in range(300)]
    messages: Any = [{"role": "user", "content": text} for text in initial]
    thread_id = sdks[0].beta.threads.create(messages=messages).id
    stop = threading.Event()

    def churn(sdk: OpenAI) -> None:
        while not stop.is_set():
            message = sdk.beta.threads.messages.create(thread_id, role="user", content="passing")
            sdk.beta.threads.messages.delete(message.id, thread_id=thread_id)

    with ThreadPoolExecutor(4) as pool:
        churning = [pool.submit(churn, sdk) for sdk in sdks[:4]]
        try:
            forward = page_forward(sdks[4], thread_id)
            pages = sdks[5].beta.threads.messages.list(thread_id, order="desc", limit=7)
            backward = [message.content[0].text.value for message in pages]
        finally:
            stop.set()
        for each in churning:
            each.result()
    assert [text for text in forward if text != "passing"] == initial
    assert [text for text in backward if text != "passing"] == initial[::-1]


def test_one_idempotency_key_on_two_servers_makes_one_thread(sdks: list[OpenAI]) -> None:
    def create(sdk: OpenAI) -> str:
        headers = {"Idempotency-Key": "once"}
        return sdk.beta.threads.create(metadata={"a": "1"}, extra_headers=headers).id

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [*pool.map(create, sdks), *pool.map(create, sdks)]
    assert len(set(answers)) == 1
    with pytest.raises(APIStatusError) as caught:
        sdks[0].beta.threads.create(extra_headers={"Idempotency-Key": "once"})
    assert caught.value.status_code == 422
    page = sdks[1].get("/threads", cast_to=dict[str, Any])
    assert [thread["id"] for thread in page["data"]] == answers[:1]


def test_servers_that_start_at_once_make_one_schema(
    cluster: clusters.Cluster, tmp_path: Path
) -> None:
    cluster.command("CREATE DATABASE empty TEMPLATE template0")
    settings = {"DATABASE_URL": cluster.url("empty")}
    with ExitStack() as stack:
        logs = [tmp_path / f"log{number}" for number in range(3)]
        started = [stack.enter_context(launched(log, **settings)) for log in logs]
        for process, log in zip(started, logs, strict=True):
            with await_ready(process, log).sdk() as sdk:
                assert sdk.beta.threads.create().id
    cluster.command("DROP DATABASE empty WITH (FORCE)")


@pytest.mark.parametrize(
    ("sqlstate", "status", "code", "header"),
    [
        ("40001", 503, "database_busy", ("Retry-After", "1")),
        ("40P01", 503, "database_busy", ("Retry-After", "1")),
        ("55P03", 503, "database_busy", ("Retry-After", "1")),
        ("57014", 503, "database_busy", ("Retry-After", "1")),
        ("23505", 503, "database_busy", ("Retry-After", "1")),
        ("08006", 503, "database_unavailable", ("Retry-After", "5")),
        ("25006", 503, "database_unavailable", ("Retry-After", "5")),
        ("53300", 503, "database_unavailable", ("Retry-After", "5")),
        ("57P03", 503, "database_unavailable", ("Retry-After", "5")),
        ("53100", 507, "disk_full", ("x-should-retry", "false")),
        ("22012", 500, None, ("x-should-retry", "false")),
    ],
)
def test_an_error_before_the_commit_says_whether_to_try_again(
    app: Flask, sqlstate: str, status: int, code: str | None, header: tuple[str, str]
) -> None:
    fail = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"
    with app.app_context(), pytest.raises(ApiError) as caught:
        database.write(lambda connection: connection.change(fail))
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.headers == dict([header])


@pytest.mark.parametrize(("at_commit", "status"), [(False, 503), (True, 500)])
def test_a_connection_lost_at_the_commit_leaves_its_outcome_open(
    app: Flask, at_commit: bool, status: int
) -> None:
    def terminate(pid: int) -> None:
        with database.read() as other:
            other.value(f"SELECT pg_terminate_backend({pid}, 5000)")

    def lose(connection: database.Connection) -> None:
        terminate(connection.value("SELECT pg_backend_pid()"))
        if not at_commit:
            connection.value("SELECT 1")

    with app.app_context(), pytest.raises(ApiError) as caught:
        database.write(lose)
    assert caught.value.status == status
    assert (status == 500) == (caught.value.headers == {"x-should-retry": "false"})
    assert app.test_client().post("/threads").status_code == 200


def test_a_write_that_waits_too_long_for_a_row_is_refused_as_busy(app: Flask) -> None:
    thread_id = new_thread(app)
    address, body = f"/threads/{thread_id}/messages", {"role": "user", "content": "x"}

    def hold(connection: database.Connection) -> Any:
        connection.rows("SELECT 1 AS one FROM threads FOR UPDATE")
        return pool.submit(lambda: app.test_client().post(address, json=body)).result()

    with app.app_context(), ThreadPoolExecutor() as pool:
        answer = database.write(hold)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def a_run(client: FlaskClient) -> tuple[str, str, str]:
    """Store a run that has ended; return the addresses of its thread, message and run."""
    assistant = client.post("/v1/assistants", json={"model": "m"}).json["id"]
    body = {"assistant_id": assistant, "thread": {"messages": [USER]}}
    run = client.post("/v1/threads/runs", json=body).json
    thread = f"/v1/threads/{run['thread_id']}"
    address = f"{thread}/runs/{run['id']}"
    assert until(lambda: client.get(address).json["status"] == "completed")
    message = client.get(f"{thread}/messages?order=asc").json["data"][0]["id"]
    return thread, f"{thread}/messages/{message}", address


@pytest.mark.parametrize("body", [{}, {"metadata": {"a": "1"}}], ids=["empty", "metadata"])
@pytest.mark.parametrize("kind", ["thread", "message", "run"])
def test_a_deletion_waits_for_a_modify_and_forgets_its_answer(
    app: Flask, monkeypatch: pytest.MonkeyPatch, kind: str, body: dict[str, Any]
) -> None:
    client, keep = app.test_client(), stored_answers.keep
    thread, message, run = a_run(client)
    address = {"thread": thread, "message": message, "run": run}[kind]
    kept, seen = threading.Event(), threading.Event()

    def keep_and_wait(*arguments: Any) -> None:
        keep(*arguments)
        kept.set()
        seen.wait(timeout=10)

    def modify() -> Any:
        key = {"Idempotency-Key": "key"}
        return app.test_client().post(address, json=body, headers=key)

    monkeypatch.setattr(stored_answers, "keep", keep_and_wait)
    with ThreadPoolExecutor() as pool:
        modified = pool.submit(modify)
        assert kept.wait(timeout=10)
        deleted = pool.submit(app.test_client().delete, thread)
        assert until(lambda: deleted.done() or somebody_waits(app))
        seen.set()
        assert (modified.result().status_code, deleted.result().status_code) == (200, 200)
    assert modify().json["error"]["code"] == "object_deleted"


def test_a_search_that_takes_too_long_is_refused(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(matches.ON_POSTGRES, "many", "SELECT pg_sleep(5), :q, :most")
    monkeypatch.setattr(thread_lists, "SEARCH_SECONDS", 0.05)
    answer = app.test_client().get("/threads?q=x")
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "search_too_broad")


MANY_THREADS = (
    """
    INSERT INTO threads (project, id, created_at, metadata, tool_resources)
    SELECT 'default', 'thread_' || n, n, '{}', '{}' FROM generate_series(1, 3000) AS n
    """,
    """
    INSERT INTO messages
        (thread_seq, id, created_at, status, role, content, attachments, metadata)
    SELECT
        seq, 'msg_' || n, created_at, 'completed', 'user',
        '[{"type":"text","text":{"value":"'
        || CASE created_at WHEN 9 THEN 'zebra' ELSE 'horse' END
        || '","annotations":[]}}]',
        '[]', '{}'
    FROM threads, generate_series(1, 10) AS n
    """,
    "ANALYZE",
)


def test_a_search_for_a_rare_word_reads_its_matches_only(app: Flask) -> None:
    with app.app_context(), db.engine.begin() as connection:
        for statement in MANY_THREADS:
            connection.exec_driver_sql(statement)
    before = messages_read(app)
    assert len(app.test_client().get("/v1/threads?q=zebra&limit=1").json["data"]) == 1
    assert until(lambda: messages_read(app) > before)
    assert messages_read(app) - before <= 40


def messages_read(app: Flask) -> int:
    """Return how many rows of messages were read by connections that are closed."""
    with app.app_context():
        db.engine.dispose()
        read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = "
        with db.engine.connect() as connection:
            return int(connection.exec_driver_sql(read + "'messages'").scalar_one())


def test_text_of_more_words_than_an_index_entry_holds_is_stored(app: Flask) -> None:
    client = app.test_client()
    words = [" ".join(f"{part}x{number}" for number in range(25_000)) for part in range(8)]
    parts = [{"type": "text", "text": text} for text in words]
    body = {"messages": [{"role": "user", "content": parts}]}
    thread = client.post("/threads", json=body).json["id"]
    assert [each["id"] for each in client.get("/threads?q=0x7").json["data"]] == [thread]


def test_the_mock_controls_load_a_seed(url: str) -> None:
    client = create_app(postgres_settings(url) | {"MOCK": "on"}).test_client()
    thread = {"id": "thread_seed", "object": "thread", "created_at": 1, "metadata": {}}
    line = {"thread": {**thread, "tool_resources": {}}, "messages": []}
    assert client.post("/_mock/seed", json=line).json["threads"] == 1
    assert client.get("/threads/thread_seed").status_code == 200


@pytest.mark.parametrize("path", ["reset", "snapshot", "restore"])
def test_mock_controls_that_need_a_copy_are_refused(url: str, path: str) -> None:
    app = create_app(postgres_settings(url) | {"MOCK": "on"})
    answer = app.test_client().post(f"/_mock/{path}")
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "sqlite_only")


def test_an_export_comes_back_byte_for_byte(app: Flask, database_url: str, tmp_path: Path) -> None:
    with app.app_context():
        for number in range(20):
            messages = [{"role": "user", "content": [{"type": "text", "text": f"é {number} \\ ☃"}]}]
            body = {"metadata": {"k": f"{number}'\""}, "messages": messages * number}
            database.write(partial(threads.create_thread, project=DEFAULT_PROJECT, body=body))
        given = exported()
    there = create_app({"DATABASE_URL": database_url, "SECRET_KEY": "s" * 32})
    with there.app_context():
        list(imports.import_lines(DEFAULT_PROJECT, given.splitlines(), "fail"))
        over = exported()
        db.engine.dispose()
    with app.app_context():
        list(imports.import_lines(DEFAULT_PROJECT, over.splitlines(), "replace"))
        assert exported() == over == given


def test_assistants_and_runs_go_over_and_back(url: str, tmp_path: Path) -> None:
    """As docs/postgres.md says: an export of the copy is the same bytes."""
    first, back = (f"sqlite:///{tmp_path / name}" for name in ("first.db", "back.db"))
    source = cli.create_app({"DATABASE_URL": first})
    with source.app_context():
        cli.prepare_database()
        client = source.test_client()
        assistant = client.post("/v1/assistants", json={"model": "m", "instructions": "é"}).json
        body = {"assistant_id": assistant["id"], "thread": {"messages": [USER]}}
        run = client.post("/v1/threads/runs", json=body).json
        address = f"/v1/threads/{run['thread_id']}/runs/{run['id']}"
        assert until(lambda: client.get(address).json["status"] == "completed")
    close(source)
    path = tmp_path / "over.jsonl"
    path.write_text(flask_process(first, "export").stdout, "utf-8")
    for there in (url, back):
        imported = flask_process(there, "import", path)
        assert imported.stderr.endswith("imported 2, replaced 0, skipped 0, refused 0\n")
        assert flask_process(there, "export").stdout == path.read_text("utf-8")
    assert '"steps":[{"id":"step_' in path.read_text("utf-8")


def test_a_database_that_is_given_back_is_used_again_and_empty(cluster: clusters.Cluster) -> None:
    url = cluster.new()
    app = create_app(postgres_settings(url))
    first = new_thread(app)
    with app.app_context():
        db.engine.dispose()
    cluster.give_back(url)
    assert cluster.new() == url
    app = create_app(postgres_settings(url))
    client = app.test_client()
    assert client.get(f"/v1/threads/{first}").status_code == 404
    assert client.get("/v1/threads").json["data"] == []
    with app.app_context():
        db.engine.dispose()
    cluster.give_back(url)


def exported() -> bytes:
    pieces = exports.export(DEFAULT_PROJECT, {}, exports.as_jsonl)
    return b"".join(piece for some in pieces for piece in some)


def test_without_psycopg_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "database.postgres")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SystemExit, match=r"^PostgreSQL needs psycopg: .*requirements-postgres"):
        cli.create_app({"DATABASE_URL": "postgresql+psycopg://host/name"})


def test_a_server_that_does_not_answer_is_one_line_without_the_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://user:password@127.0.0.1:1/name?sslpassword=password"
    [line] = refusal(tmp_path / "log", DATABASE_URL=url)
    assert line.startswith("The database postgresql+psycopg://user:***@127.0.0.1:1/name cannot")


def test_parameters_of_the_url_are_kept_beside_our_own(cluster: clusters.Cluster) -> None:
    url = cluster.new()
    full_url = f"{url}?options=-csearch_path%3Dapp&connect_timeout=9"
    show = "SELECT current_setting('search_path') || ' ' || current_setting('jit')"
    assert postgres.look_up(full_url, show) == "app off"
    assert postgres.options(full_url, 1)["connect_args"]["connect_timeout"] == "9"
    cluster.give_back(url)


def test_a_reload_without_the_database_ends_no_server(tmp_path: Path) -> None:
    with (
        clusters.cluster() as mortal,
        serving(tmp_path / "log", DATABASE_URL=mortal.template()) as server,
    ):
        assert server.call("GET", "/healthz").status == 200
        before = server.workers()
        mortal.stop()
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: bool(server.workers()) and server.workers().isdisjoint(before))
        assert server.call("GET", "/healthz").status == 200
        assert server.call("GET", "/readyz").status == 503
        mortal.start()
        assert until(lambda: server.call("POST", "/v1/threads").status == 200)


def test_a_database_of_another_encoding_is_refused(
    cluster: clusters.Cluster, tmp_path: Path
) -> None:
    cluster.command("CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    lines = refusal(tmp_path / "log", DATABASE_URL=cluster.url("latin"))
    assert lines == ["The database needs the encoding UTF8."]


def test_restarts_under_load_lose_no_acknowledged_write(tmp_path: Path) -> None:
    with clusters.cluster(settings="") as durable:
        url = durable.template()
        with serving(tmp_path / "log", DATABASE_URL=url, WORKERS=2) as server:
            stored, waits = load_and_restart(durable, server)
            with server.sdk() as sdk:
                marks = {key for thread in all_threads(sdk) for key in thread["metadata"]}
    assert not stored - marks
    assert max(waits) < BACK_SECONDS


def load_and_restart(durable: clusters.Cluster, server: Server) -> tuple[set[str], list[float]]:
    """Create threads with four clients; return the marks of those acknowledged, and how long
    after each restart of the database the first one came."""
    stored: list[tuple[float, str]] = []
    refusals: list[APIStatusError] = []
    stop = threading.Event()

    def create(number: int) -> None:
        turn = 0
        with server.sdk() as sdk:
            while not stop.is_set():
                turn += 1
                try:
                    sdk.beta.threads.create(metadata={f"{number}-{turn}": "x"})
                    stored.append((time.monotonic(), f"{number}-{turn}"))
                except APIStatusError as error:
                    refusals.append(error)
                    stop.wait(0.05)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(create, number) for number in range(4)]
        waits = [one_restart(durable, stored, n) for n in range(RESTARTS)]
        stop.set()
        for client in clients:
            client.result()
    assert {error.status_code for error in refusals} <= {500, 503}, refusals
    for headers in (error.response.headers for error in refusals):
        assert ("retry-after" in headers) != (headers.get("x-should-retry") == "false")
    return {mark for _, mark in stored}, waits


def one_restart(durable: clusters.Cluster, stored: list[tuple[float, str]], number: int) -> float:
    count = len(stored)
    assert until(lambda: len(stored) > count + WRITES_BETWEEN)
    durable.stop("immediate" if number % 2 else "fast")
    durable.start()
    back = time.monotonic()
    until(lambda: bool(stored) and stored[-1][0] > back)
    return (stored[-1][0] if stored else float("inf")) - back


def all_threads(sdk: OpenAI) -> Iterator[dict[str, Any]]:
    after: dict[str, Any] = {}
    while True:
        options: Any = {"params": {"limit": 100, "order": "asc", **after}}
        page: Callable[..., Any] = sdk.get
        answer = page("/threads", cast_to=dict[str, Any], options=options)
        yield from answer["data"]
        if not answer["has_more"]:
            return
        after = {"after": answer["last_id"]}


def test_a_dump_restores_with_its_search(
    cluster: clusters.Cluster, app: Flask, tmp_path: Path
) -> None:
    append(app, new_thread(app), "needle")
    cluster.command("CREATE DATABASE restored TEMPLATE template0")
    tools = clusters.BINARIES[-1].parent
    source, target = (
        sa.make_url(each).set(drivername="postgresql").render_as_string()
        for each in (app.config["DATABASE_URL"], cluster.url("restored"))
    )
    dump = tmp_path / "dump"
    subprocess.run([tools / "pg_dump", "-Fc", "-f", dump, source], check=True)
    subprocess.run([tools / "pg_restore", "-e", "-d", target, dump], check=True)
    copy = create_app(postgres_settings(cluster.url("restored")))
    assert len(copy.test_client().get("/threads?q=needle").json["data"]) == 1
    with copy.app_context():
        db.engine.dispose()
    cluster.command("DROP DATABASE restored WITH (FORCE)")


def test_a_process_without_its_database_is_alive_but_not_ready(tmp_path: Path) -> None:
    with clusters.cluster() as mortal:
        app = create_app(postgres_settings(mortal.template()))
        client = app.test_client()
        with app.app_context():
            flask_migrate.Migrate(app, db, directory=str(ROOT / "migrations"))
            cli.prepare_database()
        assert client.get("/readyz").status_code == 200
        mortal.stop()
        answers = [client.get(path) for path in ("/healthz", "/readyz", "/threads")]
        assert [answer.status_code for answer in answers] == [200, 503, 503]
        mortal.start()
        assert client.get("/threads").status_code == 200
        with app.app_context():
            db.engine.dispose()


def test_an_export_that_loses_its_database_ends_and_leaves_no_thread_out() -> None:
    with clusters.cluster() as mortal:
        app = create_app(postgres_settings(mortal.template()))
        with app.app_context():
            flask_migrate.Migrate(app, db, directory=str(ROOT / "migrations"))
            cli.prepare_database()
            for _ in range(3):
                database.write(partial(threads.create_thread, project=DEFAULT_PROJECT, body={}))
            exported = exports.export(DEFAULT_PROJECT, {}, exports.as_jsonl)
            next(exported)
            mortal.stop()
            with pytest.raises(ApiError) as refusal:
                list(exported)
            assert refusal.value.status == 503
            mortal.start()
            db.engine.dispose()


def test_a_worker_that_starts_without_its_database_serves_when_that_is_back(tmp_path: Path) -> None:
    with (
        clusters.cluster() as mortal,
        serving(tmp_path / "log", DATABASE_URL=mortal.template()) as server,
    ):
        thread = json.loads(server.call("POST", "/v1/threads", {}).body)
        [worker] = server.workers()
        mortal.stop()
        os.kill(worker, signal.SIGKILL)
        assert until(lambda: server.workers() - {worker} != set())
        answers = [server.call("GET", path).status for path in ("/healthz", "/v1/threads")]
        assert answers == [200, 503]
        mortal.start()
        assert server.call("GET", f"/v1/threads/{thread['id']}").status == 200
        assert server.process.poll() is None
    [log_line] = [line for line in server.log.read_text().splitlines() if "cannot be read" in line]
    assert '"level":"error"' in log_line


@pytest.mark.parametrize("words", [["doctor"], ["backup", "copy.db"]], ids=" ".join)
def test_a_command_that_is_for_the_file_is_refused_with_one_line(
    url: str, tmp_path: Path, words: list[str]
) -> None:
    command = [sys.executable, "-m", "flask", "--app", str(ROOT / "cli.py"), *words]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"THREADS_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith("Error: This is for SQLite; ")
    assert list(tmp_path.iterdir()) == []
