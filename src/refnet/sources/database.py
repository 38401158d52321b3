"""What is on a PostgreSQL server of the settings, and a database of it. The driver is imported where a server is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import ClassVar

from refnet import servers, wiring
from refnet.postgres import embedded
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.previous import HalfMade, MarkState, PreviousRecord
from refnet.recovery.model.retention import Listing, PreviousVersion
from refnet.recovery.model.source import Maker
from refnet.recovery.stores.local import LocalStore
from refnet.recovery.stores.previous_records import PreviousVersions
from refnet.sources.base import Source
from refnet.sources.replaced_tables import previous_tables


class OnServer(Source):
    """A source on a PostgreSQL server: that of its URL, else RefNet's own."""

    noun: ClassVar[str] = "database"

    def what(self) -> str:
        if url := self.own.url:
            from refnet.postgres.session import Target

            return Target.from_url(url).display
        return f"{embedded.DATABASE} on RefNet's own server ({self.settings.home / 'postgres'})"

    def reached(self) -> str:
        # RefNet's own server, once created, is started by a backup, and not by a question.
        if self.own.url or embedded.status(self.settings.home).major is None:
            from refnet.postgres.session import server_version

            with servers.existing_server(self.settings, self.name).connect() as session:
                servers.binaries_for(self.settings, server_version(session))
        return self.what()


class Database(OnServer):
    """One database of a server."""

    def whose(self) -> Identity | None:
        return servers.identity(self.settings, self.name)

    def maker(
        self,
        *,
        jobs: int | None = None,
        tables: tuple[str, ...] = (),
        into: LocalStore | None = None,  # noqa: ARG002  # it shares nothing
    ) -> Maker:
        from refnet.recovery.sources.database.database_maker import DatabaseMaker

        target = partial(servers.existing_server, self.settings, self.name)
        binaries = partial(servers.binaries_for, self.settings)
        return DatabaseMaker(self.name, target, binaries, jobs or self.settings.jobs, tables)

    @property
    def records(self) -> PreviousVersions:
        """The records of what restores of databases replaced."""
        return PreviousVersions(self.settings.home / "previous", self.name)

    def previous(self) -> tuple[Listing, ...]:
        return self._previous_databases, partial(previous_tables, self.settings, self.name)

    def _previous_databases(self) -> list[PreviousVersion]:
        """List the previous databases. RefNet's own server is asked if it runs, and never started for this."""
        if not self.own.url and embedded.status(self.settings.home).pid is None:
            return []
        from refnet.recovery.sources.database.restore.previous_databases import previous_databases

        records = self.records
        target = servers.restoring(self.settings, self.name)
        found = previous_databases(target, records.read().records, records.forget)
        return [replace(one, source=self.name) for one in found]

    def recorded(self) -> tuple[datetime, ...]:
        return tuple(one.mark.at for one in self._recorded() if one.mark.why is not MarkState.COPY)

    def half_made(self) -> list[HalfMade]:
        copies = (one for one in self._recorded() if one.mark.why is MarkState.COPY)
        return [HalfMade(self.name, one.name, one.mark.at) for one in copies]

    def _recorded(self) -> list[PreviousRecord]:
        """Return the records of this database.

        Where two sources have a database of one name, the newest artifact of each tells their servers apart.
        """
        own = servers.database_name(self.settings, self.name)
        records = [one for one in self.records.read().records if one.mark.of == own]
        others = (
            one for one in wiring.known(self.settings) if one.kind is self.name.kind and one != self.name
        )
        newest = None
        if records and any(servers.database_name(self.settings, one) == own for one in others):
            newest = Catalog.of(wiring.catalog(self.settings).entries(self.name)).newest_complete(self.name)
        system = newest.identity.system if newest and newest.identity else None
        return [one for one in records if not system or one.system in {None, system}]
