"""`flask backup` and `flask doctor` beside a running server, and the way back from a backup."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import Commands, Server, flask_process, serving, until
from flask import Flask
from harness import Load, ask, rounds, run, small_disk, stored, unexplained

from cli import doctor
from database import files, sqlite
from database.files import file_of

BACKUPS = len(rounds(1, 10))
RESTORE_SECONDS = 5
COMPANIONS = ("", "-wal", "-shm")

pytestmark = pytest.mark.sqlite_only("test_postgres.py sees both commands refused")


def restored(server_of_copy: Server, load: Load, marks: dict[str, int]) -> list[str]:
    return unexplained(load.records, stored(server_of_copy), marks)


@pytest.mark.timeout(300)
def test_each_backup_under_eight_writers_is_whole(tmp_path: Path, database_url: str) -> None:
    path, url = tmp_path / "threads.db", database_url
    marks, seconds = [], []
    with (
        serving(tmp_path / "log", DATABASE_URL=url, WORKERS=2) as server,
        open_snapshot(path),
        Load(server) as load,
    ):
        for number in range(BACKUPS):
            enough = load.acknowledged + 60
            assert until(lambda: load.acknowledged >= enough)  # noqa: B023
            marks.append(load.marks())
            began = time.monotonic()
            result = flask_process(url, "backup", tmp_path / f"{number}.db")
            seconds.append(time.monotonic() - began)
            assert result.returncode == 0, result.stderr
        load.stop()
        assert load.failures == []
        assert set(load.refusals) <= {(503, "database_busy")}
    assert sorted(path.name for path in tmp_path.glob("*.db")) == sorted(
        [*(f"{number}.db" for number in range(BACKUPS)), "threads.db"]
    )
    for number in range(BACKUPS):
        copy = tmp_path / f"{number}.db"
        assert sqlite.faults_of(copy) == []
        with serving(tmp_path / "log", DATABASE_URL=f"sqlite:///{copy}") as server:
            assert restored(server, load, marks[number]) == []
    print(f"{load.acknowledged} acknowledged, {load.refusals}, backup in {max(seconds):.2f} s")


@contextmanager
def open_snapshot(path: Path) -> Iterator[None]:
    """Read from a database until the end: what is written since stays in its -wal."""
    with closing(sqlite.dbapi.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM threads").fetchone()
        yield


def test_a_restored_backup_serves_within_five_seconds(tmp_path: Path, database_url: str) -> None:
    path, log, url = tmp_path / "threads.db", tmp_path / "log", database_url
    with serving(log, DATABASE_URL=url) as server:
        with Load(server) as load:
            assert until(lambda: load.acknowledged > 100)
        expected = stored(server)
        assert flask_process(url, "backup", tmp_path / "backup.db").returncode == 0
        assert ask(server, "POST", "/v1/threads", {"metadata": {"tag": "later", "turn": "0"}})
    began = time.monotonic()
    (tmp_path / "broken").mkdir()
    for suffix in COMPANIONS:
        if (part := Path(f"{path}{suffix}")).exists():
            part.rename(tmp_path / "broken" / part.name)
    shutil.copy(tmp_path / "backup.db", path)
    with serving(log, DATABASE_URL=url) as server:
        assert ask(server, "GET", "/v1/threads")[0] == 200
        seconds = time.monotonic() - began
        assert stored(server) == expected
    assert seconds < RESTORE_SECONDS
    print(f"restore to first 200 in {seconds:.2f} s")


def test_a_backup_replaces_nothing_without_force(flask: Commands, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    target.write_text("precious")
    result = flask("backup", str(target), status=1)
    assert result.stderr == f"Error: {target} exists; --force replaces it.\n"
    assert target.read_text() == "precious"
    flask("backup", "--force", str(target))
    assert sqlite.faults_of(target) == []


@pytest.mark.parametrize("exists", [True, False], ids=["replaced", "new"])
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_backup_is_not_put_beside_the_log_of_another_database(
    flask: Commands, tmp_path: Path, suffix: str, exists: bool
) -> None:
    """SQLite would replay that log into the backup."""
    target, log = tmp_path / "backup.db", tmp_path / f"backup.db{suffix}"
    if exists:
        target.write_text("precious")
    log.write_text("of another")
    result = flask("backup", "--force", str(target), status=1)
    assert (
        result.stderr
        == f"Error: {log} belongs to a database that is in use or was not closed: move it away.\n"
    )
    assert log.read_text() == "of another"
    assert not exists or target.read_text() == "precious"


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-queue", "-secret"])
def test_a_backup_never_replaces_the_database_itself(
    flask: Commands, database_url: str, suffix: str
) -> None:
    path = f"{file_of(database_url)}{suffix}"
    result = flask("backup", "--force", path, status=1)
    assert result.stderr == f"Error: {path} belongs to the database itself.\n"


def test_a_backup_that_fails_leaves_one_line_and_no_file(flask: Commands, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        run("dd", "if=/dev/zero", f"of={disk / 'ballast'}", "bs=4k", "count=250")
        result = flask("backup", str(disk / "backup.db"), status=1)
        assert [path.name for path in disk.iterdir()] == ["ballast"]
    assert result.stderr.splitlines()[1:] == [
        "Error: No backup was made: database or disk is full."
    ]


def test_a_backup_is_for_its_owner_only(flask: Commands, tmp_path: Path) -> None:
    flask("backup", str(tmp_path / "backup.db"))
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "CREATE TABLE notes (text)"], ids=["empty", "foreign"])
def test_a_file_without_our_tables_replaces_no_backup(tmp_path: Path, content: str) -> None:
    source, target = tmp_path / "threads.db", tmp_path / "backup.db"
    source.touch()
    harm_outside(f"sqlite:///{source}", content)
    target.write_text("precious")
    result = flask_process(f"sqlite:///{source}", "backup", "--force", target)
    assert result.returncode == 1
    expected = f"Error: {source} holds no threads: it has no tables of this program.\n"
    assert result.stderr == expected
    assert target.read_text() == "precious"


def test_a_backup_removes_the_drafts_of_killed_ones_only(flask: Commands, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    left = [f".backup.db.{ended.pid}", f".backup.db.{ended.pid}-journal"]
    kept = [f".backup.db.{os.getppid()}", f".other.db.{ended.pid}", ".backup.db.mine"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    flask("backup", str(tmp_path / "backup.db"))
    assert {name for name in (*left, *kept) if (tmp_path / name).exists()} == set(kept)


# doctor


def findings(result: str) -> dict[str, str]:
    """State by name: the first word and the next two columns of each line."""
    return {line[6:19].strip(): line[:4].strip() for line in result.splitlines()}


def test_a_sound_database_passes_the_doctor_beside_its_server(
    tmp_path: Path, database_url: str
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url) as server:
        assert ask(server, "POST", "/v1/threads")[0] == 200
        result = flask_process(database_url, "doctor")
        assert ask(server, "POST", "/v1/threads")[0] == 200
    assert result.returncode == 0, result.stdout
    states = findings(result.stdout)
    assert {state for name, state in states.items() if name != "filesystem"} == {"ok"}
    assert len(states) == 16


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "schema"),
        ("PRAGMA foreign_keys=OFF; INSERT INTO messages SELECT 999, 99, 'msg_1', 1, NULL, NULL, "
         "'completed', NULL, 1, NULL, 'user', '[]', '[]', '{}'", "references"),
        ("DELETE FROM message_text_data WHERE id > 9", "text search"),
        ("PRAGMA writable_schema=ON; DELETE FROM sqlite_master WHERE name = 'threads_by_time'",
         "integrity"),
    ],
)  # fmt: skip
def test_the_doctor_names_what_is_broken(
    app: Flask, flask: Commands, database_url: str, harm: str, name: str
) -> None:
    body = {"messages": [{"role": "user", "content": "some words to find"}]}
    app.test_client().post("/v1/threads", json=body)
    harm_outside(database_url, harm)
    result = flask("doctor", status=1)
    assert findings(result.stdout)[name] == "fail", result.stdout


def test_the_doctor_shows_the_cause_where_it_can_ask_no_more(
    app: Flask, flask: Commands, database_url: str
) -> None:
    harm_outside(database_url, "DROP TABLE api_keys")
    result = flask("doctor", status=1)
    assert "no such table: api_keys" in result.stdout.splitlines()[-1]


def test_a_backup_replaces_no_pipe(app: Flask, flask: Commands, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = flask("backup", str(tmp_path / "pipe"), "--force", status=1)
    assert f"{tmp_path / 'pipe'} is no regular file." in result.stdout + result.stderr
    assert (tmp_path / "pipe").is_fifo()


def harm_outside(url: str, script: str) -> None:
    """Run SQL, as an operator's mistake would."""
    with closing(sqlite.dbapi.connect(file_of(url))) as connection:
        connection.executescript(script)


def test_the_doctor_warns_of_files_that_others_can_open(flask: Commands, database_url: str) -> None:
    file_of(database_url).chmod(0o644)
    assert findings(flask("doctor").stdout)["files"] == "warn"


def test_the_doctor_warns_of_a_log_that_a_reader_keeps(
    app: Flask, flask: Commands, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAL_LIMIT_BYTES", 1 << 20)
    body = {"messages": [{"role": "user", "content": "x" * 200_000}] * 20}
    with open_snapshot(file_of(database_url)):
        assert app.test_client().post("/v1/threads", json=body).status_code == 200
        assert findings(flask("doctor").stdout)["WAL"] == "warn"
    assert findings(flask("doctor").stdout)["WAL"] == "ok"


def test_the_doctor_makes_no_file(tmp_path: Path) -> None:
    result = flask_process(f"sqlite:///{tmp_path / 'none.db'}", "doctor")
    assert result.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_leaves_an_empty_file_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    result = flask_process(f"sqlite:///{path}", "doctor")
    assert result.returncode == 1
    assert findings(result.stdout)["database"] == "fail"
    assert [each.name for each in tmp_path.iterdir()] == ["empty.db"]
    assert path.stat().st_size == 0


def test_the_doctor_works_where_no_list_of_mounts_is(
    flask: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_MOUNTS", tmp_path / "none")
    states = findings(flask("doctor").stdout)
    assert (states["filesystem"], states["schema"]) == ("warn", "ok")


def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    result = flask_process("mysql://host/db", "doctor")
    assert result.returncode == 1
    assert result.stderr.startswith("Wrong settings: ")
    assert len(result.stderr.splitlines()) == 1
