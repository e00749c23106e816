"""/_mock: snapshots, faults, the request log, repeatable ids, and the clock."""

import os
import random
import time
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Response, current_app

import database
import mock
from database.memory import is_memory
from database.sqlite import SQLite
from exchange import imports
from exchange.older_forms import Notes
from mock import schemas
from mock.log_rows import as_object
from models import OF_ACCESS, db
from players import pool
from rules import refusals
from rules.errors import ApiError
from rules.ids_and_clock import sources
from runs import leases
from schemas import MAX_SECONDS
from web.operations import operation
from web.request import current, project
from web.request_body import read_bytes
from web.responses import answer

bp = Blueprint("mock", __name__, url_prefix="/_mock")
# A snapshot is a copy in memory, which nobody could restore.
_OF_DATA = ("reset", "seed", "snapshot", "restore", "set_ids", "set_clock")
_CHANGING = {f"mock.{view}" for view in _OF_DATA}


@bp.before_request
def refuse_a_kept_database() -> None:
    """Protect a lasting database: a test suite may call the wrong port."""
    request = current()
    is_change = request.endpoint in _CHANGING and request.method != "OPTIONS"
    if is_change and not may_change():
        raise refusals.database_is_kept()


def may_change() -> bool:
    """Return whether the controls may change what the database holds."""
    return current_app.config["MOCK"] == "on" or is_memory(current_app)


@bp.post("/reset")
@operation("resetMock", "Return to the seed")
def reset() -> Response:
    return_to_seed()
    return answer({"object": "mock.reset"})


def may_reset() -> bool:
    """Return whether a reset works here."""
    with suppress(ApiError):
        _file_to_reset()
        return True
    return False


def return_to_seed() -> None:
    """Load the seed the first time, and later restore its snapshot. Raises ApiError 403."""
    snapshots, file = _mock().snapshots, _file_to_reset()
    if "seed" not in snapshots:
        snapshot = file.take_snapshot()
        _load_seed(file.connection(snapshot))
        snapshots["seed"] = snapshot
    with pool.current().paused():
        file.restore_snapshot(snapshots["seed"])
        _mock().script.forget()


def _file_to_reset() -> SQLite:
    if not may_change():
        raise refusals.database_is_kept()
    return database.the_file()


@bp.post("/seed")
@operation("seedMock", "Load JSON Lines", lines=schemas.SEED)
def seed() -> Response:
    """Load all threads and assistants, or none if a line is bad."""
    lines = read_bytes().splitlines()
    if faults := list(imports.faults_in(lines)):
        raise refusals.bad_seed_lines(faults, sum(1 for line in lines if line.strip()))
    notes, counts = Notes(), {"thread": 0, "assistant": 0}
    with pool.current().paused():
        for outcome in imports.import_lines(project(), lines, "replace"):
            counts[outcome.kind] += 1
            notes += outcome.notes
        _queue_runs("all lines were loaded")
    loaded = {"threads": counts["thread"], "assistants": counts["assistant"]}
    return answer({"object": "mock.seed", **loaded, "notes": imports.told(notes)})


@bp.post("/snapshot")
@operation("takeSnapshot", "Remember everything")
def snapshot() -> Response:
    _mock().snapshots["snapshot"] = database.the_file().take_snapshot()
    return answer({"object": "mock.snapshot"})


@bp.post("/restore")
@operation("restoreSnapshot", "Return to the snapshot")
def restore() -> Response:
    snapshot, file = _mock().snapshots.get("snapshot"), database.the_file()
    if snapshot is None:
        raise refusals.no_snapshot()
    with pool.current().paused():
        file.restore_snapshot(snapshot)
        _queue_runs("the snapshot is back")
    return answer({"object": "mock.restore"})


@bp.get("/faults")
@operation("getFaults", "Show the fault rules")
def faults() -> Response:
    return answer({"rules": [rule.object for rule in _mock().rules]})


@bp.post("/faults")
@operation("setFaults", "Set the fault rules", body=schemas.FaultRules)
def set_faults(body: dict[str, Any]) -> Response:
    _mock().set_rules(body["rules"])
    return faults()


@bp.delete("/faults")
@operation("clearFaults", "Clear the fault rules")
def clear_faults() -> Response:
    _mock().set_rules([])
    return faults()


@bp.get("/replies")
@operation("getReplies", "Show the reply rules")
def replies() -> Response:
    return answer({"rules": [rule.object for rule in _mock().script.rules]})


@bp.put("/replies")
@operation("setReplies", "Say what runs answer", body=schemas.ReplyRules)
def set_replies(body: dict[str, Any]) -> Response:
    _mock().script.set_rules(body["rules"])
    return replies()


@bp.delete("/replies")
@operation("clearReplies", "Return to THREADS_REPLIES")
def clear_replies() -> Response:
    _mock().script.set_rules(_mock().first_replies)
    return replies()


@bp.get("/requests")
@operation("getRequests", "Show the log", query=schemas.RequestFilter)
def requests(query: dict[str, Any]) -> Response:
    entries = iter(_mock().log.of(current()))
    # The search for `since` consumes the entries up to it.
    if "since" in query and query["since"] not in (entry.request_id for entry in entries):
        raise refusals.no_logged_request()
    data = [as_object(entry) for entry in entries if fnmatchcase(entry.path, query["path"])]
    return answer({"object": "list", "data": data})


@bp.delete("/requests")
@operation("clearRequests", "Clear the log")
def clear_requests() -> Response:
    _mock().log.clear(current())
    return answer({"object": "list", "data": []})


@bp.put("/ids")
@operation("seedIds", "Make ids repeat", body=schemas.IdSeed)
def set_ids(body: dict[str, Any]) -> Response:
    seed = body["seed"]
    sources.random = os.urandom if seed is None else random.Random(seed).randbytes  # noqa: S311
    return answer({"seed": seed})


@bp.put("/clock")
@operation("setClock", "Freeze or move the clock", body=schemas.Clock)
def set_clock(body: dict[str, Any]) -> Response:
    """Freeze `created_at` at a second, or move it; an empty body undoes both."""
    frozen_at, offset = body.get("frozen_at"), body.get("offset_seconds", 0)

    def clock() -> float:
        return float((time.time() if frozen_at is None else frozen_at) + offset)

    if not 0 <= clock() <= MAX_SECONDS:
        raise refusals.invalid("offset_seconds", f"it moves the clock past 0 or {MAX_SECONDS}")
    sources.now, sources.is_set = clock, bool(body)
    return answer({"now": int(clock())})


def _mock() -> "mock.Mock":
    return current_app.extensions["mock"]  # type: ignore[no-any-return]


def _queue_runs(done: str) -> None:
    """Begin the stopped runs again. Raises ApiError 503, which says what is done by then."""
    try:
        database.write(leases.queue_all)
    except ApiError as refusal:
        raise refusals.in_part(refusal, f"{done}, but runs were not queued again") from refusal


def _load_seed(connection: database.Connection) -> None:
    """Replace a snapshot's rows by the seed. Other requests may write to the database meanwhile."""
    for table in reversed(db.metadata.sorted_tables):  # a table before those it refers to
        if table.name not in OF_ACCESS:
            connection.change(sa.delete(table))
    imports.load_seed(connection, current_app.config["SEED"])
    connection.raw.commit()
    connection.raw.execute("VACUUM")
