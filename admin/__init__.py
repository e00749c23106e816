"""/admin/: the pages to find, read, export, edit, delete and run conversations and assistants."""

import hashlib

from flask import Flask, Request, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface

from access.sign_ins import SESSION_SECONDS
from admin import assistants, forms, imports, requests, runs, selection, sign_in, thread, threads
from display.filters import FILTERS

PAGES = (assistants, imports, requests, runs, selection, thread, threads)
"""The modules with views."""


class PageSession(SecureCookieSessionInterface):
    """A session for the pages only: the API needs none."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        return super().open_session(app, request) if request.path.startswith("/admin/") else None

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def init_app(app: Flask) -> None:
    """Register the pages, their sign-in, their CSRF check and their session cookie."""
    # Each server names its cookie: a browser sends a host's cookies to all ports of the host.
    server = hashlib.sha256(app.config["SECRET_KEY"].encode()).hexdigest()[:8]
    app.config.update(
        PERMANENT_SESSION_LIFETIME=SESSION_SECONDS,
        SESSION_COOKIE_NAME=f"threads-{server}",
        SESSION_COOKIE_PATH="/admin/",
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_REFRESH_EACH_REQUEST=False,
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
    )
    app.session_interface = PageSession()
    sign_in.CSRF.init_app(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals |= forms.LIMITS
    app.jinja_env.filters |= {function.__name__: function for function in FILTERS}
    app.register_blueprint(sign_in.bp, url_prefix="/admin")
