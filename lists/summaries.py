"""The summaries of threads in the list of the browse page."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from database import Connection
from models import Thread
from store import threads
from store.objects import Object, thread_object

MAX_COUNTED_MESSAGES = 1000
_TEXT = re.compile(r'"text":\{"value":"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)')
_SUMMARIES = """
    SELECT id, last_active_at,
        (SELECT count(*) FROM
            (SELECT 1 FROM messages WHERE thread_seq = threads.seq LIMIT :counted) AS counted
        ) AS messages,
        (SELECT status FROM runs WHERE thread_seq = threads.seq AND id = threads.active_run
        ) AS run_status,
        (SELECT substr(messages.content, 1, 8000) FROM
            (SELECT seq FROM messages WHERE thread_seq = threads.seq ORDER BY seq LIMIT 20) AS first
            JOIN messages ON messages.seq = first.seq
         WHERE substr(messages.content, 1, 8000) LIKE '%"text":{{"value":"%'
         ORDER BY first.seq LIMIT 1
        ) AS opening
    FROM threads WHERE project = :project AND id IN ({ids})
"""


class Summary(NamedTuple):
    """The first text of a thread, its number of messages, its last activity, its active run."""

    text: str
    messages: int
    last_active_at: int
    run_status: str | None


def named_threads(connection: Connection, project: str, ids: Sequence[str]) -> list[Object]:
    """Return the threads with these ids, newest first."""
    statement = sa.select(*threads.COLUMNS).where(Thread.project == project, Thread.id.in_(ids))
    rows = connection.rows(statement.order_by(Thread.created_at.desc(), Thread.seq.desc()))
    return list(map(thread_object, rows))


def summaries(connection: Connection, project: str, ids: Sequence[str]) -> dict[str, Summary]:
    """Return the summary of each thread. The statement never reads a whole large thread."""
    if not ids:
        return {}
    values: dict[str, Any] = {f"id{number}": thread_id for number, thread_id in enumerate(ids)}
    values |= {"project": project, "counted": MAX_COUNTED_MESSAGES + 1}
    rows = connection.rows(_statement(len(ids)), values)
    return {
        row.id: Summary(_text(row.opening or ""), row.messages, row.last_active_at, row.run_status)
        for row in rows
    }


@lru_cache(maxsize=128)
def _statement(count: int) -> sa.TextClause:
    ids = ", ".join(f":id{number}" for number in range(count))
    return sa.text(_SUMMARIES.format(ids=ids))


@lru_cache(maxsize=1024)
def _text(opening: str) -> str:
    """Return the first text in the beginning of stored content; it may be cut."""
    return next(texts_in(opening), "").strip()


def texts_in(content: str) -> Iterator[str]:
    """Yield the texts in stored content, which may be cut."""
    for match in _TEXT.finditer(content):
        yield str(orjson.loads(f'"{match[1]}"'))
