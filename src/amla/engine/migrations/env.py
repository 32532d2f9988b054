"""Alembic's environment. It is run by ``engine.store`` with a connection at hand, never by a command of its own."""

from __future__ import annotations

from alembic import context

from amla.engine.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
