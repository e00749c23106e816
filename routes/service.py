"""About the server itself: health, the API document, and the page that shows it."""

from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, current_app, redirect, render_template, request, url_for
from flask.helpers import send_from_directory
from werkzeug.wrappers import Response as Redirect

import database
from routes import openapi
from web import metrics
from web.operations import operation
from web.responses import answer

bp = Blueprint("service", __name__)
_ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@bp.get("/")
def home() -> Redirect:
    return redirect(url_for("admin.threads"))


@bp.get("/admin")
def admin() -> Redirect:
    """Lead to the page. Werkzeug's own redirect would name the host of the request."""
    query = request.query_string.decode("ascii", "replace")
    return redirect(url_for("admin.threads") + (f"?{query}" if query else ""), 308)


@bp.get("/healthz")
@operation("isAlive", "Answer while the process lives")
def healthz() -> Response:
    """Answer while the process lives: no key, no database."""
    return answer({"status": "ok"})


@bp.get("/readyz")
@operation("isReady", "Tell whether requests can be served")
def readyz() -> Response:
    """Answer 200 when requests can be served, else 503 with what is wrong."""
    checks = database.health()
    response = answer({"status": "ok" if all(checks.values()) else "failing", "checks": checks})
    response.status_code = 200 if all(checks.values()) else 503
    return response


@bp.get("/metrics")
def prometheus() -> Response:
    return Response(metrics.as_text(), content_type="text/plain; version=0.0.4; charset=utf-8")


@bp.get("/openapi.json")
def document() -> Response:
    return Response(openapi.document(current_app), content_type="application/json")


@bp.get("/docs")
def docs() -> Response:
    """Show the document with Swagger UI, served from this machine."""
    return Response(render_template("docs.html"), headers={"Content-Security-Policy": _DOCS_POLICY})


@bp.get("/docs/<path:name>")
def docs_asset(name: str) -> Response:
    return send_from_directory(_ASSETS, name, max_age=86400)
