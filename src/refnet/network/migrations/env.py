"""Alembic's entry: runs the migrations on the connection that `refnet.network.migrate` hands over.

No alembic.ini is read and no URL is needed; so Alembic's own command line cannot connect.
"""

from __future__ import annotations

from alembic import context

from refnet.network import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema="public",
)
context.run_migrations()
