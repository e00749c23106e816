"""What the commands share: types of options, the database, and the progress on stderr."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import flask_migrate
import sqlalchemy as sa
from flask import current_app

import database
from database import files, startup, transactions
from exchange.imports import COMMAND_SECONDS, load_seed, told
from models import DEFAULT_PROJECT, Assistant, Thread
from rules.errors import ApiError

_PROJECT = re.compile("[A-Za-z0-9_.-]{1,64}")
_SECONDS = re.compile("[0-9]{1,11}")
_AGE = re.compile("([0-9]{1,11})([smhdw])")
_LONGEST_AGE = 100 * 366 * 86_400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LINE_EVERY_SECONDS = 2


def project_name(text: str) -> str:
    """Return the name of a project that an API key may open."""
    if not _PROJECT.fullmatch(text):
        raise click.BadParameter("Give it 1 to 64 letters, digits, -, _ or .")
    return text


def moment(text: str) -> int:
    """Return the seconds since 1970 of a time: they themselves, or a date (UTC)."""
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise click.BadParameter("Write it as seconds since 1970 or as YYYY-MM-DD.") from None


def age(text: str) -> int:
    """Return the seconds of a length of time, written 45m, 12h, 30d or 8w."""
    if not (match := _AGE.fullmatch(text)):
        raise click.BadParameter("Write it as a number and s, m, h, d or w, for example 30d.")
    if (seconds := int(match[1]) * _UNITS[match[2]]) > _LONGEST_AGE:
        raise click.BadParameter("It may be 100 years at most.")
    return seconds


def _pairs(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """Return metadata, written key=value."""
    if not all("=" in text for text in texts):
        raise click.BadParameter("Write it as key=value.")
    pairs = dict(text.split("=", 1) for text in texts)
    if len(pairs) < len(texts):
        raise click.BadParameter("A key is given twice; no thread has two values.")
    return pairs


project = click.option(
    "--project", type=project_name, metavar="TEXT", default=DEFAULT_PROJECT, show_default=True
)
metadata = click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_pairs,
    help="Must match; repeatable.",
)


def prepare_database() -> None:
    """Bring the schema up to date, then load THREADS_SEED into an empty database.

    What is changed in the seed is told on stderr.
    Raises SystemExit with one line for a database that is newer than this program.
    """
    if not startup.is_current(current_app.config["SQLALCHEMY_DATABASE_URI"]):
        flask_migrate.upgrade()
    if (seed := current_app.config["SEED"]) and _is_empty():
        notes = database.write(lambda connection: load_seed(connection, seed), COMMAND_SECONDS)
        for note in told(notes):
            click.echo(f"{seed}: {note}", err=True)


def _is_empty() -> bool:
    has_some = sa.or_(*(sa.exists().where(table.seq > 0) for table in (Thread, Assistant)))
    with database.read() as connection:
        return not connection.value(sa.select(has_some))


@contextmanager
def prepared_database() -> Iterator[None]:
    """Bring the schema up to date; turn what fails into one line and status 1."""
    try:
        prepare_database()
        yield
    except ApiError as error:
        raise click.ClickException(error.message) from error
    except BrokenPipeError:
        raise  # the reader has seen enough: click ends without a word
    except transactions.FAILURES as error:
        raise click.ClickException(f"This failed: {transactions.cause_of(error)}.") from error
    except UnicodeEncodeError as error:
        raise click.ClickException("Arguments must be UTF-8.") from error


def count_threads(*conditions: sa.ColumnElement[bool]) -> int:
    """Count the threads of all projects that meet some conditions."""
    with database.read() as connection:
        return int(connection.value(sa.select(sa.func.count(Thread.seq)).where(*conditions)))


@contextmanager
def progress(label: str, unit: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts steps: a bar on a terminal, lines now and then in a pipe."""
    if total and sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    count, printed_at = 0, time.monotonic()
    of_total = f" of {total:,}" if total else ""

    def step(more: int, pause: float = _LINE_EVERY_SECONDS) -> None:
        nonlocal count, printed_at
        count += more
        if time.monotonic() - printed_at >= pause:
            printed_at = time.monotonic()
            click.echo(f"{label} {count:,}{of_total} {unit}", err=True)

    yield step
    step(0, pause=0)


def sqlite_path(instead: str) -> Path:
    """Return the path of the database file. Raises ClickException on PostgreSQL."""
    url = current_app.config["SQLALCHEMY_DATABASE_URI"]
    if transactions.is_postgres(url):
        raise click.ClickException(f"This is for SQLite; {instead}.")
    return files.file_of(url)


def megabytes(size: float) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / (1 << 20):,.1f} MB"
