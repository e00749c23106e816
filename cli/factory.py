"""The app with the commands of `flask`. The server itself never loads Alembic."""

import sys
from collections.abc import Mapping
from typing import Any

import flask_migrate
from environs import EnvValidationError
from flask import Flask

import app as application
import config
from cli import assistants, backup, data, doctor, keys
from database import files
from models import db


def create_app(settings: Mapping[str, Any] | None = None) -> Flask:
    """Build the app with every command. Raises SystemExit with one line for wrong settings."""
    try:
        app = application.create_app(settings)
    except EnvValidationError as error:
        sys.exit(f"Wrong settings: {error}")
    files.make_folder(app.config["SQLALCHEMY_DATABASE_URI"])
    flask_migrate.Migrate(app, db, directory=str(config.ROOT / "migrations"))
    on_data = (data.export, data.import_, data.prune, assistants.assistants)
    for command in (*on_data, keys.keys, backup.backup, doctor.doctor):
        app.cli.add_command(command)
    return app
