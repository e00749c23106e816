"""The requests as they come, and the fault rules, while the mock controls are on."""

from flask import Response, render_template, request, url_for

import mock
from admin import sign_in
from admin.forms import Answer, done
from display.budget import Budget
from mock import fault_form, log_rows, views
from mock.request_log import Entry
from rules import refusals
from rules.errors import ApiError
from web.request import current
from web.responses import answer

bp = sign_in.bp


@bp.get("/requests")
def requests(refusal: ApiError | None = None) -> str:
    rows = log_rows.rows(_entries())
    shown = {"rows": log_rows.newest(rows), "count": len(rows), "most": log_rows.MOST_ROWS}
    shown |= {"rules": _rules(), "presets": list(fault_form.PRESETS), "refusal": refusal}
    return render_template("requests.html", may_reset=views.may_reset(), **shown)


@bp.get("/requests.json")
def requests_json() -> Response:
    """Answer with the rows after one; with all, if that is no longer there."""
    rows = log_rows.rows(_entries())
    ids = [row.request_id for row in rows]
    is_whole = request.args.get("after") not in ids
    new = rows if is_whole else rows[ids.index(request.args["after"]) + 1 :]
    data = [row._asdict() for row in log_rows.newest(new)]
    return answer({"object": "list", "data": data, "is_whole": is_whole, "rules": _rules()})


@bp.get("/requests/<request_id>")
def one_request(request_id: str) -> str:
    shown = log_rows.detail(_entries(), request_id, request.host_url.rstrip("/"))
    if shown is None:
        raise refusals.not_found("logged request", request_id)
    return render_template("request.html", budget=Budget(), **shown)


@bp.post("/requests/faults")
def add_fault() -> Answer:
    try:
        mock.controls().add_rule(fault_form.read(request.form))
    except ApiError as refusal:
        return requests(refusal), refusal.status
    return done("The rule is in force.", url_for(".requests"))


@bp.post("/requests/faults/clear")
def clear_faults() -> Answer:
    mock.controls().set_rules([])
    return done("No rule is in force.", url_for(".requests"))


@bp.post("/requests/clear")
def clear_requests() -> Answer:
    mock.controls().log.clear(current())
    return done("The list is empty.", url_for(".requests"))


@bp.post("/requests/reset")
def reset() -> Answer:
    mock.controls()
    views.return_to_seed()
    return done("Everything is as at the start.", url_for(".requests"))


def _entries() -> list[Entry]:
    return mock.controls().log.of(current())


def _rules() -> list[str]:
    return [log_rows.rule_in_words(rule.object) for rule in mock.controls().rules]
