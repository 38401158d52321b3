"""Restores a schema in a scratch server without running code of a table's owner as superuser (schema_phases.py)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Self

from refnet.postgres.session import Target
from refnet.sources.database.artifact.schema_toc import Item
from refnet.sources.database.restore import schema_phases
from refnet.sources.database.restore.leaves import Leaves
from refnet.sources.database.restore.schema_archive import Archive
from refnet.sources.database.restore.schema_phases import ItemRun, Who
from refnet.sources.database.restore.scratch_logins import Logins
from refnet.sources.database.subprocesses import Programs

#: The state before everything was opened, in tables that end with the session.
_REMEMBER = """
CREATE TEMPORARY TABLE schemas AS SELECT oid, nspacl FROM pg_catalog.pg_namespace WHERE false;
CREATE TEMPORARY TABLE relations AS SELECT oid, relowner FROM pg_catalog.pg_class WHERE false;
"""
#: An object's new owner must be allowed to create in its schema, and only its owner alters a table. So schemas are open
#: to all, and the builder owns the extensions' relations, until rows and indexes are loaded.
_OPEN = """
INSERT INTO pg_temp.schemas SELECT oid, nspacl FROM pg_catalog.pg_namespace n
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_temp.schemas s WHERE s.oid = n.oid);
UPDATE pg_catalog.pg_namespace n
SET nspacl = coalesce(s.nspacl, pg_catalog.acldefault('n', nspowner)) || pg_catalog.makeaclitem(0, nspowner, 'USAGE', false)
    || pg_catalog.makeaclitem(0, nspowner, 'CREATE', false)
FROM pg_temp.schemas s WHERE s.oid = n.oid AND n.nspacl IS NOT DISTINCT FROM s.nspacl;
INSERT INTO pg_temp.relations SELECT c.oid, relowner FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_depend d ON d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e'
WHERE relkind IN ('r', 'p', 'm', 'f', 'v', 'S') AND NOT EXISTS (SELECT FROM pg_temp.relations r WHERE r.oid = c.oid);
UPDATE pg_catalog.pg_class c SET relowner = b.oid FROM pg_temp.relations r, pg_catalog.pg_roles b
WHERE r.oid = c.oid AND b.rolname = '{builder}' AND c.relowner <> b.oid;
"""
_CLOSE = """
UPDATE pg_catalog.pg_namespace n SET nspacl = s.nspacl FROM pg_temp.schemas s WHERE s.oid = n.oid;
UPDATE pg_catalog.pg_class c SET relowner = r.relowner FROM pg_temp.relations r WHERE r.oid = c.oid;
"""


class GuardedSchema(AbstractContextManager["GuardedSchema"]):
    """Restores the schema of `archive` by the superuser's and the builder's programs."""

    def __init__(self, archive: Archive, logins: Logins, superuser: Programs, builder: Programs) -> None:
        self._archive, self._logins = archive, logins
        self._superuser, self._builder = superuser, builder
        self._before: tuple[Item, ...] = ()

    def __enter__(self) -> Self:
        self._session = self._target.connect()
        self._session.execute(_REMEMBER)
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    @property
    def _target(self) -> Target:
        return self._logins.as_superuser(self._archive.name)

    def create(self) -> None:
        """Restore what comes before the rows, without the privileges."""
        self._before = self._archive.entries(self._superuser, "pre-data")
        items = [item for item in self._before if not item.is_label]
        for run in schema_phases.before_rows(items, self._running_code()):
            self._restore("creating the schema", run, 1)
        self._open()

    def _running_code(self) -> set[int]:
        """Dump ids of entries of schema_phases.SOMETIMES that can run their owner's code."""
        found = set()
        for kind, words in schema_phases.SOMETIMES.items():
            items = [item for item in self._before if item.what.startswith(kind)]
            if items and words in self._archive.text(self._superuser, items):
                found |= {i.dump_id for i in items if words in self._archive.text(self._superuser, [i])}
        return found

    def finish(self, items: Sequence[Item], jobs: int, leaves: Leaves) -> None:
        """Restore `items` of post-data, the privileges and labels; `leaves` restores entries that may be left out."""
        items = [*(item for item in self._before if item.is_label), *items]
        runs = schema_phases.after_rows(self._before, items)
        for run in runs:
            if run.who is not Who.BUILDER or run.items[0].is_refresh:
                self._session.execute(_CLOSE)
            self._restore("building keys and indexes", run, jobs, leaves)
        self._session.execute(_CLOSE)

    def _restore(self, doing: str, run: ItemRun, jobs: int, leaves: Leaves | None = None) -> None:
        if run.who is Who.BUILDER and not run.items[0].is_refresh:
            self._open()
        programs = self._builder if run.who is Who.BUILDER else self._superuser
        restore = leaves.restore if leaves else self._archive.restore
        restore(
            programs,
            doing,
            run.items,
            jobs=jobs if run.parallel else 1,
            owners=run.who is not Who.OWNER,
        )

    def _open(self) -> None:
        self._session.execute(_OPEN.format(builder=self._logins.builder).encode())
