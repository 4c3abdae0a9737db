"""Alembic environment: the connection comes from teleop_schema.migrate, migrations are raw SQL."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
