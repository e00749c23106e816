"""Runs the revisions on the app's own engine, in one transaction."""

from alembic import context

from database import current
from models import Base

with current().upgrading() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        include_name=lambda name, kind, _: not (name or "").startswith("message_text"),
    )
    context.run_migrations()
