"""write() is whole or nothing in any thread; db.session works as Flask-SQLAlchemy documents."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import until
from flask import Flask, request
from flask.testing import FlaskClient

import database
from database import Connection
from models import DEFAULT_PROJECT, Message, Thread, db
from rules.errors import ApiError

WAITS = pytest.mark.sqlite_only("another writer keeps none waiting on PostgreSQL")
COUNT = sa.select(sa.func.count()).select_from(Thread)


def values(id_: str, **changed: Any) -> dict[str, Any]:
    """The columns that are enough to make a thread."""
    required = {"project": DEFAULT_PROJECT, "created_at": 1}
    return required | {"id": id_, "metadata": "{}", "tool_resources": "{}"} | changed


def thread(id_: str) -> Thread:
    return Thread(
        project=DEFAULT_PROJECT, id=id_, created_at=1, metadata_="{}", tool_resources="{}"
    )


def insert(connection: Connection, *ids: str) -> None:
    for id_ in ids:
        connection.change(sa.insert(Thread), values(id_))


def count() -> int:
    with database.read() as connection:
        return int(connection.value(COUNT))


@pytest.fixture(autouse=True)
def context(app: Flask) -> Any:
    with app.app_context():
        yield


def test_a_write_that_fails_at_its_second_statement_leaves_nothing() -> None:
    with pytest.raises(ApiError):
        database.write(lambda connection: insert(connection, "thread_1", "thread_1"))
    assert count() == 0


def test_a_write_that_raises_leaves_nothing() -> None:
    def change(connection: Connection) -> None:
        insert(connection, "thread_1", "thread_2")
        raise KeyError

    with pytest.raises(KeyError):
        database.write(change)
    assert count() == 0


@WAITS
def test_of_writes_that_share_a_commit_the_one_that_fails_leaves_nothing(app: Flask) -> None:
    """Each has its own request, also where another thread runs it."""
    app.add_url_rule("/two/<a>/<b>", view_func=store_two)
    with ThreadPoolExecutor(8) as pool:

        def hold(_: Connection) -> list[Any]:
            paths = [f"/two/{n}/{n if n % 2 else n + 100}" for n in range(8)]
            started = [pool.submit(app.test_client().get, path) for path in paths]
            waiting = app.extensions["database"]._commits._waiting
            assert until(lambda: len(waiting) == len(paths))
            return started

        statuses = [answer.result().status_code for answer in database.write(hold)]
    assert statuses == [200, 400] * 4
    with database.read() as connection:
        ids = {row.id for row in connection.rows(sa.select(Thread.id))}
    assert ids == {f"/two/{n}/{n + 100}:{m}" for n in range(0, 8, 2) for m in (n, n + 100)}


def store_two(a: str, b: str) -> str:
    def change(connection: Connection) -> None:
        insert(connection, f"{request.path}:{a}", f"{request.path}:{b}")

    database.write(change)
    return "stored"


@WAITS
def test_a_write_inside_a_write_is_refused_at_once() -> None:
    with pytest.raises(RuntimeError, match="This thread writes already"):
        database.write(lambda _: database.write(lambda connection: insert(connection, "thread_1")))
    assert count() == 0


def test_a_statement_used_again_with_one_more_column_stores_that_too() -> None:
    statement = sa.insert(Message)
    message = {"role": "user", "content": "[]", "attachments": "[]", "metadata": "{}"}
    message |= {"created_at": 1, "status": "completed"}

    def change(connection: Connection) -> None:
        insert(connection, "thread_1")
        seq = connection.value(sa.select(Thread.seq))
        connection.change(statement, message | {"id": "msg_1", "thread_seq": seq})
        connection.change(statement, message | {"id": "msg_2", "thread_seq": seq, "run_id": "r"})

    database.write(change)
    with database.read() as connection:
        rows = connection.rows(sa.select(Message.run_id).order_by(Message.seq))
    assert [row.run_id for row in rows] == [None, "r"]


def test_columns_have_the_types_and_defaults_of_their_table() -> None:
    table = sa.Table(
        "things",
        sa.MetaData(),
        sa.Column("done", sa.Boolean, default=False),
        sa.Column("tags", sa.JSON),
    )

    def change(connection: Connection) -> list[Any]:
        connection.change(str(sa.schema.CreateTable(table).compile(db.engine)))
        connection.change(sa.insert(table), {"tags": ["a"]})
        connection.change(sa.insert(table), {"tags": None, "done": True})
        return connection.rows(sa.select(table).order_by(table.c.done))

    assert database.write(change) == [(False, ["a"]), (True, None)]


def test_a_list_among_the_values_is_compiled_for_its_length() -> None:
    database.write(lambda connection: insert(connection, "thread_1", "thread_2", "thread_3"))
    statement = COUNT.where(Thread.id.in_(sa.bindparam("ids", expanding=True)))
    with database.snapshot() as connection:
        counts = [
            connection.value(statement, {"ids": [f"thread_{n}" for n in range(length)]})
            for length in (2, 4, 3, 0)
        ]
    assert counts == [1, 3, 2, 0]


def test_what_the_session_rolls_back_is_not_stored() -> None:
    db.session.add(thread("thread_1"))
    db.session.flush()
    assert db.session.scalar(COUNT) == 1
    db.session.rollback()
    assert count() == 0


def test_what_the_session_commits_is_stored_and_the_api_serves_it(client: FlaskClient) -> None:
    db.session.add(thread("thread_1"))
    db.session.commit()
    assert client.get("/threads/thread_1").json["created_at"] == 1


def test_the_session_ends_with_its_request(app: Flask) -> None:
    def add() -> str:
        db.session.add(thread("thread_1"))
        db.session.flush()
        return "not committed"

    app.add_url_rule("/add", view_func=add)
    assert app.test_client().get("/add").status_code == 200
    assert count() == 0


def test_a_session_that_fails_is_answered_as_any_write(app: Flask) -> None:
    def add() -> str:
        db.session.add_all([thread("thread_1"), thread("thread_1")])
        db.session.commit()
        return "stored"

    app.add_url_rule("/add", view_func=add)
    answer = app.test_client().get("/add")
    assert answer.status_code in (400, 503)
    assert answer.json["error"]["code"] in ("id_exists", "database_busy")
    assert count() == 0


@WAITS
def test_a_session_waits_for_its_turn(app: Flask) -> None:
    with ThreadPoolExecutor() as pool:

        def hold(_: Connection) -> Any:
            waiting = pool.submit(add_by_session, app)
            assert not until(waiting.done, seconds=0.1)
            return waiting

        database.write(hold).result()
    assert count() == 1


def add_by_session(app: Flask) -> None:
    with app.app_context():
        db.session.add(thread("thread_1"))
        db.session.commit()


@WAITS
def test_a_session_that_gets_no_turn_is_busy(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.sqlite, "QUEUE_SECONDS", 0.05)
    with ThreadPoolExecutor() as pool:
        stored = database.write(lambda _: pool.submit(add_by_session, app).exception())
    assert isinstance(stored, ApiError)
    assert stored.status == 503
    add_by_session(app)
    assert count() == 1


@WAITS
def test_sessions_that_read_and_then_write_lose_no_update(app: Flask) -> None:
    database.write(lambda connection: insert(connection, "thread_1"))
    barrier = threading.Barrier(4)

    def add_one() -> None:
        barrier.wait()
        for _ in range(10):
            with app.app_context():
                row = db.session.scalars(sa.select(Thread)).one()
                row.created_at += 1
                db.session.commit()

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(add_one) for _ in range(4)]:
            each.result()
    with database.read() as connection:
        assert connection.value(sa.select(Thread.created_at)) == 41


@WAITS
def test_a_write_beside_an_open_session_of_its_thread_is_refused_at_once() -> None:
    db.session.add(thread("thread_1"))
    db.session.flush()
    with pytest.raises(RuntimeError, match=r"commit db\.session"):
        database.write(lambda connection: insert(connection, "thread_2"))
    db.session.commit()
    database.write(lambda connection: insert(connection, "thread_2"))
    assert count() == 2


def unreadable(client: FlaskClient, path: str) -> tuple[int, str]:
    answer = client.get(path)
    return answer.status_code, answer.json["error"]["message"]


READ_FAILED = "The database failed to read this. The server's log has the cause."


def test_a_read_that_fails_tells_of_no_change(client: FlaskClient) -> None:
    thread_id = client.post("/threads").json["id"]
    database.write(lambda connection: connection.change("DROP TABLE tombstones"))
    path = f"/threads/{thread_id}/messages?after=msg_unknown"
    assert unreadable(client, path) == (500, READ_FAILED)
    assert client.get(f"/threads/{thread_id}").status_code == 200


@pytest.mark.sqlite_only("the length of a value is SQLite's limit")
def test_a_read_of_too_large_a_value_is_refused() -> None:
    with pytest.raises(ApiError) as caught, database.read() as connection:
        connection.value("SELECT zeroblob(2000000000)")
    assert (caught.value.status, str(caught.value)) == (500, READ_FAILED)


def test_a_read_without_room_in_memory_is_refused() -> None:
    with pytest.raises(ApiError) as caught, database.read():
        raise MemoryError
    assert (caught.value.status, str(caught.value)) == (500, READ_FAILED)
