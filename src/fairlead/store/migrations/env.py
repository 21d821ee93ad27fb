"""Run by Alembic: migrate over the connection it was handed."""

from __future__ import annotations

from alembic import context

from fairlead.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=False,  # the caller's transaction is around everything
)
context.run_migrations()
