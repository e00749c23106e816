"""`flask export`, `flask import` and `flask prune`: threads out, in, and away."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import sqlalchemy as sa

import database
from cli.backup import whole_file
from cli.options import age, count_threads, metadata, moment, prepared_database, progress, project
from display.texts import quantity
from exchange import exports, imports
from exchange.reports import Report, in_words
from lists.threads import has_pair
from models import Thread
from rules import refusals
from rules.errors import ApiError
from rules.ids_and_clock import unix_now
from store import activity, deletions

_PRUNED_AT_ONCE = 500
to_file = click.option(
    "--output", "path", type=click.Path(dir_okay=False), default="-", help="Default: stdout."
)


@click.command()
@click.option("--as", "form", type=click.Choice(["jsonl", "markdown"]), default="jsonl")
@to_file
@click.option("--created-after", type=moment, metavar="SECONDS|YYYY-MM-DD")
@click.option("--created-before", type=moment, metavar="SECONDS|YYYY-MM-DD")
@click.option("--q", help="All these words in one message.")
@metadata
@project
def export(form: str, path: str, project: str, **filters: Any) -> None:
    """Write threads with their messages, oldest first; as JSON Lines all assistants before them.

    With a filter, threads only.
    """
    query = {name: value for name, value in filters.items() if value not in (None, {})}
    with prepared_database(), output(path) as file:
        total = 0 if query else count_threads(Thread.project == project)
        if form == "jsonl" and not query:
            file.writelines(exports.export_assistants(project))
        with progress("Exported", "threads", total) as step:
            for pieces in exports.export(project, query, exports.RENDERS[form]):
                file.writelines(pieces)
                step(1)


@contextmanager
def output(path: str) -> Iterator[IO[bytes]]:
    """Yield a file that takes its name only when all of it is written; `-` is stdout."""
    target = Path(path)
    if path == "-" or (target.exists() and not target.is_file()):
        with click.open_file(path, "wb") as stream:
            yield stream
            stream.flush()
        return
    try:
        with whole_file(target.resolve()) as draft, draft.open("wb") as file:
            yield file
    except OSError as error:
        raise click.FileError(path, error.strerror) from error


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "skip", "replace"]),
    default="fail",
    show_default=True,
    help="What becomes of a thread or an assistant that exists already.",
)
@project
def import_(files: tuple[IO[bytes], ...], on_conflict: str, project: str) -> None:
    """Read JSON Lines, keeping ids and times; a bad line loses nothing else."""
    counts = Counter[str]()
    for file in files:
        size, report = os.fstat(file.fileno()).st_size, Report()
        with prepared_database(), progress(f"Read {file.name}:", "bytes", size) as step:
            lines = _counted(file, step)
            for outcome in imports.import_lines(project, lines, on_conflict, is_bounded=False):
                if reason := report.add(outcome):
                    click.echo(f"{file.name}:{outcome.line}: {reason}", err=True)
        for sentence in report.rest():
            click.echo(f"{file.name}: {sentence}", err=True)
        counts.update(report.counts)
    click.echo(in_words(counts), err=True)
    if counts["refused"]:
        raise SystemExit(1)


def _counted(lines: Iterable[bytes], step: Callable[[int], None]) -> Iterator[bytes]:
    for line in lines:
        yield line
        step(len(line))


@click.command()
@click.option("--older-than", type=age, required=True, help="No activity for so long: 30d, 8w.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@metadata
@project
def prune(older_than: int, dry_run: bool, metadata: dict[str, str], project: str) -> None:
    """Delete threads whose creation and newest message are older than an age."""
    before = unix_now() - older_than
    is_inactive = activity.is_inactive(before)
    pairs = [has_pair(project, key, value) for key, value in metadata.items()]
    old = sa.select(Thread.seq).where(Thread.project == project, is_inactive, *pairs)
    with prepared_database():
        with database.read() as connection:
            seqs = [row.seq for row in connection.rows(old)]
        if dry_run:
            click.echo(f"{quantity(len(seqs), 'thread')} would be deleted.")
            return
        deletions.delete_left()
        _delete(project, seqs, is_inactive)


def _delete(project: str, seqs: list[int], is_inactive: sa.ColumnElement[bool]) -> None:
    """Delete threads in batches; one that has become active since then stays."""
    condition = Thread.seq.in_(sa.bindparam("seqs", expanding=True)) & is_inactive
    count = 0
    with progress("Deleted", "threads", len(seqs)) as step:
        for start in range(0, len(seqs), _PRUNED_AT_ONCE):
            some = {"seqs": seqs[start : start + _PRUNED_AT_ONCE]}
            try:
                more = deletions.delete_threads(project, condition, some, imports.COMMAND_SECONDS)
            except ApiError as refusal:
                raise refusals.after_batches(refusal, count, "deleted") from refusal
            step(more)
            count += more
