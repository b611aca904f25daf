"""Runs the migrations on the connection that `servease_appt.db.migrate` hands over, in its transaction."""

from alembic import context

from servease_appt.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
