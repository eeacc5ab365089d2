"""What alembic runs: applies the revisions on the connection that `run.migrate` opened."""

from alembic import context

from models.migrations.scope import VERSION_SCHEMA, is_ours, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    include_object=is_ours,
    version_table_schema=VERSION_SCHEMA,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
