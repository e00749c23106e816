"""/_mock: state, faults, the request log, repeatable ids and clock. For one process only.

The hooks cost a request nothing but a log entry as long as no rule is set.
"""

import os
import random
import re
import select
import time
from collections import deque
from contextlib import suppress
from fnmatch import fnmatchcase
from socket import MSG_PEEK, SHUT_RDWR
from threading import Event, Lock
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Blueprint, Flask, Request, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

import database
import exchange
import keys
import schemas
from access import project
from body import read_body, read_bytes, read_query
from errors import ApiError, is_page
from models import Message, StoredAnswer, Thread, Tombstone, sources
from wire import answer

bp = Blueprint("mock", __name__, url_prefix="/_mock")
LOGGED_REQUESTS = 1_000
LOGGED_BODY_BYTES = 16_384
_FAULTS = schemas.FaultRules()
_IDS = schemas.IdSeed()
_CLOCK = schemas.Clock()
_REQUESTS = schemas.RequestFilter()
_DELAY = re.compile(r"([0-9]{1,5})(ms|s)", re.ASCII)
_LOOK_SECONDS = 0.1
_WAITS_OF_429 = {"retry_after": 1, "retry_after_ms": 10}
_TOLD_WITH_STATUS = ("retry_after", "retry_after_ms", "should_retry")
_OWN_PATHS = "/_mock/"
_FAULT_HEADERS = frozenset({"HTTP_X_MOCK_FAULT", "HTTP_X_MOCK_DELAY"})
_DROPS = {"drop": "before", "drop-after": "after"}


class Rule:
    """One fault rule: what it matches, what it does, and how often it has."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.matched = 0
        self.fired = 0
        self._random = random.Random(given.get("seed"))  # noqa: S311

    def fires(self) -> bool:
        """Count a request that may match; tell whether the fault happens to it."""
        given = self.given
        if request.method != given.get("method", request.method):
            return False
        if not fnmatchcase(request.path, given["path"]):
            return False
        self.matched += 1
        due = self.matched % given.get("every", 1) == 0 and self.fired < given.get("times", 1 << 62)
        happens: bool = due and self._random.random() < given.get("rate", 1)
        self.fired += happens
        return happens

    def to_wire(self) -> dict[str, Any]:
        return {**self.given, "matched": self.matched, "fired": self.fired}


class Mock:
    """What the controls have set, the log, and the hooks that see every request."""

    def __init__(self, app: Flask) -> None:
        self.lock = Lock()
        self.rules: list[Rule] = []
        self._changed = Event()
        # project, entry
        self.log: deque[tuple[str | None, dict[str, Any]]] = deque(maxlen=LOGGED_REQUESTS)
        self.snapshots: dict[str, Any] = {}
        self._always = app.config["MOCK"] == "on"
        self._ring: keys.Ring = app.extensions["keys"]

    def is_on(self) -> bool:
        """Tell whether the controls work: not with keys, unless THREADS_MOCK=on."""
        return self._always or not self._ring.keyed

    def before(self) -> None:
        """Let the fault for this request happen, if there is one."""
        # Each use of a proxy costs as much as all the rest: this is what it stands for.
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]
        if not self.rules and _FAULT_HEADERS.isdisjoint(asked.environ):
            return
        if request.method == "OPTIONS" or request.path.startswith(_OWN_PATHS) or not self.is_on():
            return
        changed = self._changed
        if fault := self._fault():
            # What is read as bytes is no form any more.
            _ = asked.form if is_page(asked.path) else read_bytes()
            if "delay_ms" in fault:
                _wait(changed, random.uniform(*fault["delay_ms"]) / 1000)  # noqa: S311
            g.drop_after = fault.get("drop") == "after"
            if fault.get("drop") == "before":
                _drop_connection()
                raise ApiError(503, "The connection was dropped by a fault rule.")
            if "status" in fault:
                raise _injected(fault)

    def after(self, response: Response) -> Response:
        """Log this request; drop its connection if that was its fault."""
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]
        context = g._get_current_object()
        if asked.method == "OPTIONS" or asked.path.startswith(_OWN_PATHS) or not self.is_on():
            return response
        entry = {
            "method": asked.method,
            "path": asked.path,
            "query": asked.query_string.decode(errors="replace"),
            "status": response.status_code,
            "milliseconds": (time.perf_counter_ns() - context.started) // 1_000_000,
            "request_id": context.request_id,
            "body": _body_of(asked, context)[:LOGGED_BODY_BYTES],
        }
        self.log.append((context.get("project"), entry))
        if context.get("drop_after"):
            _drop_connection()
        return response

    def set_rules(self, rules: list[Rule]) -> None:
        """Put new rules in place of the old ones and end all delays: each holds a thread."""
        with self.lock:
            self.rules = rules
            self._changed.set()
            self._changed = Event()

    def _fault(self) -> dict[str, Any] | None:
        """Return the fault for this request: its own headers first, then the first rule due."""
        if own := _fault_of_headers():
            return own
        with self.lock:
            return next((rule.given for rule in self.rules if rule.fires()), None)


def init_app(app: Flask) -> None:
    """Add the controls and their hooks, unless the settings rule them out."""
    mode, workers = app.config["MOCK"], app.config["WORKERS"]
    if mode == "on" or (mode == "auto" and workers in (None, 1)):
        state = app.extensions["mock"] = Mock(app)
        app.register_blueprint(bp)
        app.before_request(state.before)
        app.after_request(state.after)


def _mock() -> Mock:
    state: Mock = current_app.extensions["mock"]
    return state


@bp.post("/reset")
def reset() -> Response:
    """Return to the seed. The first time it is loaded; from then on its copy is put back."""
    _refuse_on_a_file()
    copies, file = _mock().snapshots, database.the_file()
    if "seed" not in copies:
        copy = file.take_snapshot()
        _seed(database.Connection(copy, file))
        copies["seed"] = copy
    file.restore_snapshot(copies["seed"])
    return answer({"object": "mock.reset"})


@bp.post("/seed")
def seed() -> Response:
    """Load threads, all or none: every line is checked before the first is stored."""
    _refuse_on_a_file()
    lines = read_bytes().splitlines()
    refused = [f"line {number}: {reason}" for number, reason in exchange.faults_in(lines)]
    if refused:
        count = sum(1 for line in lines if line.strip())
        message = f"{len(refused)} of {count} lines refused: {'; '.join(refused[:5])}"
        raise ApiError(400, message, code="invalid_seed")
    outcomes = exchange.import_lines(project(), lines, "replace")
    return answer({"object": "mock.seed", "threads": sum(1 for _ in outcomes)})


@bp.post("/snapshot")
def snapshot() -> Response:
    _mock().snapshots["snapshot"] = database.the_file().take_snapshot()
    return answer({"object": "mock.snapshot"})


@bp.post("/restore")
def restore() -> Response:
    _refuse_on_a_file()
    copy, file = _mock().snapshots.get("snapshot"), database.the_file()
    if copy is None:
        raise ApiError(400, "There is no snapshot: POST /_mock/snapshot first.", code="no_snapshot")
    file.restore_snapshot(copy)
    return answer({"object": "mock.restore"})


@bp.get("/faults")
def faults() -> Response:
    return answer({"rules": [rule.to_wire() for rule in _mock().rules]})


@bp.post("/faults")
def set_faults() -> Response:
    """Put new rules in place of the old ones."""
    rules = read_body(_FAULTS)["rules"]
    for number, rule in enumerate(rules):
        _refuse_senseless(number, rule)
    _mock().set_rules(list(map(Rule, rules)))
    return faults()


@bp.delete("/faults")
def clear_faults() -> Response:
    _mock().set_rules([])
    return faults()


@bp.get("/requests")
def requests() -> Response:
    query = read_query(_REQUESTS)
    own = g.get("project")
    entries = [entry for owner, entry in list(_mock().log) if owner == own]
    if "since" in query:
        ids = [entry["request_id"] for entry in entries]
        if query["since"] not in ids:
            raise ApiError(400, "No logged request has this id.", "since", "invalid_value")
        entries = entries[ids.index(query["since"]) + 1 :]
    shown = [_shown(entry) for entry in entries if fnmatchcase(entry["path"], query["path"])]
    return answer({"object": "list", "data": shown})


@bp.delete("/requests")
def clear_requests() -> Response:
    """Clear the log of the caller's project."""
    own, log = g.get("project"), _mock().log
    kept = [entry for entry in list(log) if entry[0] != own]
    log.clear()
    log.extend(kept)
    return answer({"object": "list", "data": []})


@bp.put("/ids")
def set_ids() -> Response:
    """Make ids repeat from a seed; null makes them random again."""
    _refuse_on_a_file()
    given = read_body(_IDS)["seed"]
    fixed = random.Random(given)  # noqa: S311
    sources.random = os.urandom if given is None else fixed.randbytes
    return answer({"seed": given})


@bp.put("/clock")
def set_clock() -> Response:
    """Freeze `created_at` at a second, or move it by some; an empty body sets it right again."""
    _refuse_on_a_file()
    body = read_body(_CLOCK)
    frozen, offset = body.get("frozen_at"), body.get("offset_seconds", 0)

    def clock() -> float:
        return float((time.time() if frozen is None else frozen) + offset)

    if not 0 <= clock() <= schemas.MAX_SECONDS:
        message = f"Invalid 'offset_seconds': it moves the clock past 0 or {schemas.MAX_SECONDS}."
        raise ApiError(400, message, "offset_seconds", "invalid_value")
    sources.now = clock
    return answer({"now": int(clock())})


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a logged request with its body as JSON, passed through, else as text, else null."""
    body = entry["body"]
    try:
        if body:
            orjson.loads(body)
        return entry | {"body": orjson.Fragment(body) if body else None}
    except ValueError:
        return entry | {"body": body.decode(errors="replace")}


def _refuse_senseless(number: int, rule: dict[str, Any]) -> None:
    """Refuse a rule that would do nothing, or not all it says. Raises ApiError 400."""
    has, told = rule.__contains__, [name for name in _TOLD_WITH_STATUS if name in rule]
    if not any(map(has, ("status", "delay_ms", "drop"))) and not told:
        param, reason = "status", "without it, 'delay_ms' or 'drop' the rule does nothing"
    elif told and not has("status"):
        param, reason = told[0], "it is told with a 'status' only"
    elif has("status") and rule.get("drop") == "after":
        param, reason = "drop", "a request that fails with 'status' has no answer to drop"
    else:
        return
    param = f"rules[{number}].{param}"
    raise ApiError(400, f"Invalid '{param}': {reason}.", param, "invalid_value")


def _body_of(asked: Request, context: Any) -> bytes:
    """Return the body; a short one that nobody has begun to read is read now."""
    if not asked.environ.get("CONTENT_LENGTH"):
        return bytes(context.get("body", b""))
    is_short = 0 < (asked.content_length or 0) <= LOGGED_BODY_BYTES
    if is_short and "stream" not in vars(asked):
        with suppress(ApiError, HTTPException):
            read_bytes()
    return bytes(context.get("body", b""))


def _seed(copy: database.Connection) -> None:
    """Leave the seed alone in a copy: in the database itself, others could write meanwhile."""
    for table in (Message, Thread, Tombstone, StoredAnswer):
        copy.change(sa.delete(table))
    exchange.load_seed(copy, current_app.config["SEED"])
    copy.raw.commit()
    copy.raw.execute("VACUUM")


def _refuse_on_a_file() -> None:
    """Let no test suite that is aimed at the wrong port change a database that is kept."""
    if current_app.config["MOCK"] != "on" and not database.is_memory(current_app):
        message = (
            "This server keeps its database, so nothing was changed. Start it with "
            "THREADS_DATABASE_URL=memory, or allow this with THREADS_MOCK=on."
        )
        raise ApiError(403, message, code="database_is_kept")


def _fault_of_headers() -> dict[str, Any]:
    """Read X-Mock-Fault (a status, `drop` or `drop-after`) and X-Mock-Delay (`250ms`, `2s`)."""
    return _fault_of_word(request.headers.get("X-Mock-Fault", "")) | _delay_of_word(
        request.headers.get("X-Mock-Delay", "")
    )


def _fault_of_word(word: str) -> dict[str, Any]:
    if not word:
        return {}
    if word in _DROPS:
        return {"drop": _DROPS[word]}
    if word.isascii() and word.isdigit() and 400 <= int(word) <= 599:
        return {"status": int(word)}
    message = "X-Mock-Fault takes a status from 400 to 599, `drop` or `drop-after`."
    raise ApiError(400, message, code="invalid_value")


def _delay_of_word(word: str) -> dict[str, Any]:
    if not word:
        return {}
    if found := _DELAY.fullmatch(word):
        milliseconds = int(found[1]) * (1000 if found[2] == "s" else 1)
        if milliseconds <= schemas.MAX_DELAY_MILLISECONDS:
            return {"delay_ms": (milliseconds, milliseconds)}
    message = "X-Mock-Delay takes a time up to 60 s, for example 250ms or 2s."
    raise ApiError(400, message, code="invalid_value")


def _injected(fault: dict[str, Any]) -> ApiError:
    status = fault["status"]
    waits = {name: fault[name] for name in _WAITS_OF_429 if name in fault}
    if status == 429 and not waits:
        waits = _WAITS_OF_429
    headers = {name.replace("_", "-"): str(value) for name, value in waits.items()}
    if "should_retry" in fault:
        headers["x-should-retry"] = str(fault["should_retry"]).lower()
    code = "rate_limit_exceeded" if status == 429 else "injected_fault"
    return ApiError(status, f"Status {status} by a fault rule of /_mock.", None, code, headers)


def _wait(changed: Event, seconds: float) -> None:
    """Wait until the rules change, so long at most. Raises ApiError 503 when the client is gone.

    What a test gave up on must not be stored in the middle of the next one.
    """
    end = time.monotonic() + seconds
    while not changed.wait(min(_LOOK_SECONDS, max(0, end - time.monotonic()))):
        if _client_is_gone() or time.monotonic() >= end:
            break
    if _client_is_gone():
        raise ApiError(503, "The client hung up while a fault rule delayed its request.")


def _client_is_gone() -> bool:
    connection, look = request.environ.get("gunicorn.socket"), select.poll()
    if connection is None:
        return False
    look.register(connection, select.POLLIN)
    try:
        return bool(look.poll(0)) and connection.recv(1, MSG_PEEK) == b""
    except OSError:
        return True


def _drop_connection() -> None:
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.shutdown(SHUT_RDWR)
