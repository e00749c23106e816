"""The first start and the upgrade: five at once, and killed half-way."""

import os
import shutil
import signal
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from conftest import await_ready, launched, serving, until
from harness import WHOLE, ask, rounds

import cli
from database import sqlite
from database.files import wal_bytes
from models import SCHEMA_REVISION, db

KILLS = rounds(2, 20)
MESSAGES = len(rounds(20_000, 60_000))
GROWTH_A_ROUND = MESSAGES * 12
FILL = f"""
    INSERT INTO threads VALUES (1, 'default', 'thread_old', 1, '{{"a": "b"}}', '{{}}');
    INSERT INTO messages
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MESSAGES})
    SELECT i, 1, 'msg_' || i, 1, NULL, NULL, 'completed', NULL, 1, NULL, 'user',
        '[{{"type": "text", "text": {{"value": "words of ' || hex(randomblob(40)) ||
        '", "annotations": []}}}}]', '[]', '{{}}' FROM n;
    UPDATE sqlite_sequence SET seq = 0 WHERE name = 'messages'; -- so that all are yet to be indexed
"""

pytestmark = pytest.mark.sqlite_only("the file tells how far the upgrade has come")


def at_first_schema(path: Path) -> Path:
    """Make a database without its newest revision, full of messages."""
    from flask_migrate import upgrade

    with cli.create_app({"DATABASE_URL": f"sqlite:///{path}"}).app_context():
        upgrade(revision="0006")
        db.engine.dispose()
    with closing(sqlite.dbapi.connect(path)) as connection:
        connection.executescript(FILL)
    return path


def shape(path: Path) -> tuple[str, frozenset[str], int]:
    """Revision, names of all tables, indexes and triggers, and how many messages there are."""
    with closing(sqlite.dbapi.connect(path)) as connection:
        [revision] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        names = frozenset(name for (name,) in connection.execute("SELECT name FROM sqlite_master"))
        [messages] = connection.execute("SELECT count(*) FROM messages").fetchone()
    return revision, names, messages


@pytest.mark.timeout(400)
def test_a_killed_upgrade_leaves_the_old_schema_or_the_new_one(
    tmp_path: Path, migrated: Path
) -> None:
    first, path, log = at_first_schema(tmp_path / "first.db"), tmp_path / "t.db", tmp_path / "log"
    old = shape(first)
    new = (SCHEMA_REVISION, shape(migrated)[1], MESSAGES)
    kills = 0
    for number in KILLS:
        for part in tmp_path.glob("t.db*"):
            part.unlink()
        shutil.copy(first, path)
        with launched(log, DATABASE_URL=f"sqlite:///{path}") as process:
            size = number % 10 * GROWTH_A_ROUND
            grown = lambda: wal_bytes(path) > size  # noqa: E731, B023
            until(lambda: grown() or process.poll() is not None, pause=0.0002)  # noqa: B023
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        found = shape(path)
        assert found in (old, new)
        kills += found == old
        assert sqlite.faults_of(path) == []
    assert kills
    with serving(log, DATABASE_URL=f"sqlite:///{path}") as server:
        status, _, page = ask(server, "GET", "/v1/threads/thread_old/messages?limit=100")
        assert (status, len(page["data"]), page["has_more"]) == (200, 100, True)
        assert ask(server, "GET", "/v1/threads?q=words&metadata[a]=b")[2]["data"]
    assert shape(path) == new
    print(f"{kills} of {len(KILLS)} upgrades killed before their commit")


@pytest.mark.timeout(300)
@pytest.mark.skipif(not WHOLE, reason="tests/server/test_start.py has the short form")
@pytest.mark.parametrize("number", range(20))
def test_five_first_starts_at_once_make_one_database(tmp_path: Path, number: int) -> None:
    log, url = tmp_path / "log", f"sqlite:///{tmp_path / 'threads.db'}"
    with ExitStack() as stack:
        processes = [stack.enter_context(launched(log, DATABASE_URL=url)) for _ in range(5)]
        servers = [await_ready(process, log) for process in processes]
        ids = {ask(server, "POST", "/v1/threads")[2]["id"] for server in servers}
        for server in servers:
            threads = ask(server, "GET", "/v1/threads")[2]["data"]
            assert {thread["id"] for thread in threads} == ids
    assert '"level":"error"' not in log.read_text()
