"""The HTTP API, one blueprint a file. Every address answers below each of the PREFIXES."""

from flask import Flask

from routes import assistants, messages, models, runs, service, threads
from web.addresses import BELOW, PREFIXES


def init_app(app: Flask) -> None:
    """Register the blueprints of the API and of the service."""
    for name, prefix in PREFIXES.items():
        for module in (assistants, models, threads, messages, runs):
            kind = module.bp.name
            below = prefix + BELOW[kind]
            app.register_blueprint(module.bp, url_prefix=below, name=f"{name}_{kind}")
    app.register_blueprint(service.bp)
