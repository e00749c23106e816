"""Who may call: API keys, the safety rules of open mode, and the beta header."""

import random
import re
from functools import lru_cache
from time import perf_counter_ns
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.exceptions import NotFound

import config
from rules import refusals
from rules.errors import ApiError
from store import api_keys
from store.api_keys import Key, KeyCache
from web.request import Request, current

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})
_NEED_NO_KEY = frozenset(
    f"service.{view}" for view in ("home", "healthz", "readyz", "document", "docs", "docs_asset")
) | {"static"}
_PROBES = frozenset({"service.healthz", "service.readyz"})
_PAGES = re.compile("/admin(/|$)")
"""The browse page has a sign-in of its own; what is not found below it needs none."""
_API_BLUEPRINTS = ("_threads", "_messages")
_BETA = re.compile(r"\w+=v[0-9]+", re.ASCII)
_FORWARDED = re.compile("HTTP_(X_FORWARDED_|FORWARDED$)")


def init_app(app: Flask) -> None:
    """Check every request before its view."""
    app.before_request(Checks(app).check)


def use_key(key: Key) -> None:
    """Show the rest of this request a key's project, and nothing else."""
    request = current()
    request.project, request.key_shown = key.project, key.shown
    api_keys.cache().note_use(key)


class Checks:
    """The checks, with the settings of one app."""

    def __init__(self, app: Flask) -> None:
        self._config = app.config
        self._keys: KeyCache = app.extensions["keys"]
        self._cors = frozenset(app.config["CORS_ORIGINS"])
        self._hosts = tuple(host.lower() for host in app.config["TRUSTED_HOSTS"])
        app.config["TRUSTED_HOSTS"] = None  # Flask's own would refuse this machine

    def check(self) -> None:
        """Give the request an id and check its caller. Raises ApiError 400, 401, 403, NotFound."""
        request = current()
        request.started = perf_counter_ns()
        request.request_id = f"req_{random.getrandbits(128):032x}"
        _refuse_slash(request.environ.get("RAW_URI", ""))
        try:
            self._keys.refresh()
        except ApiError:
            if request.endpoint in _PROBES:
                return
            raise
        if self._keys.is_keyed:
            self._hide_mock(request)
            self._require_key(request)
        else:
            self._guard_open_mode(request)
        if self._config["REQUIRE_BETA"] and (request.blueprint or "").endswith(_API_BLUEPRINTS):
            _require_beta(request)

    def _hide_mock(self, request: Request) -> None:
        """Answer, key or not, as if there were no mock controls. Raises NotFound."""
        is_mock = request.path.startswith("/_mock/") or request.path == "/_mock"
        if is_mock and self._config["MOCK"] != "on":
            raise NotFound

    def _require_key(self, request: Request) -> None:
        """Refuse a caller without a key of a project. Raises ApiError 401.

        Unknown, malformed, expired and revoked keys get the same answer.
        """
        if request.endpoint in _NEED_NO_KEY or _PAGES.match(request.path):
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
        """Refuse what a proxy or a foreign web page sends: only this machine may call."""
        environ = request.environ
        if not _is_trusted_host(environ.get("HTTP_HOST", "").lower(), self._hosts):
            raise refusals.untrusted_host()
        if "FORWARDED" in "".join(environ) and any(map(_FORWARDED.match, environ)):
            raise refusals.forwarded_request()
        if request.method not in _SAFE_METHODS:
            self._refuse_foreign_page(request)

    def _refuse_foreign_page(self, request: Request) -> None:
        origin = request.environ.get("HTTP_ORIGIN")
        if origin is not None and origin in self._cors:
            return
        site = request.environ.get("HTTP_SEC_FETCH_SITE", "none")
        if site not in _OWN_SITE or (origin is not None and origin != request.host_url.rstrip("/")):
            raise refusals.foreign_page()


def _refuse_slash(uri: str) -> None:
    """Refuse an encoded slash: decoded before the routing, an id would reach another address.

    Raises NotFound. Source: wire reference, section 4, path encoding.
    """
    if "%2" in uri and "%2f" in uri.partition("?")[0].lower():
        raise NotFound


def _masked(secret: str) -> str:
    """Return the ends of a key that is long enough to have a middle (recorded 2025-11)."""
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
        if not _BETA.fullmatch(beta):
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
