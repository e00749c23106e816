"""The HTTP API, one blueprint a file. Every address answers below each of the PREFIXES."""

from flask import Flask

from routes import messages, service, threads
from web.addresses import PREFIXES


def init_app(app: Flask) -> None:
    """Register the blueprints of the API and of the service."""
    for name, prefix in PREFIXES.items():
        for module in (threads, messages):
            kind = module.bp.name
            app.register_blueprint(module.bp, url_prefix=f"{prefix}/threads", name=f"{name}_{kind}")
    app.register_blueprint(service.bp)
