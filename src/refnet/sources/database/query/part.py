"""Loads the schema of an artifact into a scratch server, and rows only of needed tables.

Indexes, foreign keys, triggers and privileges are left out. Keys come only where a definition or a query depends on
them (GROUP BY of a primary key): pg_dump defines such a view twice, first without its query.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.index import Member
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.proof.guarded_schema import GuardedSchema, Logins
from refnet.sources.database.query.needs import Key
from refnet.sources.database.restore.left_out import REFUSED_ROWS, LateChecks
from refnet.sources.database.restore.load import Loader
from refnet.sources.database.restore.schema_archive import Item
from refnet.sources.database.server_errors import ServerError
from refnet.sources.database.workers import Task, Workers, run_all

#: Views whose query comes after the keys that it depends on.
_LATE_VIEW = ("RULE ", " _RETURN ")
#: By oid, the order of their creation: a view comes after those that it reads.
_EMPTY_VIEWS = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid
"""


class Part(Loader):
    """The copy of a part of an artifact. It is made on a scratch server, so it has `logins`."""

    def __init__(
        self, reader: Reader, target: Target, workers: Workers, folder: Path, logins: Logins
    ) -> None:
        super().__init__(reader, target, workers, folder, logins)
        #: The tables that are loaded.
        self.loaded = set[Key]()
        self._scratch = logins
        self._dropping = threading.Lock()
        self._has_keys = False
        self._guarded = GuardedSchema(self._archive, logins, self._programs, self._builder)

    def __enter__(self) -> Self:
        super().__enter__()
        self._guarded.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._guarded.__exit__()
        super().__exit__()

    def create(self) -> None:
        """Restore the schema, without rows."""
        self._workers.progress("schema", 0, None)
        self._guarded.create()
        self._owners = self._owners_of_tables(self._scratch.names())
        self._after = self._archive.entries(self._programs, "post-data")
        late = [
            item for item in self._after if item.what.startswith(_LATE_VIEW[0]) and _LATE_VIEW[1] in item.what
        ]
        if late:
            self.create_keys()
            self._restore_items("creating views", late)

    def create_keys(self) -> bool:
        """Restore the primary keys and unique constraints; return False if that was done before."""
        if self._has_keys:
            return False
        self._has_keys = True
        keys: list[Item] = [item for item in self._after if item.is_key]
        if keys:
            self._restore_items("creating keys", keys)
        return True

    @property
    def tables(self) -> frozenset[Key]:
        """The tables whose rows the artifact contains."""
        return frozenset((table.schema, table.name) for table in self._index.tables)

    def unstored(self, tables: Collection[Key]) -> list[Key]:
        """Ordinary `tables` without rows or row count in the artifact."""
        has_roots = any(table.root for table in self._index.tables)
        return [] if has_roots else sorted(set(tables) - self.tables)

    def fill(self, tables: Collection[Key]) -> None:
        """Load the rows of `tables`, unless they are loaded."""
        known = {(table.schema, table.name): table for table in self._index.tables}
        wanted = set(tables)
        if not wanted <= known.keys():  # a partition, perhaps, whose rows come through its root
            wanted |= {key for key, table in known.items() if table.root}
        wanted -= self.loaded
        self.loaded |= wanted
        numbers = {number for number, key in enumerate(known) if key in wanted}
        members = [member for member in self._index.members if member.table in numbers]
        self._total = self._done + sum(member.raw for member in members)
        tasks = (Task(one.raw, partial(self._load_member, one)) for one in members)
        run_all(tasks, self._workers.jobs, self._stop)

    def _load_member(self, member: Member) -> None:
        if member.table is None:
            return
        try:
            self._load_block(self._index.tables[member.table], member)
        except ServerError as error:
            if error.sqlstate not in REFUSED_ROWS:
                raise
            self._drop_checks()
            self._load_block(self._index.tables[member.table], member)

    def _drop_checks(self) -> None:
        """Drop the checks of all tables: rows may violate them, and a query needs none."""
        with self._dropping, self._target.connect(self._settings, encoding=self._index.encoding) as session:
            LateChecks().drop(session, self._codec)

    def fill_views(self, views: Collection[Key], settings: Mapping[str, str]) -> None:
        """Fill the materialized `views` in order of dependency. `settings`: of the session."""
        if not views:
            return
        with self._scratch.as_builder(self._target.name).connect(settings, encoding="UTF8") as session:
            for key in session.execute(_EMPTY_VIEWS).fetchall():
                if key in views:
                    self._workers.progress(f"filling {'.'.join(key)}", 0, None)
                    try:
                        session.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*key)))
                    except psycopg.Error as error:
                        raise server_errors.of_server(error, f"filling {'.'.join(key)}") from error

    def set_sequences(self) -> None:
        """Set every sequence to its value."""
        with self._target.connect(READER_SETTINGS, encoding="UTF8") as session:
            for name, value, called in self._index.sequences:
                session.execute("SELECT pg_catalog.setval(%s::regclass, %s, %s)", (name, value, called))
