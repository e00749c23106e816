"""The blueprints and where they live: the API answers with and without `/v1`."""

from flask import Flask

from routes import service, threads


def init_app(app: Flask) -> None:
    """Register every blueprint."""
    for prefix, name in (("", "api"), ("/v1", "v1")):
        app.register_blueprint(threads.bp, url_prefix=f"{prefix}/threads", name=f"{name}_threads")
    app.register_blueprint(service.bp)
