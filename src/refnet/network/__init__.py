"""The citation network: its schema, and what fills it."""

from __future__ import annotations

#: In the schema `public`: which migrations a database carries. A name of its own, so that a database of
#: somebody else's that Alembic looks after is never taken for RefNet's.
VERSION_TABLE = "refnet_migrations"

#: A session of the network's: unqualified names mean `public`, whatever the role or the database says.
SESSION = {"search_path": "public", "client_min_messages": "warning"}
