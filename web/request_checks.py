"""The checks of a caller: API keys, the safety rules of open mode, and the beta header."""

import re
from functools import lru_cache
from time import perf_counter_ns
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.exceptions import NotFound

import config
from access import api_keys
from rules import refusals
from rules.errors import ApiError
from schemas import MAX_TEXT_CHARACTERS
from web.addresses import BELOW
from web.error_answers import is_page
from web.request import Request, current, new_request_id

_OPEN_VIEWS = ("home", "admin", "healthz", "readyz", "document", "docs", "docs_asset")
MAX_FORM_BYTES = 4 * MAX_TEXT_CHARACTERS + 131_072
"""A character takes four bytes at most in multipart/form-data; the rest is for metadata."""
_NEED_NO_KEY = {"static", *(f"service.{view}" for view in _OPEN_VIEWS)}
_IN_BETA = tuple(f"_{kind}" for kind in BELOW if kind != "models")
"""The ends of the blueprints whose hosted counterparts were in beta."""
_FORWARDED = re.compile("HTTP_(X_FORWARDED_|FORWARDED$)")


def init_app(app: Flask) -> None:
    """Check every request before its view."""
    app.before_request(Checks(app).check)


def use_key(key: api_keys.Key) -> None:
    """Make a key's project the project of this request."""
    request = current()
    request.project, request.key_shown = key.project, key.shown
    api_keys.cache().note_use(key)


class Checks:
    """The checks, with the settings of one app."""

    def __init__(self, app: Flask) -> None:
        self._config = app.config
        self._keys: api_keys.KeyCache = app.extensions["keys"]
        self._cors = frozenset(app.config["CORS_ORIGINS"])
        self._hosts = tuple(host.lower() for host in app.config["TRUSTED_HOSTS"])
        app.config["TRUSTED_HOSTS"] = None  # Flask's own would refuse this machine

    def check(self) -> None:
        """Give the request an id and check its caller. Raises ApiError 400, 401, 403, NotFound."""
        request = current()
        request.started = perf_counter_ns()
        request.request_id = new_request_id()
        if is_page(request.path):
            request.max_content_length = MAX_FORM_BYTES
        _refuse_slash(request.environ.get("RAW_URI", ""))
        if request.endpoint == "service.healthz" and self._keys.is_keyed:
            return  # no key is asked for, so the database is not asked, either
        try:
            self._keys.refresh()
        except ApiError:
            if request.endpoint in ("service.healthz", "service.readyz"):
                return
            raise
        if self._keys.is_keyed:
            is_control = f"{request.path}/".startswith("/_mock/")
            if is_control and not config.mock_is_on(self._config, is_keyed=True):
                raise NotFound
            self._require_key(request)
        else:
            self._guard_open_mode(request)
        if self._config["REQUIRE_BETA"] and (request.blueprint or "").endswith(_IN_BETA):
            _require_beta(request)

    def _require_key(self, request: Request) -> None:
        """Refuse a request without a valid key. Raises ApiError 401."""
        is_page = f"{request.path}/".startswith("/admin/")  # the pages have their own sign-in
        if is_page or request.endpoint in _NEED_NO_KEY:
            return
        if request.method == "OPTIONS" and self._cors:
            return
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            secret = request.headers.get("api-key", "")
        if not secret.strip():
            raise refusals.no_api_key()
        key = self._keys.find(secret.strip())
        if key is None:
            raise refusals.wrong_api_key(_masked(secret.strip()))
        use_key(key)

    def _guard_open_mode(self, request: Request) -> None:
        """Refuse requests of proxies and foreign web pages: only this machine may call."""
        environ = request.environ
        if not _is_trusted_host(environ.get("HTTP_HOST", "").lower(), self._hosts):
            raise refusals.untrusted_host()
        if "FORWARDED" in "".join(environ) and any(map(_FORWARDED.match, environ)):
            raise refusals.forwarded_request()
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            self._refuse_foreign_page(request)

    def _refuse_foreign_page(self, request: Request) -> None:
        origin = request.environ.get("HTTP_ORIGIN")
        if origin in self._cors:
            return
        is_own = origin is None or origin == request.host_url.rstrip("/")
        site = request.environ.get("HTTP_SEC_FETCH_SITE", "none")
        if not is_own or site not in ("same-origin", "none"):
            raise refusals.foreign_page()


def _refuse_slash(uri: str) -> None:
    """Raise NotFound for an encoded slash: decoded, an id would lead to another address."""
    if "%2" in uri and "%2f" in uri.partition("?")[0].lower():
        raise NotFound


def _masked(secret: str) -> str:
    """Return a long key with its middle masked, as the hosted API did (recorded 2025-11)."""
    return secret if len(secret) <= 12 else f"{secret[:8]}{'*' * 8}{secret[-4:]}"


def _require_beta(request: Request) -> None:
    """Refuse as the hosted API did (wire reference, table 1.1). Raises ApiError 400."""
    if request.method == "OPTIONS":  # a browser asks whether it may send the header
        return
    header = request.headers.get("OpenAI-Beta")
    if header is None:
        raise refusals.no_beta_header()
    betas = [beta.strip() for beta in header.split(",")]
    for beta in betas:
        if not re.fullmatch(r"\w+=v[0-9]+", beta, re.ASCII):
            raise refusals.malformed_beta_header(beta)
    if "assistants=v2" not in betas:
        name = betas[0] if betas[0].startswith("assistants=") else betas[0].partition("=")[0]
        raise refusals.unknown_beta(name)


@lru_cache(maxsize=256)
def _is_trusted_host(host: str, trusted: tuple[str, ...]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return config.is_loopback(name) or name in trusted or host in trusted
