"""The database at the start and the end of the program."""

import sys
from typing import Any

from flask import Flask

from database.memory import private_folder
from database.transactions import module_of
from models import SCHEMA_REVISION

REVISION = "SELECT version_num FROM alembic_version"


def flask_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the Flask-SQLAlchemy settings for THREADS_DATABASE_URL; `memory` gets its folder."""
    url = settings["DATABASE_URL"]
    if url == "memory":
        url = f"sqlite:///{private_folder()}/threads.db"
    options = module_of(url).options(url, settings["WORKER_THREADS"]) | {"hide_parameters": True}
    return {"SQLALCHEMY_DATABASE_URI": url, "SQLALCHEMY_ENGINE_OPTIONS": options}


def is_current(url: str) -> bool:
    """Return whether a database has this program's schema. Raises SystemExit when it is newer."""
    revision = module_of(url).look_up(url, REVISION)
    if revision and revision > SCHEMA_REVISION:
        ours = f"this version knows {SCHEMA_REVISION}"
        sys.exit(f"The database has schema {revision}; {ours}: update.")
    return bool(revision == SCHEMA_REVISION)


def close(app: Flask) -> None:
    """Close an app's connections: SQLite then moves its log into its file."""
    app.extensions["database"].close()
