"""The application factory. Wiring only."""

import re
from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask import Request as FlaskRequest
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter
from werkzeug.wsgi import get_host

import admin
import config
import mock
import routes
from database import startup, transactions
from store import api_keys
from web import error_answers, request_checks, responses
from web.request import Request
from web.secret_key import secret_key


class App(Flask):
    """Flask with our request class, and without subdomains: to look for them costs 3 %."""

    request_class = Request

    def create_url_adapter(self, request: FlaskRequest | None) -> MapAdapter | None:
        """Return what finds a request's view. Raises SecurityError (400) for a malformed Host."""
        if request is None:
            return super().create_url_adapter(None)
        request.host = get_host(request.environ)
        return MapAdapter(
            self.url_map,
            request.host,
            request.root_path,
            "",
            request.scheme,
            request.path,
            request.method,
            request.query_string.decode(errors="replace"),
        )


def create_app(settings: Mapping[str, Any] | None = None) -> Flask:
    """Build the app from the THREADS_… variables, overlaid with `settings` (same names, bare)."""
    app = App(__name__)
    app.config.update(config.from_env() | dict(settings or {}))
    app.config.update(startup.flask_settings(app.config))
    url = app.config["SQLALCHEMY_DATABASE_URI"]
    app.secret_key = secret_key(app.config["SECRET_KEY"], url)
    # One byte more than is allowed: Werkzeug ends a chunked body at its limit without a word.
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_BODY_BYTES"] + 1
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_BODY_BYTES"]
    app.url_map.merge_slashes = False
    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, proxies, proxies, 0, 0, 0)  # type: ignore[method-assign]
    transactions.init_app(app)
    error_answers.init_app(app)
    api_keys.init_app(app)
    request_checks.init_app(app)
    app.after_request(responses.finish)
    routes.init_app(app)
    mock.init_app(app)
    admin.init_app(app)
    if app.config["CORS_ORIGINS"]:
        _let_pages_call(app)
    return app


def _let_pages_call(app: Flask) -> None:
    """Let the pages of THREADS_CORS_ORIGINS call the API with whatever headers their SDK sends."""
    CORS(
        app,
        resources=r"/(v1/)?threads.*",
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in app.config["CORS_ORIGINS"]],
        expose_headers=[
            "x-request-id",
            "openai-processing-ms",
            "x-should-retry",
            "Retry-After",
            "retry-after-ms",
            "Idempotent-Replayed",
        ],
        max_age=600,
    )
