"""The HTTP API, one blueprint a file. Every address answers with and without `/v1`."""

from flask import Flask

from routes import messages, service, threads


def init_app(app: Flask) -> None:
    """Register the blueprints of the API and of the service."""
    for prefix, name in (("", "api"), ("/v1", "v1")):
        for module in (threads, messages):
            kind = module.bp.name
            app.register_blueprint(module.bp, url_prefix=f"{prefix}/threads", name=f"{name}_{kind}")
    app.register_blueprint(service.bp)
