"""The `flask` command line: the app and its commands (Alembic's stay out of the server)."""

from flask import Flask
from flask_migrate import Migrate

import app as application
import config
from models import db


def create_app() -> Flask:
    """Build the app with every command."""
    app = application.create_app()
    Migrate(app, db, directory=str(config.ROOT / "migrations"))
    return app
