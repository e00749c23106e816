"""Runs the revisions on the app's own engine, one upgrade at a time, whole or not at all."""

from alembic import context

from database import current
from models import Base


def run() -> None:
    with current().upgrading() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            include_name=lambda name, kind, _: not (name or "").startswith("message_text"),
        )
        context.run_migrations()


run()
