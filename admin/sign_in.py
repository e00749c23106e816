"""The checks of every page: the sign-in with an API key, and the CSRF token."""

import re
from urllib.parse import quote

from flask import Blueprint, current_app, redirect, render_template, request, session, url_for
from flask_wtf.csrf import CSRFError, CSRFProtect

from access import api_keys, sign_ins
from admin.forms import FORMS, Answer, done, refuse_large_form, show_short_again
from rules import fields, refusals
from web.operations import check_ids
from web.request_checks import use_key

bp = Blueprint("admin", __name__)
CSRF = CSRFProtect()
_LONGEST_ADDRESS = 2_000
_OWN_PAGE = re.compile(r"/admin/(?!.*//)[!-\[\]-~]*")


@bp.before_request
def _reload_foreign() -> Answer | None:
    """Let a browser from another site load the page again: only then it sends its Strict cookie."""
    is_foreign = request.method == "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site"
    if not is_foreign or current_app.config["SESSION_COOKIE_NAME"] in request.cookies:
        return None
    # Chromium does not load the same address again: `&` makes it another one.
    return "", 200, {"Refresh": f"0; url={_own_address().replace('#', '&#')}"}


@bp.before_request
def _require_sign_in() -> Answer | None:
    """Refuse a page without a valid key, if there are keys."""
    keys = api_keys.cache()
    if not keys.is_keyed or request.endpoint in ("admin.sign_in", "admin.check_key"):
        return None
    key = keys.find_hash(session.get("key", ""))
    if key and sign_ins.is_open(session.get("id", "")):
        use_key(key)
        return None
    session.pop("key", None)
    return _ask_to_sign_in()


def _ask_to_sign_in() -> Answer:
    if request.endpoint in FORMS:
        return show_short_again(refusals.signed_out())
    if request.path.endswith(".json") or request.headers.get("Accept") == "application/json":
        raise refusals.not_signed_in()
    wanted = _own_address() if request.method == "GET" else "/admin/"
    return redirect(url_for("admin.sign_in", next=wanted if wanted != "/admin/" else None))


@bp.before_request
def _refuse_large_form() -> None:
    if request.method == "POST":
        refuse_large_form()


@bp.before_request
def _check_csrf() -> Answer | None:
    """Check the form's token, after the sign-in: a refused sign-in explains more."""
    try:
        CSRF.protect()
    except CSRFError:
        refusal = refusals.form_no_longer_valid()
        if request.endpoint == "admin.check_key":
            return _refuse_sign_in(400, refusal.message)
        return show_short_again(refusal)
    return None


@bp.before_request
def _check_ids() -> None:
    if request.method != "OPTIONS":  # Flask answers OPTIONS without the view
        check_ids(request.view_args or {})


@bp.get("/sign-in")
def sign_in() -> str:
    return render_template("sign_in.html", wanted=_wanted())


@bp.post("/sign-in")
def check_key() -> Answer:
    address = (request.remote_addr or "")[:64]  # a proxy may send any text as an address
    if wait := sign_ins.try_key(address):
        unit = "second" if wait == 1 else "seconds"
        return _refuse_sign_in(429, f"Too many wrong keys. Try again in {wait} {unit}.")
    key = api_keys.cache().find(request.form.get("key", "").strip())
    if key is None:
        return _refuse_sign_in(401, "This is no valid API key.")
    session.clear()
    session.permanent = True
    session.update(key=key.sha256, id=sign_ins.sign_in(address))
    return redirect(_wanted() or url_for("admin.threads"), 303)


@bp.post("/sign-out")
def sign_out() -> Answer:
    sign_ins.sign_out(session.get("id", ""))
    session.clear()
    return done("You are signed out.", url_for("admin.sign_in"))


def _refuse_sign_in(status: int, sentence: str) -> Answer:
    return render_template("sign_in.html", refusal=sentence, wanted=_wanted()), status


def _wanted() -> str:
    """Return the page to show after the sign-in, an empty text for none of our pages."""
    wanted: str = request.values.get("next", "")
    return wanted if len(wanted) <= _LONGEST_ADDRESS and _OWN_PAGE.fullmatch(wanted) else ""


def _own_address() -> str:
    """Return path, query and anchor of this request for a header; the list if they are too long."""
    query = quote(request.query_string, "%&=+-._~[]!$'()*,;:@/?")
    at = request.args.get("at", "")  # the anchor, too, which a browser does not send
    anchor = f"#{at}" if fields.PATH_ID.fullmatch(at) else ""
    address = quote(request.path) + (f"?{query}" if query else "") + anchor
    return address if len(address) <= _LONGEST_ADDRESS else "/admin/"
