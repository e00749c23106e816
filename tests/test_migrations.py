"""The schema: it is what the models say, and no upgrade loses or half-changes anything."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from conftest import launched, refusal
from flask import Flask
from flask.testing import FlaskClient

import commands
import database
import store
from config import ROOT
from models import DEFAULT_PROJECT, SCHEMA_REVISION, Base, db

FLASK = [sys.executable, "-m", "flask", "--app", "commands", "db", "upgrade", "--directory"]
RECREATE = 'with op.batch_alter_table("threads", recreate="always") as table:\n        pass'
HALF_WAY = 'op.drop_table("messages")\n    op.execute("SELECT * FROM missing")'
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
    with app.app_context(), database.write() as connection:
        connection.change("UPDATE alembic_version SET version_num = '9999'")
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
    old = commands.create_app({"DATABASE_URL": url})
    with old.app_context():
        flask_migrate.upgrade(revision="0001")
    database.close(old)
    app = commands.create_app({"DATABASE_URL": url})
    with app.app_context():
        commands.prepare_database()
        with database.write() as connection:
            store.create_thread(connection, DEFAULT_PROJECT, {})
    database.close(app)


@pytest.mark.sqlite_only("PostgreSQL indexes each message as it comes")
def test_text_stays_indexed_when_it_begins_to_be_in_batches(tmp_path: Path) -> None:
    app = commands.create_app({"DATABASE_URL": f"sqlite:///{tmp_path / 'old.db'}"})
    with app.app_context():
        flask_migrate.upgrade(revision="0004")
        _append(0, 20)
        flask_migrate.upgrade()
        _append(20, 30)
        assert _indexed(30) == list(range(16))
        flask_migrate.downgrade(revision="0004")
        assert _indexed(30) == list(range(30))
        flask_migrate.upgrade()
        _append(30, 40)
        assert _indexed(40) == list(range(32))
        with database.write() as connection:
            connection.change("DELETE FROM threads")
        assert _indexed(40) == []
    database.close(app)


def _append(first: int, last: int) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": f"word{number}"}]}
        for number in range(first, last)
    ]
    with database.write() as connection:
        store.create_thread(connection, DEFAULT_PROJECT, {"messages": messages})


def _indexed(count: int) -> list[int]:
    """Return which of so many words the text index has, after a look at the whole of it."""
    with database.read() as connection:
        assert connection.value("PRAGMA integrity_check(message_text)") == "ok"
        asked = "SELECT 1 FROM message_text WHERE message_text MATCH 'word{}'"
        return [number for number in range(count) if connection.value(asked.format(number))]
