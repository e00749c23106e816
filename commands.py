"""The `flask` command line: the app and its commands (Alembic stays out of the server)."""

import gc
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
import flask_migrate
import sqlalchemy as sa
from environs import EnvValidationError
from flask import Flask, current_app

import app as application
import config
import database
import exchange
import keys
import listing
import store
from errors import ApiError
from models import DEFAULT_PROJECT, ApiKey, Message, Thread, db, unix_now
from operating import backup, doctor, whole

gc.freeze()  # looking through all that is imported makes a command's end 0.25 s longer
_NUMBER = re.compile("[0-9]{1,11}", re.ASCII)
_PROJECT = re.compile("[A-Za-z0-9_.-]{1,64}")
_LONGEST_AGE = 100 * 366 * 86_400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NO_MEMORY = "A key in a database in memory ends with this command: set THREADS_DATABASE_URL."
_PRUNED_AT_ONCE = 500
_LINE_EVERY_SECONDS = 2


def create_app(settings: Mapping[str, Any] | None = None) -> Flask:
    """Build the app with every command."""
    try:
        app = application.create_app(settings)
    except EnvValidationError as error:
        sys.exit(f"Wrong settings: {error}")
    database.make_folder(app.config["SQLALCHEMY_DATABASE_URI"])
    flask_migrate.Migrate(app, db, directory=str(config.ROOT / "migrations"))
    for command in (export, import_, prune, keys_group, backup, doctor):
        app.cli.add_command(command)
    return app


def prepare_database() -> None:
    """Bring the schema up to date, then load THREADS_SEED into an empty database.

    Raises SystemExit with one line for a database that is newer than this program.
    """
    if not database.is_current(current_app.config["SQLALCHEMY_DATABASE_URI"]):
        flask_migrate.upgrade()
    if current_app.config["SEED"] and not _count(None):
        with database.write(wait=database.COMMAND_SECONDS) as connection:
            exchange.load_seed(connection, current_app.config["SEED"])


class Pair(click.ParamType[tuple[str, str]]):
    """A metadata pair, written key=value."""

    name = "key=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        key, sign, text = value.partition("=")
        return (key, text) if sign else self.fail("Write it as key=value.", param, ctx)


class Moment(click.ParamType[int]):
    """A time: seconds since 1970, or a date (UTC)."""

    name = "seconds|YYYY-MM-DD"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int) or _NUMBER.fullmatch(value):
            return int(value)
        try:
            return int(datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
        except ValueError:
            self.fail("Write it as seconds since 1970 or as YYYY-MM-DD.", param, ctx)


class Age(click.ParamType[int]):
    """A length of time, written 45m, 12h, 30d or 8w; in seconds."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if _NUMBER.fullmatch(value[:-1]) and value[-1] in _UNITS:
            seconds = int(value[:-1]) * _UNITS[value[-1]]
            if seconds > _LONGEST_AGE:
                self.fail("It may be 100 years at most.", param, ctx)
            return seconds
        self.fail("Write it as a number and s, m, h, d or w, for example 30d.", param, ctx)


def _project_name(_: click.Context, param: click.Parameter, name: str) -> str:
    if not _PROJECT.fullmatch(name):
        raise click.BadParameter("Give it 1 to 64 letters, digits, -, _ or .", param=param)
    return name


def _no_key_twice(
    _: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    if len(dict(pairs)) < len(pairs):
        raise click.BadParameter("A key is given twice; no thread has two values.", param=param)
    return pairs


_project = click.option("--project", default=DEFAULT_PROJECT, show_default=True)
_metadata = click.option(
    "--metadata",
    type=Pair(),
    multiple=True,
    callback=_no_key_twice,
    help="Must match; repeatable.",
)


@click.command()
@click.option("--as", "form", type=click.Choice(sorted(exchange.RENDERS)), default="jsonl")
@click.option("--output", type=click.Path(dir_okay=False), default="-", help="Default: stdout.")
@click.option("--created-after", type=Moment())
@click.option("--created-before", type=Moment())
@click.option("--q", help="All these words in one message.")
@_metadata
@_project
def export(
    form: str, output: str, metadata: list[tuple[str, str]], project: str, **filters: Any
) -> None:
    """Write threads with their messages, oldest first."""
    query = {key: value for key, value in filters.items() if value is not None}
    query |= {"metadata": dict(metadata)} if metadata else {}
    with _database(), _whole_file(output) as file:
        total = None if query else _count(project)
        with _progress("Exported", "threads", total) as step:
            for pieces in exchange.export(project, query, exchange.RENDERS[form]):
                file.writelines(pieces)
                step(1)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "skip", "replace"]),
    default="fail",
    show_default=True,
    help="What becomes of a thread that exists already.",
)
@_project
def import_(files: tuple[IO[bytes], ...], on_conflict: str, project: str) -> None:
    """Read threads from JSON Lines, keeping ids and times; a bad line loses nothing else."""
    counts = dict.fromkeys(("imported", "replaced", "skipped", "refused"), 0)
    for file in files:
        with _database(), _progress(f"Read {file.name}:", "bytes", _size(file)) as step:
            for outcome in exchange.import_lines(project, _counted(file, step), on_conflict):
                counts[outcome.result] += 1
                if outcome.reason:
                    click.echo(f"{file.name}:{outcome.line}: {outcome.reason}", err=True)
    click.echo(", ".join(f"{result} {count:,}" for result, count in counts.items()), err=True)
    if counts["refused"]:
        raise SystemExit(1)


@click.command()
@click.option("--older-than", type=Age(), required=True, help="No activity for so long: 30d, 8w.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@_metadata
@_project
def prune(older_than: int, dry_run: bool, metadata: list[tuple[str, str]], project: str) -> None:
    """Delete threads whose creation and newest message are older than an age."""
    before = unix_now() - older_than
    active = sa.exists().where(Message.thread_seq == Thread.seq, Message.created_at >= before)
    stale = sa.select(Thread.seq).where(
        Thread.project == project, Thread.created_at < before, ~active
    )
    for key, value in metadata:
        stale = stale.where(listing.has_pair(project, key, value))
    with _database():
        with database.read() as connection:
            seqs = [row.seq for row in connection.rows(stale)]
        if dry_run:
            click.echo(f"{len(seqs):,} threads would be deleted.")
            return
        with _progress("Deleted", "threads", len(seqs)) as step:
            for start in range(0, len(seqs), _PRUNED_AT_ONCE):
                some = seqs[start : start + _PRUNED_AT_ONCE]
                with database.write(wait=database.COMMAND_SECONDS) as connection:
                    step(store.delete_threads(connection, project, Thread.seq.in_(some) & ~active))


@click.group("keys")
def keys_group() -> None:
    """Make, list and revoke API keys. From the first one on, every API call needs one."""


@keys_group.command("create")
@click.argument("project", callback=_project_name)
@click.option("--name", default="", help="A note for yourself.")
@click.option("--expires", type=Age(), help="Its length of life: 90d, 12w. Default: no end.")
def create_key(project: str, name: str, expires: int | None) -> None:
    """Print a new key for PROJECT, once. `default` is the project of open mode."""
    if database.is_memory(current_app):
        raise click.ClickException(_NO_MEMORY)
    with _database():
        key = keys.create(project, name, expires and unix_now() + expires)
        try:
            click.echo(key)
        except OSError:
            keys.revoke(key)  # nobody has seen it
            raise


@keys_group.command("list")
def list_keys() -> None:
    """List all keys; none is ever shown whole."""
    with _database(), database.read() as connection:
        for key in connection.rows(sa.select(ApiKey.__table__).order_by(ApiKey.seq)):
            times = f"created {_day(key.created_at)}, used {_day(key.last_used_at)}"
            ends = f"expires {_day(key.expires_at)}, revoked {_day(key.revoked_at)}"
            click.echo(f"{key.shown}…  {key.project}  {key.name or '-'}  {times}, {ends}")


@keys_group.command("revoke")
@click.argument("key")
def revoke_key(key: str) -> None:
    """Revoke KEY, given whole or as the list shows it."""
    with _database():
        if not keys.revoke(key.rstrip("…")):
            raise click.ClickException("No valid key begins so; `flask keys list` shows them.")
    click.echo("Revoked.", err=True)


def _day(second: int | None) -> str:
    return "-" if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M}"


@contextmanager
def _database() -> Iterator[None]:
    """Bring the schema up to date; turn what fails into one line and status 1."""
    try:
        prepare_database()
        yield
    except ApiError as error:
        raise click.ClickException(str(error.description)) from error
    except BrokenPipeError:
        raise  # whoever read has seen enough: click ends without a word
    except database.FAILURES as error:
        raise click.ClickException(f"This failed: {database.cause_of(error)}.") from error
    except UnicodeEncodeError as error:
        raise click.ClickException("Arguments must be UTF-8.") from error


@contextmanager
def _whole_file(path: str) -> Iterator[IO[bytes]]:
    """Yield a file that takes its name only when all of it is written; `-` is stdout."""
    given = Path(path)
    if path == "-" or (given.exists() and not given.is_file()):
        with click.open_file(path, "wb") as stream:
            yield stream
            stream.flush()
        return
    try:
        with whole(given.resolve()) as unfinished, unfinished.open("wb") as file:
            yield file
    except OSError as error:
        raise click.FileError(path, error.strerror) from error


@contextmanager
def _progress(label: str, unit: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts steps: a bar on a terminal, lines now and then in a pipe."""
    if total and sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    done, told = 0, time.monotonic()

    def step(count: int) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told >= _LINE_EVERY_SECONDS:
            told = time.monotonic()
            tell()

    def tell() -> None:
        of_total = f" of {total:,}" if total else ""
        click.echo(f"{label} {done:,}{of_total} {unit}", err=True)

    yield step
    tell()


def _count(project: str | None) -> int:
    """Count a project's threads; with None, those of all."""
    count = sa.select(sa.func.count()).select_from(Thread)
    if project is not None:
        count = count.where(Thread.project == project)
    with database.read() as connection:
        return int(connection.value(count))


def _size(file: IO[bytes]) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _counted(lines: Iterable[bytes], step: Callable[[int], None]) -> Iterator[bytes]:
    for line in lines:
        yield line
        step(len(line))
