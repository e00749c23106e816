"""The HTTP API, one blueprint a file. Every address answers below each of the PREFIXES."""

from flask import Flask

from routes import assistants, messages, models, runs, service, threads
from web.addresses import PREFIXES

_BELOW = {assistants: "/assistants", models: "/models"}
_BELOW |= dict.fromkeys((threads, messages, runs), "/threads")


def init_app(app: Flask) -> None:
    """Register the blueprints of the API and of the service."""
    for name, prefix in PREFIXES.items():
        for module, path in _BELOW.items():
            kind = module.bp.name
            app.register_blueprint(module.bp, url_prefix=prefix + path, name=f"{name}_{kind}")
    app.register_blueprint(service.bp)
