"""Sources on PostgreSQL servers.

What only one verb needs is imported where that is called: the plan of a backup asks whether a database answers, no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from refnet import local_postgres, servers, wiring
from refnet.catalog.artifact import Finding, Maker, OpenArtifact
from refnet.catalog.catalog import Catalog
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Entry
from refnet.catalog.retention import Listing, PreviousVersion
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import HalfMade
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.glob import TableGlob
from refnet.postgres import embedded
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target, server_version
from refnet.proof_run import Required
from refnet.servers import ActsOn
from refnet.settings import SourceSettings
from refnet.sources.base import Permits, Source
from refnet.sources.database.saved_tables import previous_tables
from refnet.store.local import LocalStore
from refnet.store.previous_records import MarkState, PreviousRecord

if TYPE_CHECKING:
    from refnet.sources.check_result import CheckLine
    from refnet.sources.contents import Artifact, ArtifactDifference, Finder, Query, QueryAnswer
    from refnet.sources.database.artifact.index import Table
    from refnet.sources.database.query.copies import ScratchCopy
    from refnet.sources.restoring import RestoreRequest, RestoreWork


class OnServer(Source):
    """A source on the PostgreSQL server of its URL, else on RefNet's own."""

    noun: ClassVar[str] = "database"

    def what(self) -> str:
        if url := self.own.url:
            return Target.from_url(url).display
        return f"{embedded.DATABASE} on RefNet's own server ({self.settings.home / 'postgres'})"

    def reached(self) -> str:
        # RefNet's own server, once created, is started by a backup, and not by a question.
        if self.own.url or embedded.status(self.settings.home).major is None:
            with servers.existing_server(self.settings, self.name).connect() as session:
                local_postgres.binaries_for(self.settings, server_version(session))
        return self.what()


class Database(OnServer):
    """One database of a server."""

    called: ClassVar[str] = "a database"
    options: ClassVar[str] = "databases"
    contains: ClassVar[str] = "tables"
    takes_dumps: ClassVar[bool] = True
    is_snapshot: ClassVar[bool] = True

    def whose(self) -> Identity | None:
        settings, name = self.settings, self.name
        if name not in (SourceName.DATABASE, *settings.sources):
            return None
        if not settings.of(name).url:
            there = embedded.status(settings.home)
            if there.pid is None:
                return None if there.major is None else Identity(embedded.DATABASE)

        from refnet.sources.database.restore.server_facts import identity_of

        found = identity_of(servers.server(settings, name))
        before = (one for place in wiring.lineages(settings) for one in place.before(found))
        return replace(found, before=frozenset(before))

    def named(self) -> Identity | None:
        return servers.named_by(self.settings, self.name)

    def acts_on(self) -> ActsOn:
        return ActsOn.of(self.settings, self.name)

    def others(self) -> list[str]:
        from refnet.sources.database.restore import previous_databases

        return previous_databases.other_databases(servers.existing_server(self.settings, self.name))

    @staticmethod
    def of_cluster(cluster: SourceSettings, before: Collection[str]) -> list[str]:
        from refnet.sources.database.restore import previous_databases

        return previous_databases.databases_of_cluster(cluster, before)

    def required(self) -> Required:
        found = super().required()
        with suppress(RefnetError):  # a wrong URL fails where it is used
            if found.names:
                return replace(found, database=servers.database_name(self.settings, self.name))
        return found

    @staticmethod
    def opened(stored: OpenArtifact) -> Artifact:
        from refnet.sources.database.artifact.own_artifact import open_database

        return open_database(stored)

    def maker(
        self,
        *,
        jobs: int | None = None,
        tables: tuple[str, ...] = (),
        into: LocalStore | None = None,  # noqa: ARG002  # it shares nothing
        full: bool = False,  # noqa: ARG002  # it is always whole
    ) -> Maker:
        from refnet.sources.database.dump.parallel_dump import DatabaseMaker

        target = partial(servers.existing_server, self.settings, self.name)
        binaries = partial(local_postgres.binaries_for, self.settings)
        return DatabaseMaker(self.name, target, binaries, jobs or self.settings.jobs, tables)

    def checks(self) -> Iterator[CheckLine]:
        from refnet.sources.database.check_database import database

        return database(self.settings, self.name)

    def tables(self, chosen: OpenArtifact, advice: str) -> tuple[Table, ...]:
        from refnet.sources.database.artifact.own_artifact import open_own

        advice = (
            "`refnet verify` restores it into a scratch server and counts them; `refnet query` reads them."
        )
        return open_own(chosen, "which records no tables", advice, Exit.USAGE).index.tables

    def query(
        self, context: Context, chosen: OpenArtifact, asked: Query
    ) -> AbstractContextManager[QueryAnswer]:
        from refnet.sources.database import database_contents

        return database_contents.query(context, chosen, asked)

    def browse(
        self, context: Context, chosen: OpenArtifact, *, trust: bool
    ) -> AbstractContextManager[ScratchCopy]:
        from refnet.sources.database import database_contents

        return database_contents.browse(context, chosen, trust=trust)

    def exactly(self, name: str) -> Finder:
        from refnet.sources.database.database_contents import TableFinder

        return TableFinder(lambda schema, table: name in {table, f"{schema}.{table}"})

    def like(self, pattern: str) -> Finder:
        from refnet.sources.database.database_contents import TableFinder

        return TableFinder(TableGlob(pattern).matches)

    def differences(self, context: Context, before: OpenArtifact, after: OpenArtifact) -> ArtifactDifference:
        from refnet.sources.database import database_contents

        return database_contents.differences(before, after, self.settings.jobs, context.progress)

    def live_differences(self, context: Context, before: OpenArtifact) -> ArtifactDifference:
        from refnet.sources.database import database_contents

        return database_contents.from_live(context, before)

    def previous(self) -> tuple[Listing, ...]:
        return self._previous_databases, partial(previous_tables, self.settings, self.name)

    def _previous_databases(self) -> list[PreviousVersion]:
        """The previous databases; RefNet's own server is never started for this."""
        from refnet.sources.database.restore import previous_databases

        records = wiring.previous_databases(self.settings, self.name)
        if not self.own.url and embedded.status(self.settings.home).pid is None:
            found = previous_databases.recorded(records.read().records)
        else:
            target = servers.restoring(self.settings, self.name)
            found = previous_databases.versions(target, records.read().records, records.forget)
        return [replace(one, source=self.name) for one in found]

    def check_request(self, request: RestoreRequest) -> None:
        from refnet.sources.database.database_restore import check

        check(request)

    def restoring(self, context: Context, chosen: OpenArtifact, request: RestoreRequest) -> RestoreWork:
        from refnet.sources.database.database_restore import WholeRestore, restore_of
        from refnet.sources.database.plan.table_plan import TableSelection
        from refnet.sources.database.tables_restore import TablesRestore

        restore = restore_of(context, self.name, chosen, request)
        if not request.tables and not request.schemas:
            return WholeRestore(restore, request)
        return TablesRestore(restore, TableSelection(request.tables, request.mode, request.schemas), request)

    def undoing(self, context: Context, request: RestoreRequest) -> RestoreWork:
        from refnet.sources.database.tables_restore import undo_of_tables
        from refnet.sources.database.undo_database import DatabaseUndo

        is_last = not request.to and not request.previous
        of_tables = undo_of_tables(context, self.name, request) if is_last else None
        return of_tables or DatabaseUndo(context, self.name, request)

    def replaced(self) -> str:
        return (
            f"the database {servers.restoring(self.settings, self.name).display}"
            if self._holds_tables()
            else ""
        )

    def stands(self, entry: Entry) -> bool:
        found = self._holds_tables()
        return bool(found) or (found is False and not entry.manifest.details.get("tables"))

    def _holds_tables(self) -> bool | None:
        """Whether the database that a recovery restores has a table; None: it is not there."""
        if not local_postgres.is_made(self.settings, self.name):
            return None

        from refnet.sources.database.restore.server_facts import holds_tables

        try:
            return holds_tables(servers.restoring(self.settings, self.name))
        except ConnectError as error:
            if error.no_such_database:
                return None
            raise

    def problems(self, context: Context, chosen: OpenArtifact, permits: Permits) -> Sequence[RefnetError]:
        if not self.own.url:
            return ()
        from refnet.sources.database.database_restore import recovery_of

        recovery = recovery_of(context, self.name, chosen, permits)
        return recovery.full_plan(count=False, damaged_anyway=False).problems

    def recover(self, context: Context, chosen: OpenArtifact, permits: Permits) -> list[str]:
        from refnet.sources.database.database_restore import recover

        return recover(context, self.name, chosen, permits)

    def resumed(self, context: Context, chosen: OpenArtifact, permits: Permits, token: str) -> bool:
        from refnet.sources.database.database_restore import recovery_of

        return recovery_of(context, self.name, chosen, permits).resumed(token)

    def compare(self, context: Context, chosen: OpenArtifact, permits: Permits) -> tuple[Finding, ...]:  # noqa: ARG002
        from refnet.sources.database.database_contents import compare_live

        return compare_live(context, chosen)

    def recorded(self) -> tuple[datetime, ...]:
        return tuple(one.mark.at for one in self._recorded() if one.mark.why is not MarkState.COPY)

    def half_made(self) -> list[HalfMade]:
        copies = (one for one in self._recorded() if one.mark.why is MarkState.COPY)
        return [HalfMade(self.name, one.name, one.mark.at) for one in copies]

    def _recorded(self) -> list[PreviousRecord]:
        """Return the records of this database.

        If two sources have databases of the same name, the newest artifacts tell their servers apart.
        """
        own = servers.database_name(self.settings, self.name)
        found = wiring.previous_databases(self.settings, self.name).read().records
        records = [one for one in found if one.mark.of == own]
        others = (
            one for one in wiring.known(self.settings) if one.kind is self.name.kind and one != self.name
        )
        newest = None
        if records and any(servers.database_name(self.settings, one) == own for one in others):
            newest = Catalog.of(wiring.catalog(self.settings).entries(self.name)).newest_complete(self.name)
        system = newest.identity.system if newest and newest.identity else None
        return [one for one in records if not system or one.system in {None, system}]
