"""A scratch server with a copy of an artifact: all of it, or the schema and only the rows of needed tables.

In a part, indexes, foreign keys, triggers and privileges are left out. Keys come only where a definition or a query
depends on them (GROUP BY of a primary key): pg_dump defines such a view twice, first without its query.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

import psycopg
from psycopg import sql

from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import some
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.proof_run import ProofOptions
from refnet.sources.contents import AnswerLimits
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.index import Index, Member
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.proof.foreign_proof import ForeignProver, untrusted
from refnet.sources.database.proof.guarded_schema import (
    GuardedSchema,
    Logins,
    create_empty,
    create_logins,
    create_reader,
)
from refnet.sources.database.proof.own_proof import missing_extensions, renew
from refnet.sources.database.query.answer import Asker, Key, QueriedRelations, queried_relations, touched
from refnet.sources.database.restore.left_out import LateChecks, refuses_rows
from refnet.sources.database.restore.load import How, Loader, load
from refnet.sources.database.restore.schema_archive import Item
from refnet.sources.database.server_errors import ServerError
from refnet.sources.database.workers import Task, Workers, run_all

#: The name of the copy.
DATABASE = "copy"
_GROUPING = "42803"  # a query may group by a primary key, which is not there yet


@dataclass(frozen=True)
class ScratchCopy:
    """A copy on a scratch server."""

    cluster: Cluster
    #: The login that reads everything and writes nothing.
    reader: Target
    #: What is different from a restore, a sentence each.
    notes: tuple[str, ...] = ()


@contextmanager
def scratch_failures(name: str) -> Iterator[None]:
    """Turn errors of the scratch server about the artifact `name` into RefnetErrors."""
    try:
        yield
    except psycopg.Error as error:
        raise server_errors.of_server(error, f"loading {name}") from error
    except UnicodeEncodeError:
        raise RefnetError(
            f"{name} cannot be loaded: the name of a role, a setting or a sequence is not valid UTF-8",
            "Restore it on a server with the encoding of its database.",
            Exit.UNVERIFIED,
        ) from None


@contextmanager
def complete_copy(artifact: DatabaseArtifact, options: ProofOptions) -> Iterator[ScratchCopy]:
    """Load all of `artifact` into a scratch server, as a proof does."""
    with _empty(artifact, options) as (copy, logins, workers):
        again = partial(renew, logins, DATABASE, artifact.index)
        load(artifact.reader, logins.as_superuser(DATABASE), workers, How(logins), again)
        yield copy


@contextmanager
def partial_copy(artifact: DatabaseArtifact, options: ProofOptions) -> Iterator[tuple[ScratchCopy, Part]]:
    """Load the schema of `artifact` into a scratch server; rows are loaded on demand."""
    with ExitStack() as stack:
        copy, logins, workers = stack.enter_context(_empty(artifact, options))
        part = Part(artifact.reader, logins.as_superuser(DATABASE), workers, logins)
        stack.enter_context(part)
        part.create()
        yield copy, part


@contextmanager
def foreign_copy(dump: ForeignDump, options: ProofOptions) -> Iterator[ScratchCopy]:
    """Load a foreign dump into a scratch server, as a proof does; RefnetError (UNVERIFIED) if not trusted."""
    binaries = options.binaries(dump.proof_major, server=True)
    options.progress("start a scratch server", 0, None)
    with scratch(binaries, base=options.base, settings=options.server_settings()) as cluster:
        if cluster.walls.missing and not options.trust:
            message, _, advice = untrusted(cluster.walls.missing).partition(". ")
            raise RefnetError(message, advice.replace("verify", "load"), Exit.UNVERIFIED)
        dump.check()
        target = ForeignProver(dump, binaries, options).load(cluster)
        reader = f"refnet_reader_{secrets.token_hex(6)}"
        with cluster.target().connect() as admin:
            create_reader(admin, cluster, reader)
        yield ScratchCopy(cluster, cluster.target(target.name, reader))


@contextmanager
def _empty(
    artifact: DatabaseArtifact, options: ProofOptions
) -> Iterator[tuple[ScratchCopy, Logins, Workers]]:
    index = artifact.index
    binaries = programs(artifact, options)
    options.progress("start a scratch server", 0, None)
    settings = options.server_settings(sum(table.raw for table in index.tables))
    with scratch(binaries, base=options.base, settings=settings) as cluster:
        with cluster.target().connect() as admin:
            if missing := missing_extensions(admin, index):
                raise RefnetError(
                    f"extensions that are not available on this server: {some(missing)}",
                    "Install them for PostgreSQL's programs of this machine, or restore the artifact on its server.",
                    Exit.UNVERIFIED,
                )
            logins = create_logins(admin, cluster, index)
            note = create_empty(admin, DATABASE, index, by_files=True)
        copy = ScratchCopy(cluster, logins.as_reader(DATABASE), tuple(filter(None, (note,))))
        yield copy, logins, Workers(binaries, options.jobs, options.progress)


def programs(artifact: DatabaseArtifact, options: ProofOptions) -> Binaries:
    """Return programs with a server that can load `artifact`."""
    major = artifact.index.programs_major(int(artifact.index.server["version_num"]) // 10_000)
    return options.binaries(major, server=True)


def search_path(index: Index) -> str | None:
    """Return the search path that the database itself sets; None: PostgreSQL's default."""
    for one in index.database["settings"]:
        name, _, value = one["setting"].partition("=")
        if one["role"] is None and name == "search_path":
            return str(value)
    return None


def load_needed(
    part: Part, asker: Asker, query: bytes, limits: AnswerLimits, *, everything: bool
) -> QueriedRelations:
    """Load the tables that `query` reads, and return them; RefnetError if the server rejects the query."""
    with asker.in_time():
        try:
            found = queried_relations(asker.session, query)
        except psycopg.Error as error:
            if error.sqlstate != _GROUPING or not part.create_keys():
                raise
            found = queried_relations(asker.session, query)
    if foreign := sorted(found.of("f")):
        raise RefnetError(
            f"the query reads the foreign table {'.'.join(foreign[0])}, and a scratch server reaches no other server",
            "Query other tables, or restore the artifact beside its server.",
            Exit.UNVERIFIED,
        )
    part.fill(part.tables if everything or found.opaque else found.of("r", "p"))
    part.fill_views(found.of("m"), {"statement_timeout": f"{limits.seconds * 1000:.0f}"})
    if found.of("S"):
        part.set_sequences()
    return found


def unloaded(part: Part, asker: Asker) -> frozenset[Key]:
    """Tables that the last query read although their rows were not loaded."""
    with asker.in_time():
        return touched(asker.session) & part.tables - part.loaded


#: Views whose query comes after the keys that it depends on.
_LATE_VIEW = ("RULE ", " _RETURN ")
#: By oid, the order of their creation: a view comes after those that it reads.
_EMPTY_VIEWS = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid
"""


class Part(Loader):
    """The copy of a part of an artifact. It is made on a scratch server, so it has `logins`."""

    def __init__(self, reader: Reader, target: Target, workers: Workers, logins: Logins) -> None:
        super().__init__(reader, target, workers, How(logins))
        #: The tables that are loaded.
        self.loaded = set[Key]()
        self._scratch = logins
        self._dropping = threading.Lock()
        self._has_keys = False

    def __enter__(self) -> Self:
        super().__enter__()
        guarded = GuardedSchema(self._archive, self._scratch, self._programs, self._builder)
        self._guarded = self._held.enter_context(guarded)
        return self

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
            if not refuses_rows(error):
                raise
            self._drop_checks()
            self._load_block(self._index.tables[member.table], member)

    def _drop_checks(self) -> None:
        """Drop the checks of all tables: rows may violate them, and a query needs none."""
        with self._dropping, self._connect() as session:
            LateChecks().drop(session, self._codec)

    def fill_views(self, views: Collection[Key], settings: Mapping[str, str]) -> None:
        """Fill the materialized `views` in order of dependency. `settings`: of the session."""
        if not views:
            return
        with self._login.connect(settings, encoding="UTF8") as session:
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
