"""The blueprints and where they live: the API answers with and without `/v1`."""

from flask import Flask

from routes import admin, messages, mock, service, signin, threads


def init_app(app: Flask) -> None:
    """Register every blueprint."""
    for prefix, name in (("", "api"), ("/v1", "v1")):
        for module in (threads, messages):
            kind = module.bp.name
            app.register_blueprint(module.bp, url_prefix=f"{prefix}/threads", name=f"{name}_{kind}")
    app.register_blueprint(service.bp)
    mock.init_app(app)
    signin.init_app(app)
    admin.init_app(app)
