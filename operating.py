"""`flask backup` and `flask doctor`: both work beside a running server and change nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

import config
import database
import sqlite
from errors import ApiError
from models import SCHEMA_REVISION

_COMPANIONS = ("", "-wal", "-shm", "-queue", "-queue-bell", "-secret")
_REPLAYED = ("-wal", "-shm", "-journal")
_MOUNTS = Path("/proc/mounts")
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse", "virtiofs", "ceph", "gluster", "afs")
_PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0}
_VALID_KEYS = (
    "SELECT count(*) AS valid FROM api_keys WHERE revoked_at IS NULL "
    "AND coalesce(expires_at > CAST(strftime('%s') AS INTEGER), 1)"
)

Finding = tuple[str, str, str]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@with_appcontext
def backup(file: Path, force: bool) -> None:
    """Copy the database into FILE while the server runs; it gets its name when it is checked."""
    if database.is_postgres(current_app.config["SQLALCHEMY_DATABASE_URI"]):
        raise click.ClickException("This is for SQLite; pg_dump backs PostgreSQL up.")
    source = _path()
    if not source.exists():
        raise click.ClickException(f"There is no database at {source}.")
    own = {Path(f"{each}{suffix}") for each in (source, source.resolve()) for suffix in _COMPANIONS}
    if file.resolve() in {each.resolve() for each in own}:
        raise click.ClickException(f"{file} belongs to the database itself.")
    if file.exists() and not file.is_file():
        raise click.ClickException(f"{file} is no regular file.")
    if file.exists() and not force:
        raise click.ClickException(f"{file} exists; --force replaces it.")
    _refuse_beside_a_log(file)
    try:
        with whole(file.resolve()) as unfinished:
            click.echo(f"Copying {_size(source.stat().st_size)} …", err=True)
            database.the_file().copy_to(unfinished)
            click.echo("Checking the copy …", err=True)
            if faults := sqlite.faults_of(unfinished):
                raise click.ClickException(f"No backup was made: {_shown(faults)}.")
    except (OSError, sqlite.Error) as error:
        raise click.ClickException(f"No backup was made: {error}.") from error
    click.echo(f"Wrote {file}, {_size(file.stat().st_size)}.", err=True)


def _refuse_beside_a_log(file: Path) -> None:
    """Refuse a name with the log of another database: SQLite would replay it into the backup."""
    for suffix in _REPLAYED:
        if (log := Path(f"{file.resolve()}{suffix}")).exists():
            raise click.ClickException(f"{log} is of a database in use or killed: move it away.")


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Yield a name beside the target, which takes the target's when the file is whole on disk."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(target)
        _sync(target.parent)
    finally:
        for suffix in ("", *_REPLAYED):
            Path(f"{unfinished}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@click.command()
@with_appcontext
def doctor() -> None:
    """Examine settings, files and database, a line each; status 1 when something must be mended."""
    if database.is_postgres(current_app.config["SQLALCHEMY_DATABASE_URI"]):
        raise click.ClickException("This is for SQLite; /readyz tells whether PostgreSQL answers.")
    failed = False
    for state, name, text in _findings(_path()):
        click.echo(f"{state:4}  {name:11}  {text}")
        failed |= state == "fail"
    raise SystemExit(failed)


def _findings(path: Path) -> Iterator[Finding]:
    """Yield each finding; one that cannot be had ends the rest, for they rest on it."""
    try:
        yield from _of_machine()
        yield from _of_files(path)
        if path.stat().st_size:
            yield from _of_database()
        else:  # a connection would write into it
            yield "fail", "database", f"{path} is empty; a start makes the tables"
    except ApiError as error:
        cause = error.__cause__ and database.cause_of(error.__cause__)
        yield "fail", "database", str(cause or error.description)
    except OSError as error:
        yield "fail", "files", str(error)


def _of_machine() -> Iterator[Finding]:
    shown = ("BIND", "WORKERS", "WORKER_THREADS", "DURABILITY", "MAX_BODY_BYTES", "MOCK")
    given = {name: current_app.config[name] for name in shown}
    yield "ok", "settings", ", ".join(f"{name}={value}" for name, value in given.items() if value)
    version = sqlite.VERSION
    advice = "" if sqlite.has_wal_fix(version) else " has the WAL-reset bug; 3.51.3 fixes it"
    yield _judge("SQLite", ".".join(map(str, version)) + advice, warn=bool(advice))


def _of_files(path: Path) -> Iterator[Finding]:
    """Judge the files: owner and nobody else, on a disk of this machine, with room left."""
    present = [each for suffix in _COMPANIONS if (each := Path(f"{path}{suffix}")).exists()]
    modes = [each.stat() for each in (path, *present)]
    own = len({mode.st_uid for mode in modes}) == 1 and os.access(path.parent, os.W_OK)
    shared = any(mode.st_mode & 0o077 for mode in modes)
    advice = " (one owner, who can write; mode 600)" if shared or not own else ""
    yield _judge("files", f"{path}{advice}", fail=not own, warn=shared)
    kind = _filesystem_of(path)
    yield _judge("filesystem", kind or "unknown", warn=not kind or kind.startswith(_NETWORK))
    free, wal = sqlite.free_bytes(path), sqlite.wal_bytes(path)
    yield _judge("disk", f"{_size(free)} free", fail=free < sqlite.DISK_FLOOR_BYTES)
    yield _judge("WAL", _size(wal), warn=wal > sqlite.WAL_LIMIT_BYTES)


def _filesystem_of(path: Path) -> str:
    """Return the type of the filesystem that holds a file, or nothing where no list tells."""
    if not _MOUNTS.exists():
        return ""
    mounts = dict(line.split()[1:3] for line in _MOUNTS.read_text().splitlines())
    return next((mounts[str(p)] for p in path.resolve().parents if str(p) in mounts), "")


def _of_database() -> Iterator[Finding]:
    pragmas = {name: _ask(f"PRAGMA {name}")[0] for name in _PRAGMAS}
    safe = pragmas | {"synchronous": 2} == _PRAGMAS
    text = ", ".join(f"{name}={value}" for name, value in pragmas.items())
    yield _judge("PRAGMAs", text, fail=not safe, warn=pragmas != _PRAGMAS)
    [schema] = _ask("SELECT version_num FROM alembic_version") or ["none"]
    text = f"{schema}; this program's is {SCHEMA_REVISION}"
    yield _judge("schema", text, fail=schema > SCHEMA_REVISION, warn=schema != SCHEMA_REVISION)
    for name, check in (("integrity", "integrity_check"), ("references", "foreign_key_check")):
        faults = [str(row) for row in _ask(f"PRAGMA {check}") if row != "ok"]
        yield _judge(name, _shown(faults), fail=bool(faults))
    faults = [str(row) for row in _ask("PRAGMA integrity_check(message_text)") if row != "ok"]
    # An older SQLite passes over what only writing could check.
    checked = sqlite.VERSION >= (3, 44)
    text = _shown(faults) if checked else "not checked: needs SQLite 3.44"
    yield _judge("text search", text, fail=bool(faults), warn=not checked)
    [made], [valid] = _ask("SELECT count(*) AS made FROM api_keys"), _ask(_VALID_KEYS)
    reachable = not config.is_loopback(config.address(current_app.config["BIND"])[0])
    text = f"keyed: {valid} of {made} keys are valid" if made else "open: no key was ever made"
    yield _judge("mode", text, fail=reachable and not made, warn=bool(made and not valid))


def _judge(name: str, text: str, fail: bool = False, warn: bool = False) -> Finding:
    return "fail" if fail else "warn" if warn else "ok", name, text


def _path() -> Path:
    return sqlite.file_of(current_app.config["SQLALCHEMY_DATABASE_URI"])


def _ask(statement: str) -> list[Any]:
    with database.read() as connection:
        return [row[0] for row in connection.rows(statement)]


def _shown(faults: list[str]) -> str:
    return "; ".join(faults[:3]) or "no fault found"


def _size(size: float) -> str:
    return f"{size / (1 << 20):,.1f} MB"
