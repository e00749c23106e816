"""The schema: it is what the models say, and no upgrade loses or half-changes anything."""

import gzip
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from conftest import close, launched, refusal, until
from flask import Flask
from flask.testing import FlaskClient

import cli
import database
from config import ROOT
from database import startup
from models import DEFAULT_PROJECT, SCHEMA_REVISION, Base, db
from rules.ids_and_clock import unix_now
from store import assistants, threads

FLASK = [sys.executable, "-m", "flask", "--app", "cli", "db", "upgrade", "--directory"]
RECREATE = 'with op.batch_alter_table("threads", recreate="always") as table:\n        pass'
HALF_WAY = 'op.drop_table("messages")\n    op.execute("SELECT * FROM missing")'
OLD_DATABASE = Path(__file__).parent / "revision_0006.db.gz"
ORPHAN = 'op.execute("DELETE FROM threads")'


@pytest.fixture
def stored(client: FlaskClient) -> str:
    """The address of a thread with a message, in the database of `app`."""
    body = {"messages": [{"role": "user", "content": "kept"}]}
    return f"/threads/{client.post('/threads', json=body).json['id']}"


@pytest.fixture
def upgrade(tmp_path: Path, database_url: str) -> Callable[[str], int]:
    """Run one more revision, with the given body, on the database of `app`."""

    def run(body: str) -> int:
        folder = tmp_path / "migrations"
        shutil.copytree(ROOT / "migrations", folder)
        (folder / "versions" / "next.py").write_text(
            f"from alembic import op\nrevision = 'next'\ndown_revision = {SCHEMA_REVISION!r}\n"
            f"def upgrade():\n    {body}\n"
        )
        command = [*FLASK, str(folder)]
        with launched(tmp_path / "log", command, DATABASE_URL=database_url) as process:
            return process.wait(timeout=30)

    return run


def rows_of(app: Flask, table: str) -> int:
    with app.app_context(), database.read() as connection:
        return int(connection.value(f"SELECT count(*) FROM {table}"))


def revision_of(app: Flask) -> str:
    with app.app_context(), database.read() as connection:
        return str(connection.value("SELECT version_num FROM alembic_version"))


def test_an_upgraded_database_is_what_the_models_say(app: Flask) -> None:
    with app.app_context(), db.engine.connect() as connection:
        # The tables behind the full-text search are SQLite's own.
        options = {"include_name": lambda name, *_: not (name or "").startswith("message_text")}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_the_expected_revision_is_the_newest() -> None:
    assert ScriptDirectory(str(ROOT / "migrations")).get_current_head() == SCHEMA_REVISION


@pytest.mark.sqlite_only("PostgreSQL alters a table in place and never creates it anew")
def test_an_upgrade_that_creates_threads_anew_keeps_their_messages(
    app: Flask, stored: str, upgrade: Callable[[str], int]
) -> None:
    assert upgrade(RECREATE) == 0
    assert revision_of(app) == "next"
    assert (rows_of(app, "threads"), rows_of(app, "messages")) == (1, 1)


KEYS_ARE_ON = pytest.mark.sqlite_only("PostgreSQL keeps foreign keys on during an upgrade")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(HALF_WAY, id="fails half-way"),
        pytest.param(ORPHAN, id="leaves an orphan", marks=KEYS_ARE_ON),
    ],
)
def test_an_upgrade_that_fails_changes_nothing(
    app: Flask, stored: str, upgrade: Callable[[str], int], body: str
) -> None:
    assert upgrade(body) != 0
    assert revision_of(app) == SCHEMA_REVISION
    assert (rows_of(app, "threads"), rows_of(app, "messages")) == (1, 1)


def test_a_database_of_a_newer_version_is_refused_with_one_line(
    app: Flask, database_url: str, tmp_path: Path
) -> None:
    newer = "UPDATE alembic_version SET version_num = '9999'"
    with app.app_context():
        database.write(lambda connection: connection.change(newer))
    lines = refusal(tmp_path / "log", DATABASE_URL=database_url)
    assert lines == [f"The database has schema 9999; this version knows {SCHEMA_REVISION}: update."]
    assert revision_of(app) == "9999"


@pytest.mark.sqlite_only("the test is about a file")
def test_a_file_that_is_no_database_is_refused_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)
    lines = refusal(tmp_path / "log", DATABASE_URL=f"sqlite:///{path}")
    assert lines == [f"The database {path} cannot be read: file is not a database."]
    assert path.read_text() == "not a database\n" * 100


@pytest.mark.sqlite_only("the file is SQLite's")
def test_what_upgrades_an_old_file_goes_on_with_it(tmp_path: Path) -> None:
    """The upgrade is the only one that has the file open, so its end deletes the log."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    old = cli.create_app({"DATABASE_URL": url})
    with old.app_context():
        flask_migrate.upgrade(revision="0006")
    startup.close(old)
    app = cli.create_app({"DATABASE_URL": url})
    with app.app_context():
        cli.prepare_database()
        database.write(lambda connection: threads.create_thread(connection, DEFAULT_PROJECT, {}))
    startup.close(app)


@pytest.mark.sqlite_only("the file is SQLite's")
def test_a_database_of_revision_0006_has_all_its_text_indexed(tmp_path: Path) -> None:
    """That revision indexed messages by sixteens: four of the twenty in the file are missing."""
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(OLD_DATABASE.read_bytes()))
    app = cli.create_app({"DATABASE_URL": f"sqlite:///{path}"})
    with app.app_context():
        assert _indexed(20) == list(range(16))
        cli.prepare_database()
        assert _indexed(20) == list(range(20))
        database.write(
            lambda connection: connection.change("DELETE FROM messages WHERE seq IN (1, 20)")
        )
        assert _indexed(20) == list(range(1, 19))
    startup.close(app)


def _indexed(count: int) -> list[int]:
    """Return which of the words the text index has, after a look at the whole of it."""
    with database.read() as connection:
        assert connection.value("PRAGMA integrity_check(message_text)") == "ok"
        match = "SELECT 1 FROM message_text WHERE message_text MATCH 'word{}'"
        return [number for number in range(count) if connection.value(match.format(number))]


def test_a_database_of_revision_0010_has_free_threads_that_take_runs(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Its threads, messages and assistants stay, and its triggers go on."""
    with old_database(engine, request, tmp_path, "0010") as app:

        def fill(connection: database.Connection) -> None:
            thread = "(1, 'default', 'thread_1', 5, '{\"a\":\"1\"}', '{}')"
            part = '[{"type":"text","text":{"value":"some words","annotations":[]}}]'
            connection.change(f"INSERT INTO threads VALUES {thread}")
            connection.change(
                "INSERT INTO messages (thread_seq, id, created_at, status, role, content,"
                " attachments, metadata) VALUES"
                f" (1, 'msg_1', 6, 'completed', 'user', '{part}', '[]', '{{}}')"
            )
            values = {"model": "m", "id": "asst_1", "created_at": 7}
            assistants.insert(connection, DEFAULT_PROJECT, values)

        database.write(fill)
        cli.prepare_database()
        client = app.test_client()
        for query in ("q=words", "metadata[a]=1"):
            [thread] = client.get(f"/v1/threads?{query}").json["data"]
            assert (thread["id"], thread["created_at"]) == ("thread_1", 5)
        assert client.get("/v1/threads/thread_1/runs").json["data"] == []
        body = {"role": "user", "content": "more"}
        assert client.post("/v1/threads/thread_1/messages", json=body).status_code == 200
        run = client.post("/v1/threads/thread_1/runs", json={"assistant_id": "asst_1"}).json
        address = f"/v1/threads/thread_1/runs/{run['id']}"
        assert until(lambda: client.get(address).json["status"] == "completed")
        roles = [each["role"] for each in client.get("/v1/threads/thread_1/messages").json["data"]]
        assert roles == ["assistant", "user", "user"]


def test_a_database_of_revision_0011_lists_its_threads_by_activity(
    engine: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of those of one second the one with the newest message is the last; 5 is deleted."""
    with old_database(engine, request, tmp_path, "0011") as app:

        def fill(connection: database.Connection) -> None:
            for seq, second in ((1, 5), (2, 7), (3, 6), (4, 5)):
                thread = f"({seq}, 'default', 'thread_{seq}', {second}, '{{}}', '{{}}')"
                connection.change(f"INSERT INTO threads VALUES {thread[:-1]}, NULL)")
            for seq, second in ((1, 8), (4, 8), (3, 9), (3, 2), (1, 9), (4, 9)):
                connection.change(
                    "INSERT INTO messages (thread_seq, id, created_at, status, role, content,"
                    f" attachments, metadata) SELECT {seq}, 'msg_' || count(*), {second},"
                    " 'completed', 'user', '[]', '[]', '{}' FROM messages"
                )
            place = f"('default', 0, 'thread_5', 6, 5, {unix_now()})"
            connection.change(f"INSERT INTO tombstones VALUES {place}")

        database.write(fill)
        cli.prepare_database()
        client = app.test_client()
        lists = {
            query: [each["id"][-1] for each in client.get(f"/threads?{query}").json["data"]]
            for query in ("sort=last_active_at", "sort=last_active_at&order=asc&after=thread_5")
        }
    assert [*lists.values()] == [["4", "1", "2", "3"], ["3", "2", "1", "4"]]
    assert "Upgraded 4 of 4 threads" in capsys.readouterr().err


@contextmanager
def old_database(
    engine: str, request: pytest.FixtureRequest, folder: Path, revision: str
) -> Iterator[Flask]:
    """Yield the app of a new database of an old revision, in its context."""
    url = f"sqlite:///{folder / 'old.db'}"
    if engine == "postgres":
        running = request.getfixturevalue("cluster")
        running.command("CREATE DATABASE old")
        url = running.url("old")
    app = cli.create_app({"DATABASE_URL": url, "SECRET_KEY": "s" * 32})
    with app.app_context():
        flask_migrate.upgrade(revision=revision)
        yield app
    close(app)
    if engine == "postgres":
        running.command("DROP DATABASE old WITH (FORCE)")


@pytest.mark.sqlite_only("the file is SQLite's")
def test_a_database_of_revision_0007_knows_its_newest_seconds_and_stored_objects(
    tmp_path: Path,
) -> None:
    """Threads of the future were imported, so they do not count."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    old = cli.create_app({"DATABASE_URL": url})
    answers = {"t": '{"id":"thread_1"}', "m": '{"id":"msg_1","thread_id":"thread_1"}'}
    with old.app_context():
        flask_migrate.upgrade(revision="0007")

        def fill(connection: database.Connection) -> None:
            for number, second in enumerate((5, 9, 4_000_000_000)):
                row = f"({number}, 'default', 'thread_{number}', {second}, '{{}}', '{{}}')"
                connection.change(f"INSERT INTO threads VALUES {row}")
            for key, body in answers.items():
                connection.change(f"INSERT INTO idempotency VALUES ('p', '{key}', '', '{body}', 1)")

        database.write(fill)
        cli.prepare_database()
        with database.snapshot() as connection:
            newest = connection.rows("SELECT project, kind, second FROM newest_seconds")
            stored = connection.rows("SELECT key, thread, object FROM idempotency ORDER BY key")
    startup.close(old)
    assert newest == [("default", "thread", 9)]
    assert stored == [("m", "thread_1", "msg_1"), ("t", "thread_1", "thread_1")]
