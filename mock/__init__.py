"""The mock controls: addresses below /_mock, and two hooks that see every request."""

from threading import Event, Lock
from typing import Any

from flask import Flask, Response, current_app

import config
from mock import faults, replies, views
from mock.request_log import RequestLog
from mock.schemas import MAX_RULES, breaks_stream
from players.script import Script
from rules import refusals
from web.addresses import is_of_api
from web.request import Request, current

_CONTROLS = ("/_mock/", "/admin/requests")


def init_app(app: Flask) -> None:
    """Add the controls and their hooks, if the settings allow them."""
    app.jinja_env.globals["mock_is_on"] = is_on
    if config.has_mock(app.config):
        mock = app.extensions["mock"] = Mock(app)
        app.register_blueprint(views.bp)
        app.before_request(mock.before)
        app.after_request(mock.after)


def is_on() -> bool:
    """Return whether this app has controls, and they are on."""
    mock: Mock | None = current_app.extensions.get("mock")
    return mock is not None and mock.is_on()


def controls() -> "Mock":
    """Return the controls of this app. Raises ApiError 404 while they are off."""
    if not is_on():
        raise refusals.mock_is_off()
    return current_app.extensions["mock"]  # type: ignore[no-any-return]


class Mock:
    """The state of the controls, and the hooks. It serves one process only."""

    def __init__(self, app: Flask) -> None:
        self.rules: list[faults.Rule] = []
        self.log = RequestLog()
        self.snapshots: dict[str, Any] = {}
        self._lock, self._rules_end = Lock(), Event()
        self._settings, self._keys = app.config, app.extensions["keys"]
        self.first_replies = replies.of_start(app.config["REPLIES"])
        self.script = app.extensions["players"].script = Script(self.is_on)
        self.script.set_rules(self.first_replies)

    def set_rules(self, rules: list[dict[str, Any]]) -> None:
        """Replace the rules, and end all delays: each occupies a thread."""
        with self._lock:
            self.rules = list(map(faults.Rule, rules))
            self._rules_end.set()
            self._rules_end = Event()

    def add_rule(self, rule: dict[str, Any]) -> None:
        """Add a rule behind the others, whose counts stay. Raises ApiError 400 for too many."""
        with self._lock:
            if len(self.rules) >= MAX_RULES:
                raise refusals.invalid("rules", f"{MAX_RULES} are in force; clear them first")
            self.rules = [*self.rules, faults.Rule(rule)]

    def before(self) -> None:
        """Apply the fault of this request: the one of its headers, else of the first rule."""
        request, rules_end = current(), self._rules_end
        if self._covers(request):
            request.fault = self._fault_of(request)
            if request.fault:
                faults.apply(request.fault, request, rules_end)

    def after(self, response: Response) -> Response:
        """Log this request, and drop its connection if its fault says so."""
        request = current()
        fault = request.fault or {}
        if breaks_stream(fault) and response.mimetype == "text/event-stream":
            pieces: Any = response.response
            response.response = faults.broken(pieces, fault, request)
        if self._covers(request) and is_of_api(request.path):
            self.log.add(request, response)
        if fault.get("drop") in ("before", "after"):
            faults.drop_connection(request)
        return response

    def _covers(self, request: Request) -> bool:
        """Return whether faults and log apply: not to the controls, which end them."""
        is_own = request.method == "OPTIONS" or request.path.startswith(_CONTROLS)
        return not is_own and self.is_on()

    def is_on(self) -> bool:
        """Return whether the controls are on."""
        return config.mock_is_on(self._settings, self._keys.is_keyed)

    def _fault_of(self, request: Request) -> dict[str, Any] | None:
        if fault := faults.read_headers(request):
            return fault
        with self._lock:
            return next((rule.object for rule in self.rules if rule.fires(request)), None)
