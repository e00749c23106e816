"""Who may call: the safety rules of open mode, request ids and the standard response headers."""

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from time import perf_counter_ns
from urllib.parse import urlsplit

import orjson
from flask import Flask, Response, current_app, g, request
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
_OPEN_BLUEPRINTS = frozenset({"admin"})
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
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_")


def init_app(app: Flask) -> None:
    """Check every request before its view, and put the standard headers on every answer.

    THREADS_TRUSTED_HOSTS is taken out of Flask's setting of that name, which refuses every other
    host, this machine's included.
    """
    app.extensions["trusted_hosts"] = tuple(host.lower() for host in app.config["TRUSTED_HOSTS"])
    app.config["TRUSTED_HOSTS"] = None
    app.before_request(_begin)
    app.after_request(_finish)


def project() -> str:
    """Return the project that this request reads and writes."""
    found: str = g.get("project", DEFAULT_PROJECT)
    return found


def sign_in(secret: str) -> Key | None:
    """Let the rest of this request see a key's project; return the key, if it is one."""
    key = keys.ring().find(secret)
    if key:
        use(key)
    return key


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


def _begin() -> None:
    g.started = perf_counter_ns()
    g.request_id = f"req_{os.urandom(16).hex()}"
    try:
        keyed = keys.ring().keyed
    except ApiError:
        if request.endpoint in _PROBES:
            return
        raise
    if keyed:
        _hide_mock()
        _require_key()
    else:
        _guard_open_mode()
    if current_app.config["REQUIRE_BETA"] and (request.blueprint or "").endswith(_API_BLUEPRINTS):
        _require_beta(request.headers.get("OpenAI-Beta"))


def _finish(response: Response) -> Response:
    elapsed = perf_counter_ns() - g.started
    headers = response.headers
    headers["x-request-id"] = g.request_id
    headers["openai-processing-ms"] = str(elapsed // 1_000_000)
    headers["openai-version"] = "2020-10-01"
    headers["X-Content-Type-Options"] = "nosniff"
    if request.path.startswith("/admin/"):
        headers.update(_PAGE_HEADERS)
    _record(response, elapsed)
    return response


def _record(response: Response, elapsed: int) -> None:
    """Count the request and log its line: no body, no key, no cookie, and no path either."""
    method, route = (request.method, request.url_rule.rule) if request.url_rule else ("-", "-")
    line = {
        "time": datetime.now(UTC),
        "request_id": g.request_id,
        "method": request.method,
        "route": route,
        "status": response.status_code,
        "ms": round(elapsed / 1e6, 2),
        "bytes": response.content_length,
        "key": g.get("key_shown"),
    }
    with suppress(OSError):  # a change is stored by now: a lost count or line must not fail it
        timer(method, route, response.status_code).observe(elapsed / 1e9)
    with suppress(OSError):
        os.write(2, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _hide_mock() -> None:
    """Answer, key or not, as if there were no mock controls. Raises NotFound."""
    below = request.path.startswith("/_mock/") or request.path == "/_mock"
    if below and current_app.config["MOCK"] != "on":
        raise NotFound


def _require_key() -> None:
    """Let nobody in without a key of a project. Raises ApiError 401.

    Unknown, malformed, expired and revoked keys get the same answer.
    """
    if request.endpoint in _OPEN_ENDPOINTS or request.blueprint in _OPEN_BLUEPRINTS:
        return
    if request.method == "OPTIONS" and current_app.config["CORS_ORIGINS"]:
        return
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        secret = request.headers.get("api-key", "")
    if not secret.strip():
        raise ApiError(401, _NO_KEY, headers=_BEARER)
    if not sign_in(secret.strip()):
        shown = _masked(secret.strip())
        message = f"Incorrect API key provided: {shown}. Ask for one that is valid."
        raise ApiError(401, message, code="invalid_api_key", headers=_BEARER)


def _masked(secret: str) -> str:
    """Show the ends of a key that is long enough to have a middle (recorded 2025-11)."""
    return secret if len(secret) <= 12 else f"{secret[:8]}{'*' * 8}{secret[-4:]}"


def _require_beta(header: str | None) -> None:
    """Refuse as the hosted API did (wire reference, table 1.1). Raises ApiError 400."""
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


def _guard_open_mode() -> None:
    """Refuse what a proxy or a foreign web page sends: without keys only this machine may call."""
    headers = request.headers
    trusted = current_app.extensions["trusted_hosts"]
    if not _is_trusted_host(headers.get("Host", "").lower(), trusted):
        raise ApiError(
            400,
            "This Host is not served: without API keys it must be localhost or a loopback address, "
            "or be named in THREADS_TRUSTED_HOSTS.",
            code="invalid_host",
        )
    if any(name.startswith(_FORWARDED) for name in request.environ):
        message = (
            "A server behind a proxy needs API keys; without them forwarded requests are refused."
        )
        raise ApiError(403, message, code="forwarded_request")
    if request.method not in _SAFE_METHODS:
        _refuse_foreign_page()


def _refuse_foreign_page() -> None:
    origin = request.headers.get("Origin")
    if origin is not None and origin in current_app.config["CORS_ORIGINS"]:
        return
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in _OWN_SITE or origin not in (None, request.host_url.rstrip("/")):
        message = (
            "Other web pages may not change anything; THREADS_CORS_ORIGINS names those that may."
        )
        raise ApiError(403, message, code="foreign_origin")


@lru_cache(maxsize=256)
def _is_trusted_host(host: str, trusted: tuple[str, ...]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return config.is_loopback(name) or name in trusted or host in trusted
