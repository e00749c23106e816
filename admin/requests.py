"""The requests as they come, and the fault rules, while the mock controls are on."""

from collections.abc import Mapping
from typing import Any

from flask import Response, current_app, render_template, request, url_for
from marshmallow import ValidationError

import mock
from admin import sign_in
from admin.forms import Answer, done
from display.budget import Budget
from mock import log_rows, views
from mock.schemas import FaultForm
from rules import refusals
from rules.errors import ApiError, first_fault
from web.request import current
from web.responses import answer

bp = sign_in.bp
_PRESETS: dict[str, dict[str, Any]] = {
    "429 twice": {"status": "429", "times": "2"},
    "2 s slow": {"delay_ms": 2_000},
    "Drop after": {"drop": "after", "times": "1"},
}
_FORM = FaultForm()
_MOST_ROWS = 200
_NO_TEXTS: Mapping[str, str] = {}


@bp.app_template_global()
def mock_is_on() -> bool:
    return mock.controls_of(current_app) is not None


@bp.get("/requests")
def requests() -> str:
    return _page()


@bp.get("/requests.json")
def requests_json() -> Response:
    """Answer with the rows after one; with all, if that is no longer there."""
    rows = log_rows.rows(_controls().log.of(current()))
    ids = [row.request_id for row in rows]
    is_whole = request.args.get("after") not in ids
    new = rows if is_whole else rows[ids.index(request.args["after"]) + 1 :]
    data = [row._asdict() for row in new[: -_MOST_ROWS - 1 : -1]]
    return answer({"object": "list", "data": data, "is_whole": is_whole, "rules": _rules()})


@bp.get("/requests/<request_id>")
def one_request(request_id: str) -> str:
    entries = _controls().log.of(current())
    entry = next((entry for entry in entries if entry.request_id == request_id), None)
    if entry is None:
        raise refusals.not_found("logged request", request_id)
    row = next(row for row in log_rows.rows(entries) if row.request_id == request_id)
    thread_id, run_id = log_rows.thread_and_run(entry)
    curl = log_rows.curl(entry, request.host_url.rstrip("/"))
    shown = {"row": row, "thread_id": thread_id, "run_id": run_id, "curl": curl}
    return render_template("request.html", entry=entry, budget=Budget(), **shown)


@bp.post("/requests/faults")
def add_fault() -> Answer:
    texts = {name: request.form.get(name, "").strip() for name in ("path", "status", "times")}
    typed = {name: text for name, text in texts.items() if text}
    try:
        preset = _PRESETS.get(request.form.get("preset", ""))
        _controls().add_rule(_FORM.load(preset or typed))
    except (ApiError, ValidationError) as error:
        refusal = first_fault(error) if isinstance(error, ValidationError) else error
        return _page(texts, refusal), refusal.status
    return done("The rule is in force.", url_for(".requests"))


@bp.post("/requests/faults/clear")
def clear_faults() -> Answer:
    _controls().set_rules([])
    return done("No rule is in force.", url_for(".requests"))


@bp.post("/requests/clear")
def clear_requests() -> Answer:
    _controls().log.clear(current())
    return done("The list is empty.", url_for(".requests"))


@bp.post("/requests/reset")
def reset() -> Answer:
    _controls()
    views.return_to_seed()
    return done("Everything is as at the start.", url_for(".requests"))


def _page(texts: Mapping[str, str] = _NO_TEXTS, refusal: ApiError | None = None) -> str:
    rows = log_rows.rows(_controls().log.of(current()))
    shown = {"rows": rows[: -_MOST_ROWS - 1 : -1], "count": len(rows), "most": _MOST_ROWS}
    shown |= {"rules": _rules(), "presets": list(_PRESETS), "may_reset": views.may_change()}
    return render_template("requests.html", **shown, texts=texts, refusal=refusal)


def _rules() -> list[str]:
    return [log_rows.rule_in_words(rule.object) for rule in _controls().rules]


def _controls() -> mock.Mock:
    """Return the controls. Raises ApiError 404 while they are off."""
    controls = mock.controls_of(current_app)
    if controls is None:
        raise refusals.mock_is_off()
    return controls
