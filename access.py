"""Who may call: the safety rules of open mode, request ids and the standard response headers."""

import os
import random
import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from time import perf_counter_ns
from typing import Any
from urllib.parse import urlsplit

import orjson
from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import NotFound

import config
import keys
from errors import ApiError
from keys import Key
from metrics import timer
from models import DEFAULT_PROJECT
from schemas import PATH_ID, wrong_prefix

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})
_OPEN_ENDPOINTS = frozenset(
    f"service.{view}" for view in ("home", "healthz", "readyz", "document", "docs", "docs_asset")
) | {"static"}
_PROBES = frozenset({"service.healthz", "service.readyz"})
_PAGES = re.compile("/admin(/|$)")
"""The browse page has a sign-in of its own; what is not found below it needs none."""
_BEARER = {"WWW-Authenticate": "Bearer"}
_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
)
_API_BLUEPRINTS = ("_threads", "_messages")
_BETA = re.compile(r"\w+=v[0-9]+", re.ASCII)
_NO_BETA = (
    "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by "
    "setting the header 'OpenAI-Beta: assistants=v2'."
)
# Not `no-referrer`: with it browsers send `Origin: null` from our own forms.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_FORWARDED = re.compile("HTTP_(X_FORWARDED_|FORWARDED$)")
_WRONG_HOST = (
    "This Host is not served: without API keys it must be localhost or a loopback address, "
    "or be named in THREADS_TRUSTED_HOSTS."
)
_NO_PROXY = "A server behind a proxy needs API keys; without them forwarded requests are refused."
_FOREIGN = "Other web pages may not change anything; THREADS_CORS_ORIGINS names those that may."


def init_app(app: Flask) -> None:
    """Check every request before its view, and put the standard headers on every answer."""
    gate = Gate(app)
    app.before_request(gate.enter)
    app.after_request(gate.leave)


def project() -> str:
    """Return the project that this request reads and writes."""
    found: str = g.get("project", DEFAULT_PROJECT)
    return found


def use(key: Key) -> None:
    """Show the rest of this request a key's project, and nothing else."""
    g.project, g.key_shown = key.project, key.shown
    keys.ring().touch(key)


def check_id(value: str, prefix: str, param: str, kind: str) -> None:
    """Refuse a path id before the database sees it. Raises ApiError 400 or 404.

    Source: wire reference, decision 13.
    """
    if not value.startswith(prefix):
        fault = wrong_prefix(value, prefix)
        raise ApiError(400, fault.at(param), param, fault.code)
    if not PATH_ID.fullmatch(value):
        raise ApiError(404, f"No {kind} found with id '{value}'.")


class Gate:
    """What every request passes on its way in and out.

    It holds the app's settings, and takes the request out of Flask's proxy once: each use of a
    proxy costs about a microsecond, and there were forty.
    """

    def __init__(self, app: Flask) -> None:
        self._config = app.config
        self._ring: keys.Ring = app.extensions["keys"]
        self._cors = frozenset(app.config["CORS_ORIGINS"])
        self._hosts = tuple(host.lower() for host in app.config["TRUSTED_HOSTS"])
        app.config["TRUSTED_HOSTS"] = None  # Flask's own would refuse this machine

    def enter(self) -> None:
        """Give the request an id and check who calls. Raises ApiError 400, 401 or 403, NotFound."""
        asked, context = _request(), g._get_current_object()
        context.started = perf_counter_ns()
        context.request_id = f"req_{random.getrandbits(128):032x}"
        _refuse_slash(asked.environ.get("RAW_URI", ""))
        try:
            self._ring.refresh()
        except ApiError:
            if asked.endpoint in _PROBES:
                return
            raise
        if self._ring.keyed:
            self._hide_mock(asked)
            self._require_key(asked)
        else:
            self._guard_open_mode(asked)
        if self._config["REQUIRE_BETA"] and (asked.blueprint or "").endswith(_API_BLUEPRINTS):
            _require_beta(asked)

    def leave(self, response: Response) -> Response:
        """Add the standard headers, count the request and log it."""
        asked, context = _request(), g._get_current_object()
        elapsed = perf_counter_ns() - context.started
        headers = response.headers
        headers.add("x-request-id", context.request_id)
        headers.add("openai-processing-ms", elapsed // 1_000_000)
        headers.add("openai-version", "2020-10-01")
        headers.add("X-Content-Type-Options", "nosniff")
        if asked.path.startswith("/admin/"):
            headers.update(_PAGE_HEADERS)
        _record(asked, context, response, elapsed)
        return response

    def _hide_mock(self, asked: Request) -> None:
        """Answer, key or not, as if there were no mock controls. Raises NotFound."""
        below = asked.path.startswith("/_mock/") or asked.path == "/_mock"
        if below and self._config["MOCK"] != "on":
            raise NotFound

    def _require_key(self, asked: Request) -> None:
        """Let nobody in without a key of a project. Raises ApiError 401.

        Unknown, malformed, expired and revoked keys get the same answer.
        """
        if asked.endpoint in _OPEN_ENDPOINTS or _PAGES.match(asked.path):
            return
        if asked.method == "OPTIONS" and self._cors:
            return
        scheme, _, secret = asked.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            secret = asked.headers.get("api-key", "")
        if not secret.strip():
            raise ApiError(401, _NO_KEY, headers=_BEARER)
        key = self._ring.find(secret.strip())
        if key is None:
            shown = _masked(secret.strip())
            message = f"Incorrect API key provided: {shown}. Ask for one that is valid."
            raise ApiError(401, message, code="invalid_api_key", headers=_BEARER)
        use(key)

    def _guard_open_mode(self, asked: Request) -> None:
        """Refuse what a proxy or a foreign web page sends: only this machine may call."""
        environ = asked.environ
        if not _is_trusted_host(environ.get("HTTP_HOST", "").lower(), self._hosts):
            raise ApiError(400, _WRONG_HOST, code="invalid_host")
        if "FORWARDED" in "".join(environ) and any(map(_FORWARDED.match, environ)):
            raise ApiError(403, _NO_PROXY, code="forwarded_request")
        if asked.method not in _SAFE_METHODS:
            self._refuse_foreign_page(asked)

    def _refuse_foreign_page(self, asked: Request) -> None:
        origin = asked.environ.get("HTTP_ORIGIN")
        if origin is not None and origin in self._cors:
            return
        site = asked.environ.get("HTTP_SEC_FETCH_SITE", "none")
        if site not in _OWN_SITE or (origin is not None and origin != asked.host_url.rstrip("/")):
            raise ApiError(403, _FOREIGN, code="foreign_origin")


def _request() -> Request:
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found


def _refuse_slash(uri: str) -> None:
    """Refuse an encoded slash: decoded before the routing, an id would reach another address.

    Raises NotFound. Source: wire reference, section 4, path encoding.
    """
    if "%2" in uri and "%2f" in uri.partition("?")[0].lower():
        raise NotFound


def _record(asked: Request, context: Any, response: Response, elapsed: int) -> None:
    """Count the request and log its line: no body, no key, no cookie, and no path either."""
    method, route = (asked.method, asked.url_rule.rule) if asked.url_rule else ("-", "-")
    line = {
        "time": datetime.now(UTC),
        "request_id": context.request_id,
        "method": asked.method,
        "route": route,
        "status": response.status_code,
        "ms": round(elapsed / 1e6, 2),
        "bytes": response.content_length,
        "key": context.get("key_shown"),
    }
    with suppress(OSError):  # a change is stored by now: a lost count or line must not fail it
        timer(method, route, response.status_code).observe(elapsed / 1e9)
    with suppress(OSError):
        os.write(2, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _masked(secret: str) -> str:
    """Show the ends of a key that is long enough to have a middle (recorded 2025-11)."""
    return secret if len(secret) <= 12 else f"{secret[:8]}{'*' * 8}{secret[-4:]}"


def _require_beta(asked: Request) -> None:
    """Refuse as the hosted API did (wire reference, table 1.1). Raises ApiError 400."""
    if asked.method == "OPTIONS":  # a browser asks whether it may send the header
        return
    header = asked.headers.get("OpenAI-Beta")
    if header is None:
        raise ApiError(400, _NO_BETA, code="invalid_beta")
    betas = [beta.strip() for beta in header.split(",")]
    for beta in betas:
        if not _BETA.fullmatch(beta):
            message = (
                f"Invalid beta header provided: '{beta}'. The header should be in the format "
                "'OpenAI-Beta: example_beta=v1'."
            )
            raise ApiError(400, message, code="invalid_beta")
    if "assistants=v2" not in betas:
        name = betas[0] if betas[0].startswith("assistants=") else betas[0].partition("=")[0]
        raise ApiError(400, f"Unknown beta requested: '{name}'.", code="invalid_beta")


@lru_cache(maxsize=256)
def _is_trusted_host(host: str, trusted: tuple[str, ...]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return config.is_loopback(name) or name in trusted or host in trusted
