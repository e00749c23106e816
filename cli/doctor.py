"""`flask doctor`: what is wrong with settings, files and database, and the repair of indexes."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from flask import current_app

import config
import database
from access import api_keys
from cli import damage
from cli.options import megabytes, progress, sqlite_path
from database import files, sqlite, startup
from database.transactions import cause_of
from models import SCHEMA_REVISION
from rules.errors import AnswerError, ApiError

_MOUNTS = Path("/proc/mounts")
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse", "virtiofs", "ceph", "gluster", "afs")
_REPAIR = "flask doctor --repair"
_PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0}

Finding = tuple[str, str, str]
"""`ok`, `warn` or `fail`; the name of what was looked at; what there is to say of it."""

_CAN_LOOK = sqlite.VERSION >= (3, 44)  # an older one passes over what only writing could check
_ONLY_COUNTED: Finding = ("warn", "text search", "only counted: to look into it needs SQLite 3.44")


@click.command()
@click.option("--repair", is_flag=True, help="Make triggers and indexes anew; status as without.")
@click.option("--reset", "ids", multiple=True, metavar="ID", help="Empty the broken JSON of ID.")
def doctor(repair: bool, ids: tuple[str, ...]) -> None:
    """Examine settings, files and database, a line each; status 1 when something must be mended."""
    path = sqlite_path("/readyz tells whether PostgreSQL answers")
    if repair or ids:
        _repair(ids)
    has_failed = False
    for state, name, text in _findings(path):
        click.echo(f"{state:4}  {name:11}  {text}")
        has_failed |= state == "fail"
    raise SystemExit(has_failed)


def _repair(ids: tuple[str, ...]) -> None:
    """Print what is emptied, a JSON object a line."""
    if not startup.is_current(current_app.config["SQLALCHEMY_DATABASE_URI"]):
        raise click.ClickException("No database of this version is there: start the server once.")
    try:
        with progress("Indexed", "rows", 0) as step:
            for broken in damage.repair(ids, step):
                click.echo(json.dumps(broken._asdict()))
    except ApiError as error:
        cause = cause_of(error.__cause__ or error)
        raise click.ClickException(f"Nothing was changed: {cause}.") from error


def _findings(path: Path) -> Iterator[Finding]:
    """Yield each finding. One that fails to come ends the rest, for they rest on it."""
    try:
        yield from _of_machine()
        yield from _of_model()
        yield from _of_files(path)
        if path.stat().st_size:
            yield from _of_database()
        else:  # a connection would write into it
            yield "fail", "database", f"{path} is empty; a start makes the tables"
    except ApiError as error:
        yield "fail", "database", cause_of(error.__cause__ or error)
    except OSError as error:
        yield "fail", "files", str(error)


def _of_machine() -> Iterator[Finding]:
    names = ("BIND", "WORKERS", "WORKER_THREADS", "DURABILITY", "MAX_BODY_BYTES", "MOCK")
    settings = [f"{name}={value}" for name in names if (value := current_app.config[name])]
    yield "ok", "settings", ", ".join(settings)
    version = sqlite.VERSION
    advice = "" if sqlite.has_wal_fix(version) else " has the WAL-reset bug; 3.51.3 fixes it"
    yield _judge("SQLite", ".".join(map(str, version)) + advice, warn=bool(advice))


def _of_model() -> Iterator[Finding]:
    """Ask the endpoint for its models."""
    model = current_app.extensions["players"].model
    if model is None:
        return
    try:
        listed = model.models()
    except AnswerError as error:
        yield "fail", "model", str(error)
        return
    amiss = [f"{name} of THREADS_MODELS is not there" for name in sorted(model.names_amiss(listed))]
    names = ", ".join(each["id"] for each in listed[:10])
    text = "; ".join([f"the endpoint has {len(listed)}: {names}", *amiss])
    yield _judge("model", text, warn=bool(amiss) or not listed)


def _of_files(path: Path) -> Iterator[Finding]:
    """Judge the files: owner and nobody else, on a disk of this machine, with room left."""
    present = [each for end in files.COMPANIONS if (each := Path(f"{path}{end}")).exists()]
    modes = [each.stat() for each in (path, *present)]
    is_own = len({mode.st_uid for mode in modes}) == 1 and os.access(path.parent, os.W_OK)
    is_shared = any(mode.st_mode & 0o077 for mode in modes)
    advice = " (one owner, who can write; mode 600)" if is_shared or not is_own else ""
    yield _judge("files", f"{path}{advice}", fail=not is_own, warn=is_shared)
    kind = _filesystem_of(path)
    yield _judge("filesystem", kind or "unknown", warn=not kind or kind.startswith(_NETWORK))
    free, wal = files.free_bytes(path), database.the_file().log_bytes()
    yield _judge("disk", f"{megabytes(free)} free", fail=free < files.DISK_FLOOR_BYTES)
    yield _judge("WAL", megabytes(wal), warn=wal > files.WAL_LIMIT_BYTES)


def _filesystem_of(path: Path) -> str:
    """Return the type of the filesystem that holds a file, or nothing where no list tells."""
    if not _MOUNTS.exists():
        return ""
    mounts = dict(line.split()[1:3] for line in _MOUNTS.read_text().splitlines())
    return next((mounts[str(p)] for p in path.resolve().parents if str(p) in mounts), "")


def _of_database() -> Iterator[Finding]:
    pragmas = {name: _query(f"PRAGMA {name}")[0] for name in _PRAGMAS}
    is_safe = pragmas | {"synchronous": 2} == _PRAGMAS
    text = ", ".join(f"{name}={value}" for name, value in pragmas.items())
    yield _judge("PRAGMAs", text, fail=not is_safe, warn=pragmas != _PRAGMAS)
    [schema] = _query("SELECT version_num FROM alembic_version") or ["none"]
    text = f"{schema}; this program's is {SCHEMA_REVISION}"
    yield _judge("schema", text, fail=schema > SCHEMA_REVISION, warn=schema != SCHEMA_REVISION)
    yield _check("integrity", _pragma("integrity_check"), "restore the newest backup")
    yield _check("references", _pragma("foreign_key_check"), _REPAIR)
    if schema == SCHEMA_REVISION:
        yield _check("triggers", _definitions_amiss, _REPAIR)
        yield _check("metadata", _pairs_amiss, _REPAIR)
        yield _check("runs", _locks_amiss, _REPAIR)
        text_search = _check("text search", _texts_amiss, _REPAIR)
        yield text_search if _CAN_LOOK or text_search[0] == "fail" else _ONLY_COUNTED
        yield _check("JSON", _broken_json)
    yield _of_keys()


def _check(name: str, look: Callable[[], list[str]], remedy: str = "") -> Finding:
    """Judge by the faults that are found; a look that fails has found one."""
    try:
        faults = look()
    except ApiError as error:
        faults = [cause_of(error.__cause__ or error)]
    text = "; ".join(faults[:3] + [remedy] * bool(remedy)) if faults else "no fault found"
    return _judge(name, text, fail=bool(faults))


def _pragma(name: str) -> Callable[[], list[str]]:
    return lambda: [str(row) for row in _query(f"PRAGMA {name}") if row != "ok"]


def _definitions_amiss() -> list[str]:
    with database.read() as connection:
        names = damage.definitions_amiss(connection)
    return [f"missing or changed: {', '.join(names)}"] if names else []


def _pairs_amiss() -> list[str]:
    with database.snapshot() as connection:
        missing, surplus = damage.pairs_amiss(connection)
    is_right = missing == surplus == 0
    return [] if is_right else [f"the index lacks {missing:,} pairs and has {surplus:,} too many"]


def _locks_amiss() -> list[str]:
    with database.snapshot() as connection:
        stale, loose = damage.locks_amiss(connection)
    faults = [f"{stale:,} threads name a run that is not active"] * bool(stale)
    return faults + [f"{loose:,} active runs are not named by their thread"] * bool(loose)


def _texts_amiss() -> list[str]:
    faults = _pragma("integrity_check(message_text)")() if _CAN_LOOK else []
    with database.snapshot() as connection:
        messages, texts = damage.texts_amiss(connection)
    is_right = messages == texts
    return faults if is_right else [*faults, f"it has {texts:,} texts of {messages:,} messages"]


def _broken_json() -> list[str]:
    with database.snapshot() as connection:
        broken = [*damage.broken_json(connection)]
    rows = ", ".join(f"{each.id} ({each.table}.{each.column})" for each in broken[:20])
    return [f"broken in {rows}", damage.advice(sorted({each.id for each in broken}))] * bool(broken)


def _of_keys() -> Finding:
    keys, now = api_keys.list_all(), time.time()
    if not keys:
        host, _ = config.address(current_app.config["BIND"])
        return _judge("mode", "open: no key was ever made", fail=not config.is_loopback(host))
    valid = [key for key in keys if not key.revoked_at and (key.expires_at or now + 1) > now]
    return _judge("mode", f"keyed: {len(valid)} of {len(keys)} keys are valid", warn=not valid)


def _judge(name: str, text: str, fail: bool = False, warn: bool = False) -> Finding:
    return "fail" if fail else "warn" if warn else "ok", name, text


def _query(statement: str) -> list[Any]:
    with database.read() as connection:
        return [row[0] for row in connection.rows(statement)]
