"""The application factory. Wiring only."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flask
from flask.typing import ResponseReturnValue
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter
from werkzeug.wsgi import get_host

import admin
import config
import mock
import routes
from access import api_keys
from database import startup, transactions
from players import pool
from web import error_answers, metrics, request_body, request_checks, responses
from web.addresses import OWN, one_form
from web.request import Request, current
from web.secret_key import secret_key

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class App(flask.Flask):
    """Flask with our request class. It saves time: no subdomains, and no view is a coroutine."""

    request_class = Request

    def wsgi_app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Any:
        """Answer a request, whose path may have slashes too many."""
        environ["PATH_INFO"] = one_form(environ["PATH_INFO"])
        return super().wsgi_app(environ, start_response)

    def full_dispatch_request(self) -> flask.Response:
        """Answer a request. However that ends, it keeps no place for its body."""
        try:
            return super().full_dispatch_request()
        finally:
            request_body.give_back_place()

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer a request whose checks are over. Only now its body is read, if it has a view."""
        request = current()
        if not request.routing_exception and request_body.is_ahead(request):
            request_body.read_bytes()
        return super().dispatch_request()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return a view as it is."""
        return func

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """Return the router of a request. Raises SecurityError (400) for a malformed Host."""
        if request is None:
            return super().create_url_adapter(None)
        request.host = get_host(request.environ)
        parts = (request.root_path, "", request.scheme, request.path, request.method)
        query = request.query_string.decode(errors="replace")
        return MapAdapter(self.url_map, request.host, *parts, query)


def create_app(settings: Mapping[str, Any] | None = None) -> flask.Flask:
    """Build the app from the THREADS_… variables, overlaid with `settings` (same names, bare)."""
    app = App(__name__)
    app.config.update(config.from_env() | dict(settings or {}))
    app.config.update(startup.flask_settings(app.config))
    app.secret_key = secret_key(app.config["SECRET_KEY"], app.config["SQLALCHEMY_DATABASE_URI"])
    # One byte more than is allowed: Werkzeug cuts a chunked body at its limit and reports nothing.
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_BODY_BYTES"] + 1
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_BODY_BYTES"]
    app.url_map.merge_slashes = False
    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, proxies, proxies, 0, 0, 0)  # type: ignore[method-assign]
    for part in (transactions, error_answers, api_keys, request_checks, pool):
        part.init_app(app)
    app.after_request(responses.finish)
    for part in (routes, mock, admin):
        part.init_app(app)
    if app.config["MODEL_URL"]:
        _let_model_answer(app)
    if app.config["CORS_ORIGINS"]:
        _let_pages_call(app)
    return app


def _let_model_answer(app: flask.Flask) -> None:
    """Let a model answer runs. Its client is loaded only here: most servers have no model."""
    from chat.model import Model

    model = app.extensions["players"].model = Model(app.config)
    model.time = metrics.time_model


def _let_pages_call(app: flask.Flask) -> None:
    """Let the pages of THREADS_CORS_ORIGINS call the API, with any request headers."""
    origins = [re.compile(re.escape(origin) + r"\Z") for origin in app.config["CORS_ORIGINS"]]
    about_retries = ["x-should-retry", "Retry-After", "retry-after-ms"]
    headers = ["x-request-id", "openai-processing-ms", "Idempotent-Replayed", *about_retries]
    CORS(app, resources=OWN, origins=origins, expose_headers=headers, max_age=600)
