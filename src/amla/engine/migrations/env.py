"""Alembic's environment. It is run by ``engine.database`` with a connection at hand, never by a command of its own.

A new revision is a file ``versions/rNNNN_what.py`` (``script.py.mako`` shows its form) and the next ``database.REVISION``; a
test compares what the migrations make with ``engine.tables``.
"""

from __future__ import annotations

from alembic import context

from amla.engine.tables import metadata

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    version_table=attributes["version_table"],
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
