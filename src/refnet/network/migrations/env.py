"""Alembic's entry: runs the migrations on the connection that `refnet.network.migrate` hands over.

No alembic.ini is read and no URL is needed; Alembic's own command line has nothing to connect to here.
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
