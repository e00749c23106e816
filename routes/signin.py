"""Signing in to the browse page with an API key, once keys exist."""

import re
from datetime import timedelta

import sqlalchemy as sa
from flask import Flask, flash, redirect, render_template, request, session, url_for
from flask_wtf.csrf import CSRFError
from sqlalchemy.dialects.postgresql import insert
from werkzeug.wrappers import Response

import access
import database
import keys
from errors import ApiError
from models import FailedSignIn, unix_now
from routes.admin import CSRF, FORMS, NO_LONGER_VALID, Answer, bp, own_address, show_again

SESSION_LIFE = timedelta(hours=12)
FREE_TRIES = 5
_ADDRESS_CHARACTERS = 64  # what a proxy says may be anything
FORGOTTEN_SECONDS = 3_600
_LONGEST_WAIT_SECONDS = 300
_OWN_PAGE = re.compile(r"/admin/(?!.*//)[!-\[\]-~]*")
_SIGNED_OUT = "You are signed out, and nothing was changed. Sign in in another tab first."
_OPEN_VIEWS = frozenset({"admin.sign_in", "admin.check_key"})


def init_app(app: Flask) -> None:
    """Set how long a sign-in lasts."""
    app.config["PERMANENT_SESSION_LIFETIME"] = SESSION_LIFE
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False


@bp.before_request
def _require_sign_in() -> Answer | None:
    """Show no page without a key of a project, once there are keys."""
    if not keys.ring().keyed or request.endpoint in _OPEN_VIEWS:
        return None
    lasts = unix_now() - session.get("at", 0) < SESSION_LIFE.total_seconds()
    key = keys.ring().named(session.get("key", "")) if lasts else None
    if key:
        access.use(key)
        return None
    session.pop("key", None)
    if request.endpoint in FORMS:
        return show_again(ApiError(401, _SIGNED_OUT, code="not_signed_in"))
    if request.path.endswith(".json"):
        raise ApiError(401, "Sign in at /admin/sign-in first.", code="not_signed_in")
    wanted = own_address() if request.method == "GET" else "/admin/"
    return redirect(url_for("admin.sign_in", next=wanted if wanted != "/admin/" else None))


@bp.before_request
def _check_csrf() -> Answer | None:
    """After the sign-in: whoever is signed out is told that, not that the form is old."""
    try:
        CSRF.protect()
    except CSRFError:
        if request.endpoint == "admin.check_key":
            return render_template("sign_in.html", refusal=NO_LONGER_VALID), 400
        return show_again(ApiError(400, NO_LONGER_VALID, "csrf_token", "invalid_form"))
    return None


@bp.get("/sign-in")
def sign_in() -> str:
    return render_template("sign_in.html")


@bp.post("/sign-in")
def check_key() -> Response | tuple[str, int]:
    address = (request.remote_addr or "")[:_ADDRESS_CHARACTERS]
    if wait := _seconds_to_wait(address):
        refusal = f"Too many wrong keys. Try again in {wait} seconds."
        return render_template("sign_in.html", refusal=refusal), 429
    key = keys.ring().find(request.form.get("key", "").strip())
    if key is None:
        _note_failure(address)
        return render_template("sign_in.html", refusal="This is no valid API key."), 401
    session.clear()
    session.permanent = True
    session.update(key=key.sha256, at=unix_now())
    _forget_failures(address)
    wanted = request.form.get("next", "")
    return redirect(wanted if _OWN_PAGE.fullmatch(wanted) else url_for("admin.threads"), 303)


@bp.post("/sign-out")
def sign_out() -> Response:
    session.clear()
    flash("You are signed out.")
    return redirect(url_for("admin.sign_in"), 303)


def _seconds_to_wait(address: str) -> int:
    """Return how long an address must wait: nothing at first, then twice as long each time."""
    with database.read() as connection:
        rows = connection.rows(_FAILURES, {"of_address": address})
    failures, last_at = rows[0] if rows else (0, 0)
    if failures < FREE_TRIES or last_at > unix_now():
        return 0  # a clock that was set back must lock nobody out
    wait: int = min(2 ** (failures - FREE_TRIES + 1), _LONGEST_WAIT_SECONDS)
    return max(0, int(last_at) + wait - unix_now())


_IS_ADDRESS = FailedSignIn.address == sa.bindparam("of_address")
_FAILURES = sa.select(FailedSignIn.failures, FailedSignIn.last_at).where(_IS_ADDRESS)


def _note_failure(address: str) -> None:
    now = unix_now()
    with database.write() as connection:
        old = FailedSignIn.last_at <= now - FORGOTTEN_SECONDS
        connection.change(sa.delete(FailedSignIn).where(old))
        first = insert(FailedSignIn).values(address=address, failures=1, last_at=now)
        again = {"failures": FailedSignIn.failures + 1, "last_at": now}
        connection.change(first.on_conflict_do_update(index_elements=["address"], set_=again))


def _forget_failures(address: str) -> None:
    with database.write() as connection:
        connection.change(sa.delete(FailedSignIn).where(_IS_ADDRESS), {"of_address": address})
