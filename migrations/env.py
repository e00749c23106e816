"""Runs the revisions on the app's own engine, under the write queue, whole or not at all."""

from alembic import context
from flask import current_app

from models import Base, db


def run() -> None:
    with current_app.extensions["write_queue"].turn(60), db.engine.connect() as connection:
        # Re-creating a table would otherwise delete, by cascade, every row that refers to it.
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")
        connection.detach()
        with connection.begin():
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
                render_as_batch=True,
                include_name=lambda name, kind, _: not (name or "").startswith("message_text"),
            )
            context.run_migrations()
            if orphan := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise SystemExit(f"The upgrade would leave a row without its parent: {orphan}.")


run()
