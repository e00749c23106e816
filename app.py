"""The application factory. Wiring only."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Request
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter
from werkzeug.wsgi import get_host

import access
import config
import database
import errors
import keys
import routes


class App(Flask):
    """Flask without async views and subdomains, which cost 3 and 7 µs a request."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
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

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Mapping[str, Any] | None = None) -> Flask:
    """Build the app from the THREADS_… variables, overlaid with `settings` (same names, bare)."""
    app = App(__name__)
    app.config.update(config.from_env() | dict(settings or {}))
    app.config.update(database.prepare(dict(app.config)))
    # One byte more than is allowed: Werkzeug ends a chunked body at its limit without a word.
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_BODY_BYTES"] + 1
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_BODY_BYTES"]
    app.url_map.merge_slashes = False
    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, proxies, proxies, 0, 0, 0)  # type: ignore[method-assign]
    database.init_app(app)
    errors.init_app(app)
    keys.init_app(app)
    access.init_app(app)
    routes.init_app(app)
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
