"""The sessions that keep a table from being changed, for a message."""

from __future__ import annotations

from collections.abc import Collection

from refnet.recovery.sources.database.admin_session import Session
from refnet.recovery.sources.database.sql_names import Codec

_LOCKS = """
SELECT n.nspname::text, c.relname::text, l.pid, coalesce(a.usename::text, 'unknown'),
       coalesce(nullif(a.application_name, ''), 'unnamed')
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.granted
  AND l.pid <> pg_backend_pid() AND l.mode <> 'AccessShareLock' ORDER BY l.pid
"""
_MOST = 3


def holders(session: Session, codec: Codec, tables: Collection[tuple[str, str]]) -> str:
    """Return some sessions that have locks on `tables`; "" if there are none."""
    found = {
        f"process {pid} of {user} ({application})": None
        for schema, name, pid, user, application in codec.rows(session, _LOCKS)
        if (schema, name) in tables
    }
    return ", ".join([*found][:_MOST])
