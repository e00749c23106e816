"""Who may call: the safety rules of open mode, request ids and the standard response headers."""

import os
import re
from functools import lru_cache
from time import perf_counter_ns
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, request

import config
from errors import ApiError
from models import DEFAULT_PROJECT

_PATH_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})
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
    return DEFAULT_PROJECT


def check_id(value: str, prefix: str, param: str, kind: str) -> None:
    """Refuse a path id before the database sees it. Raises ApiError 400 or 404.

    Source: wire reference, decision 13.
    """
    if not value.startswith(prefix):
        message = f"Invalid '{param}': '{value}'. Expected an ID that begins with '{prefix}'."
        raise ApiError(400, message, param, "invalid_value")
    if not _PATH_ID.fullmatch(value):
        raise ApiError(404, f"No {kind} found with id '{value}'.")


def _begin() -> None:
    g.started = perf_counter_ns()
    g.request_id = f"req_{os.urandom(16).hex()}"
    _guard_open_mode()


def _finish(response: Response) -> Response:
    headers = response.headers
    headers["x-request-id"] = g.request_id
    headers["openai-processing-ms"] = str((perf_counter_ns() - g.started) // 1_000_000)
    headers["openai-version"] = "2020-10-01"
    headers["X-Content-Type-Options"] = "nosniff"
    return response


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
