"""Damage that SQLite's own checks cannot see, and its repair. All of it is SQLite's.

The triggers of the newest schema say what belongs into an index: a repair lets them run again.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import click
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

import config
import database
from database import Connection, sqlite
from exchange.imports import COMMAND_SECONDS
from models import ACTIVE_STATUSES, Assistant, Message, Run, RunStep, Thread, ThreadMetadata
from runs import rows, states

Step = Callable[[int], None]
_AT_ONCE, _SHOWN = 200, 20
_EMPTY: dict[str, Any] = {
    "object": "{}",
    "array": "[]",
    "real": "1.0",
    "": '"auto"',
    "true|false": "true",
    "truncation_strategy": '{"type":"auto","last_messages":null}',
    "step_details": sa.case(
        (RunStep.type == "tool_calls", '{"type":"tool_calls","tool_calls":[]}'),
        else_=sa.literal('{"type":"message_creation","message_creation":{"message_id":"msg_lost')
        + sa.cast(RunStep.seq, sa.Text)
        + '"}}',
    ),
}
"""What stands for broken JSON, by the column or the type."""
_INDEXES = ("thread_metadata", "message_text")
_TOTALS = "SELECT block FROM message_text_data WHERE id = 1"
_ADDS = re.compile(r"CREATE TRIGGER \w+ AFTER INSERT ON (\w+)(.*)", re.DOTALL)
_JSON: list[tuple[Any, str, str]] = [
    (Thread.metadata_, "object", "text"),
    (Thread.tool_resources, "object", ""),
    (Message.incomplete_details, "object", ""),
    (Message.content, "array", "object"),
    (Message.attachments, "array", "object"),
    (Message.metadata_, "object", "text"),
    (Assistant.tools, "array", "object"),
    (Assistant.top_p, "real", ""),
    (Assistant.temperature, "real", ""),
    (Assistant.tool_resources, "object", ""),
    (Assistant.metadata_, "object", "text"),
    (Assistant.response_format, "", ""),
    (Run.required_action, "object", ""),
    (Run.last_error, "object", ""),
    (Run.tools, "array", "object"),
    (Run.tool_resources, "object", ""),
    (Run.metadata_, "object", "text"),
    (Run.temperature, "real", ""),
    (Run.top_p, "real", ""),
    (Run.truncation_strategy, "object", ""),
    (Run.incomplete_details, "object", ""),
    (Run.usage, "object", ""),
    (Run.response_format, "", ""),
    (Run.tool_choice, "", ""),
    (Run.parallel_tool_calls, "true|false", ""),
    (Run.script, "array", "object"),
    (RunStep.last_error, "object", ""),
    (RunStep.step_details, "object", ""),
    (RunStep.usage, "object", ""),
]
"""The columns that hold JSON, its type if there is one, and that of what is in it."""
_PARENTS: list[tuple[Any, Any]] = [
    (Message.thread_seq, Thread.seq),
    (Run.thread_seq, Thread.seq),
    (RunStep.run_seq, Run.seq),
]
_ACTIVE = sa.select(Run.id).where(Run.thread_seq == Thread.seq, states.IS_ACTIVE)
_IS_LOCKED = Thread.active_run.is_not(None)
_IS_STALE = _IS_LOCKED & ~_ACTIVE.where(Run.id == Thread.active_run).exists()
_IS_LOOSE = states.IS_ACTIVE & Thread.active_run.is_distinct_from(Run.id)
_NEWEST = sa.select(sa.func.max(Run.seq)).where(states.IS_ACTIVE).group_by(Run.thread_seq)
_OLDER = sa.select(*rows.COLUMNS).where(states.IS_ACTIVE, Run.seq.not_in(_NEWEST))
_HAS_ACTIVE = Thread.seq.in_(sa.select(Run.thread_seq).where(states.IS_ACTIVE))
_LOCK = sa.update(Thread).where(_IS_LOCKED | _HAS_ACTIVE)


class Broken(NamedTuple):
    """A row with a column that does not hold the JSON that belongs there."""

    id: str
    table: str
    column: str
    content: str


@cache
def definitions() -> dict[str, str]:
    """Return the SQL that makes each trigger, index, and table of an index, by its name."""
    scripts = ScriptDirectory(str(config.ROOT / "migrations"))
    with sqlite.empty_engine().begin() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            for script in reversed([*scripts.walk_revisions()]):
                script.module.upgrade()
        rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master").all()
    return {name: sql for kind, name, sql in rows if sql and _is_remade(kind, name)}


def _is_remade(kind: str, name: str) -> bool:
    return kind in ("trigger", "index") or name in _INDEXES


def definitions_amiss(connection: Connection) -> list[str]:
    """Return the names of what is missing in the schema, or is another than it should be."""
    rows = connection.rows("SELECT name, sql FROM sqlite_master")
    present = {row.name: row.sql for row in rows}
    return [name for name, sql in definitions().items() if present.get(name) != sql]


def pairs_amiss(connection: Connection) -> tuple[int, int]:
    """Return how many pairs the index of metadata lacks, and how many it has too many."""
    text = sa.case((sa.func.json_valid(Thread.metadata_), Thread.metadata_), else_="{}")
    pair = sa.func.json_each(text).table_valued("key", "value")
    is_in_index = sa.exists().where(
        ThreadMetadata.project == Thread.project,
        ThreadMetadata.key == pair.c.key,
        ThreadMetadata.value == pair.c.value,
        ThreadMetadata.created_at == Thread.created_at,
        ThreadMetadata.thread_seq == Thread.seq,
    )
    right = sa.func.coalesce(sa.func.sum(sa.cast(is_in_index, sa.Integer)), 0)
    counts = sa.select(sa.func.count().label("all"), right.label("right"))
    row = connection.row(counts.select_from(Thread).join(pair, sa.true()))
    return row.all - row.right, _count(connection, ThreadMetadata) - row.right


def texts_amiss(connection: Connection) -> tuple[int, int]:
    """Return how many messages there are, and how many the text index holds."""
    texts = 0
    for byte in connection.value(_TOTALS) or b"":  # FTS5 counts them first, seven bits a byte
        texts = texts << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return _count(connection, Message), texts


def locks_amiss(connection: Connection) -> tuple[int, int]:
    """Return how many threads name no active run, and how many active runs no thread names."""
    loose = sa.select(sa.func.count()).select_from(Run).join(Thread, Thread.seq == Run.thread_seq)
    stale = sa.select(sa.func.count()).select_from(Thread).where(_IS_STALE)
    return int(connection.value(stale)), int(connection.value(loose.where(_IS_LOOSE)))


def _count(connection: Connection, model: Any) -> int:
    return int(connection.value(sa.select(sa.func.count()).select_from(model)))


def broken_json(connection: Connection) -> Iterator[Broken]:
    """Yield each column of a row that does not hold the JSON that belongs there."""
    for column, kind, part in _JSON:
        table = column.class_.__table__
        for row in connection.rows(_select_broken(column, kind, part)):
            yield Broken(row.id, table.name, column.name, row.content)


@cache
def _select_broken(column: Any, kind: str, part: str) -> sa.Select[Any]:
    id_ = column.class_.__table__.c.id
    return sa.select(id_, column.label("content")).where(_is_broken(column, kind, part))


def _is_broken(column: Any, kind: str, part: str) -> sa.ColumnElement[bool]:
    each = sa.func.json_each(column).table_valued("type")
    of_kind = sa.func.json_type(column).in_(kind.split("|"))
    is_right: sa.ColumnElement[bool] = of_kind if kind else sa.true()
    if part:
        is_right &= ~sa.exists().select_from(each).where(each.c.type != part)
    is_given: sa.ColumnElement[bool] = column.is_not(None)
    return is_given & ~sa.case((sa.func.json_valid(column), is_right), else_=False)


def repair(ids: tuple[str, ...], step: Step) -> list[Broken]:
    """Make triggers and indexes anew, and empty the broken JSON; return what that was.

    Rows without their parent are deleted, and threads name their active run. All is stored, or
    nothing. Raises ClickException when the row of broken JSON is not one of `ids`; ApiError.
    """
    schema = definitions()
    return database.write(
        lambda connection: _repair(connection, schema, ids, step), COMMAND_SECONDS
    )


def _repair(
    connection: Connection, schema: dict[str, str], ids: tuple[str, ...], step: Step
) -> list[Broken]:
    _drop(connection, schema)
    broken = _empty(connection, ids)
    for column, parent in _PARENTS:
        is_orphan = column.not_in(sa.select(parent))
        connection.change(sa.delete(column.class_.__table__).where(is_orphan))
    for run in connection.rows(_OLDER):
        states.end(connection, run, states.End("cancelled"), ACTIVE_STATUSES)
    connection.change("REINDEX")
    triggers = [sql for sql in schema.values() if sql.startswith("CREATE TRIGGER")]
    for sql in set(schema.values()).difference(triggers):
        connection.change(sql)
    connection.change(_LOCK.values(active_run=_ACTIVE.limit(1).scalar_subquery()))
    for match in filter(None, map(_ADDS.match, triggers)):
        _replay(connection, match[1], match[2], step)
    for sql in triggers:
        connection.change(sql)
    return broken


def _drop(connection: Connection, schema: dict[str, str]) -> None:
    """Drop what is made anew: triggers first, for one that fails would stop the rest."""
    rows = connection.rows("SELECT type, name FROM sqlite_master ORDER BY type DESC")
    for row in rows:
        if row.name in schema:
            connection.change(f"DROP {row.type} {row.name}")


def _empty(connection: Connection, ids: tuple[str, ...]) -> list[Broken]:
    broken = [*broken_json(connection)]
    if others := {each.id for each in broken}.difference(ids):
        raise click.ClickException(f"Nothing was changed: {advice(sorted(others))}.")
    places = {(each.table, each.column) for each in broken}
    for column, kind, part in _JSON:
        table = column.class_.__table__
        if (table.name, column.name) not in places:
            continue
        empty = None if column.nullable else _EMPTY.get(column.name, _EMPTY[kind])
        change = sa.update(table).where(_is_broken(column, kind, part))
        connection.change(change.values({column.name: empty}))
    return broken


def advice(ids: list[str]) -> str:
    """Return how to go on without the broken JSON of some ids."""
    resets = "".join(f" --reset {id_}" for id_ in ids[:_SHOWN])
    more = f" … ({len(ids):,} in all)" if len(ids) > _SHOWN else ""
    return f"empty the broken JSON with flask doctor --repair{resets}{more}"


def _replay(connection: Connection, table: str, body: str, step: Step) -> None:
    """Do for every row of a table what its trigger does for a new one."""
    connection.change(f"CREATE TEMP VIEW replayed AS SELECT * FROM main.{table}")  # noqa: S608
    connection.change(f"CREATE TEMP TRIGGER replay INSTEAD OF INSERT ON replayed{body}")
    last, rows = 0, -1
    while rows:
        some = f"SELECT * FROM main.{table} WHERE seq > {last} ORDER BY seq LIMIT {_AT_ONCE}"  # noqa: S608
        rows, end = connection.row(f"SELECT count(*), max(seq) FROM ({some})")  # noqa: S608
        connection.change(f"INSERT INTO replayed {some}")
        last = end
        step(rows)
    connection.change("DROP VIEW replayed")
