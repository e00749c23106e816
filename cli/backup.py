"""`flask backup`: a copy of the database beside a running server."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from flask import current_app

import database
from cli.options import megabytes, sqlite_path
from database import files, sqlite, startup

_REPLAYED = ("-wal", "-shm", "-journal")
"""The files from which SQLite would change the database that they are named after."""


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def backup(file: Path, force: bool) -> None:
    """Copy the database into FILE while the server runs; it gets its name when it is checked."""
    source = sqlite_path("pg_dump backs PostgreSQL up")
    if reason := _reason_against(source, file, force):
        raise click.ClickException(reason)
    try:
        with whole_file(file.resolve()) as draft:
            click.echo(f"Copying {megabytes(source.stat().st_size)} …", err=True)
            database.the_file().copy_to(draft)
            click.echo("Checking the copy …", err=True)
            if faults := sqlite.faults_of(draft):
                raise click.ClickException(f"No backup was made: {'; '.join(faults[:3])}.")
    except (OSError, sqlite.Error) as error:
        raise click.ClickException(f"No backup was made: {error}.") from error
    click.echo(f"Wrote {file}, {megabytes(file.stat().st_size)}.", err=True)


def _reason_against(source: Path, file: Path, force: bool) -> str:
    """Return why there can be no such backup, or nothing."""
    if not source.exists():
        return f"There is no database at {source}."
    if not sqlite.look_up(current_app.config["SQLALCHEMY_DATABASE_URI"], startup.REVISION):
        return f"{source} holds no threads: it has no tables of this program."
    own = {Path(f"{each}{end}") for each in (source, source.resolve()) for end in files.COMPANIONS}
    if file.resolve() in {each.resolve() for each in own}:
        return f"{file} belongs to the database itself."
    if file.exists() and not file.is_file():
        return f"{file} is no regular file."
    if file.exists() and not force:
        return f"{file} exists; --force replaces it."
    logs = [log for end in _REPLAYED if (log := Path(f"{file.resolve()}{end}")).exists()]
    return (
        f"{logs[0]} belongs to a database that is in use or was not closed: move it away."
        if logs
        else ""
    )


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a name beside the target, which takes the target's when the file is whole on disk."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    _remove_left(target)
    try:
        yield draft
        _sync(draft)
        draft.replace(target)
        _sync(target.parent)
    finally:
        _remove(draft)


def _remove_left(target: Path) -> None:
    """Remove the drafts of killed processes."""
    for draft in target.parent.glob(f".{glob.escape(target.name)}.*"):
        pid = draft.suffix[1:]
        if pid == str(os.getpid()) or (pid.isdecimal() and not _is_running(int(pid))):
            _remove(draft)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        pass
    return True


def _remove(draft: Path) -> None:
    for end in ("", *_REPLAYED):
        Path(f"{draft}{end}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
