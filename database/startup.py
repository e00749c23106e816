"""What a start needs to know of a database, before there is an app and after."""

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
    """Return whether a database has this program's schema.

    Raises SystemExit with one line when it is newer, or no database.
    """
    revision = module_of(url).look_up(url, REVISION)
    if revision and revision > SCHEMA_REVISION:
        ours = f"this version knows {SCHEMA_REVISION}"
        sys.exit(f"The database has schema {revision}; {ours}: update.")
    return bool(revision == SCHEMA_REVISION)


def close(app: Flask) -> None:
    """Close what an app has open, so that SQLite's log ends up in its file."""
    app.extensions["database"].close()
