"""Fills materialized views over foreign tables: last and one by one, if their servers respond.

A restore must not fail because such a server is down: the view stays empty, and the restore reports it.
"""

from __future__ import annotations

import psycopg

from refnet.postgres.session import Target, server_version
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.restore.load import loader_settings

#: Seconds for one view: a server may accept the query and never answer.
SECONDS = 300.0

#: By oid, the order of their creation: a view comes after those that it reads.
_EMPTY = """
SELECT format('%I.%I', n.nspname, c.relname), concat(n.nspname, '.', c.relname) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid
"""


def refresh(target: Target, index: Index) -> tuple[str, ...]:
    """Fill the foreign views of `index` in `target`; return sentences about views that stay empty."""
    if not index.foreign_views:
        return ()
    with target.connect(encoding="UTF8") as session:
        settings = {**loader_settings(server_version(session)), "statement_timeout": f"{SECONDS * 1000:.0f}"}
    notes = []
    with target.connect(settings, encoding="UTF8") as session:
        recorded = {name for _, name in index.foreign_views}
        empty = session.execute(_EMPTY).fetchall()
        for quoted, name in ((quoted, name) for quoted, name in empty if name in recorded):
            try:
                session.execute(f"REFRESH MATERIALIZED VIEW {quoted}".encode())
            except psycopg.Error as error:
                said = (error.diag.message_primary or str(error)).strip().split("\n")[0]
                notes.append(
                    f"{name} is empty, as it reads foreign tables ({said}):"
                    f" REFRESH MATERIALIZED VIEW {quoted} when their server answers"
                )
    return tuple(notes)
