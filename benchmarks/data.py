"""Makes a database of any size: threads a minute apart, ten messages each, on a file."""

import sys
from functools import partial

import sqlalchemy as sa
from flask import current_app

import cli
import database
from database import Connection, startup, transactions
from models import DEFAULT_PROJECT, Message, Thread
from store.objects import to_json

MESSAGES = 10
FULL_MESSAGES = 100
SAME_USER = 10
FIRST_SECOND = 1_700_000_000
SECONDS_APART = 60
_BATCH = 2_000


def fill(url: str, threads: int) -> None:
    """Write `threads` threads into a new database; ten share each user and each rare word.

    Beside them stands `thread_full`, of FULL_MESSAGES messages.
    """
    app = cli.create_app({"DATABASE_URL": url, "DURABILITY": "normal"})
    with app.app_context():
        cli.prepare_database()
        for start in range(0, threads, _BATCH):
            batch = range(start, min(start + _BATCH, threads))
            database.write(partial(_insert, batch=batch))
            print(f"\r{batch[-1] + 1:,} of {threads:,} threads", end="", file=sys.stderr)
        database.write(lambda connection: _insert_full(connection, threads))
    startup.close(app)
    print(file=sys.stderr)


def _insert(connection: Connection, batch: range) -> None:
    connection.change_many(sa.insert(Thread), [_thread(number) for number in batch])
    messages = [_message(number, turn) for number in batch for turn in range(MESSAGES)]
    connection.change_many(sa.insert(Message), messages)


def _insert_full(connection: Connection, number: int) -> None:
    connection.change_many(sa.insert(Thread), [{**_thread(number), "id": "thread_full"}])
    messages = [_message(number, turn) for turn in range(FULL_MESSAGES)]
    connection.change_many(sa.insert(Message), messages)
    if transactions.is_postgres(current_app.config["SQLALCHEMY_DATABASE_URI"]):
        connection.rows(f"SELECT setval('threads_seq_seq', {number + 1})")


def _thread(number: int) -> dict[str, object]:
    return {
        "seq": number + 1,
        "project": DEFAULT_PROJECT,
        "id": f"thread_{number:024d}",
        "created_at": FIRST_SECOND + number * SECONDS_APART,
        "last_active_at": FIRST_SECOND + number * SECONDS_APART + MESSAGES - 1,
        "touch": 1,
        "metadata": to_json({"user": f"u{number // SAME_USER}"}),
        "tool_resources": "{}",
    }


def _message(number: int, turn: int) -> dict[str, object]:
    text = f"Hello, this is turn {turn} about rare{number // SAME_USER} and the weather of today."
    second = FIRST_SECOND + number * SECONDS_APART + turn
    return {
        "thread_seq": number + 1,
        "id": f"msg_{number:020d}{turn:04d}",
        "created_at": second,
        "assistant_id": None,
        "run_id": None,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": second,
        "incomplete_at": None,
        "role": ("user", "assistant")[turn % 2],
        "content": to_json([{"type": "text", "text": {"value": text, "annotations": []}}]),
        "attachments": "[]",
        "metadata": "{}",
    }


if __name__ == "__main__":
    fill(f"sqlite:///{sys.argv[1]}", int(sys.argv[2]))
