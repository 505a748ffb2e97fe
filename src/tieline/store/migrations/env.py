"""Runs inside ``store.schema.upgrade``, which hands over an open connection in a transaction under a lock."""

from alembic import context

from tieline.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
