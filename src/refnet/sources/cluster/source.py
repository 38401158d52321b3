"""The base backups of a cluster of the settings, with its WAL.

What only one verb needs is imported where that is called: a backup loads neither the proof nor the restore.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from refnet import local_postgres, servers, wiring
from refnet.catalog import cluster_base
from refnet.catalog.artifact import Finding, Maker, OpenArtifact, Progress
from refnet.catalog.catalog import Catalog
from refnet.catalog.cluster_base import BaseFacts, needed_wal
from refnet.catalog.identity import Whose
from refnet.catalog.manifest import Entry
from refnet.catalog.retention import Outlived
from refnet.catalog.store import AnyStore, Leftover
from refnet.catalog.wal import ServerFacts, segment_of
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target
from refnet.sources.base import Permits
from refnet.sources.check_result import CheckLine, warning
from refnet.sources.cluster import live_folder, wal_server
from refnet.sources.cluster.base_artifact import BaseArtifact
from refnet.sources.cluster.base_wal import KeepWal, Overlap, fetched, kept, outlived_wal
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.database.source import OnServer
from refnet.sources.restoring import RestoreRequest, RestoreWork
from refnet.store.local import LocalStore

if TYPE_CHECKING:
    from refnet.sources.cluster.base_proof import BaseProofOptions
    from refnet.store.remote import RemoteStore


#: Segments of WAL that a backup fetches again at most, where no receiver runs.
_NEAR = 16


class ClusterBases(OnServer):
    """The files of a whole server: base backups and WAL."""

    noun: ClassVar[str] = "cluster"
    called: ClassVar[str] = "the files of a cluster"
    options: ClassVar[str] = "clusters"
    more_options: ClassVar[tuple[str, ...]] = ("full",)
    compared_by: ClassVar[str] = "Compare its databases: `refnet diff` with the source of one."

    def what(self) -> str:
        return f"the server at {Target.from_url(self.own.url).address}" if self.own.url else ""

    def checks(self) -> Iterator[CheckLine]:
        from refnet.sources.cluster.wal_check import wal_checks

        yield from wal_checks(self.settings, self.own.cluster)
        there = Catalog.of(wiring.catalog(self.settings).entries(self.name))
        newest = there.newest_complete(self.name)
        if newest and not self.is_of_live(newest):
            says = (
                f"{newest.name} is of another server than the one that answers, which has no base backup yet"
            )
            yield warning("wal", says, f"Make one: `refnet backup {self.name}`.")

    def whose(self) -> Whose | None:
        return wiring.identities(self.settings).or_handed_over(self.name).whose

    def maker(
        self,
        *,
        jobs: int | None = None,
        tables: tuple[str, ...] = (),  # noqa: ARG002  # it has all of them
        into: LocalStore | None = None,
        full: bool = False,
    ) -> Maker:
        from refnet.sources.cluster.base_maker import BaseMaker

        settings, store = self.settings, wiring.catalog(self.settings)
        return BaseMaker(
            name=self.name,
            target=partial(servers.existing_server, settings, self.name),
            binaries=partial(local_postgres.binaries_for, settings),
            jobs=jobs or settings.jobs,
            entries=partial(store.entries, self.name),
            opened=store.artifact,
            wal=self._wal,
            base=settings.home / "scratch",
            manifests=settings.home / "bases",
            full=full or bool(into and into.flat),
        )

    def is_of_live(self, entry: Entry) -> bool:
        facts = BaseFacts.read(entry.manifest.details)
        try:
            who = wal_server.identify(servers.existing_server(self.settings, self.name))
        except ConnectError:  # the backup says why
            return True
        return facts is None or facts.system_identifier == who.system_identifier

    def _wal(self, facts: ServerFacts) -> AbstractContextManager[KeepWal]:
        """Bring the WAL of the server into its archive while a base is made."""
        settings = self.settings
        archive = WalArchive.of(settings, facts.system_identifier)

        def program() -> Path:
            return local_postgres.binaries_for(settings, facts.major).tool("pg_receivewal")

        target = servers.existing_server(settings, self.name)
        overlap = self._overlap(archive, target)
        fetching = partial(fetched, program, target, settings.home / "scratch", overlap=overlap)
        return kept(archive, facts, archive.is_received, fetching)

    def _overlap(self, archive: WalArchive, target: Target) -> Overlap | None:
        """The newest segment of the archive, if the server is not far ahead of it.

        RefnetError (DAMAGED) for a copy of the server, or one that was set back: its base would need other WAL.
        """
        # In this order: a receiver may run.
        have = live_folder.newest(archive) if archive.exists() else None
        if have is None:
            return None
        cluster, size = self.own.cluster or "", archive.segment_size
        with wal_server.session(target) as session:
            now = wal_server.position(session, wal_server.slot_of(cluster), target)
        who = wal_server.identify(target)
        live_folder.checked(have, who, now.lsn, cluster, target)
        if have.timeline != who.timeline or now.lsn - have.begins > _NEAR * size:
            return None
        start = (have.received - 1) // size * size
        kept_from = now.received if now.status in {"reserved", "extended"} else None
        return Overlap(segment_of(start, have.timeline, size), start + size, kept_from)

    def proof_options(
        self, progress: Progress, *, trust: bool = False, stores: Sequence[AnyStore] = ()
    ) -> BaseProofOptions:
        from refnet.sources.cluster.base_proof import BaseProofOptions, Shelf
        from refnet.sources.cluster.stream_status import streamed

        own = vars(super().proof_options(progress, trust=trust))
        databases = [one for one in self.settings.sources if streamed(self.settings, one) == self.name]
        archive = partial(WalArchive.of, self.settings)
        return BaseProofOptions(
            **own, archive=archive, shelf=Shelf(stores), bases=self.name, databases=databases
        )

    def outlived(self, kept: Sequence[Entry], since: datetime) -> Iterator[Outlived]:
        for needed in needed_wal(kept, since):
            archive = WalArchive.of(self.settings, needed.system_identifier)
            if archive.exists() and (found := outlived_wal(self.name, archive, needed)):
                yield found

    def outlived_in(self, store: RemoteStore, kept: Sequence[Entry], since: datetime) -> Iterator[Leftover]:
        from refnet.sources.cluster import wal_offsite

        # A base backup of this machine may still be copied: the WAL that makes it consistent stays.
        here = wiring.catalog(self.settings).entries(self.name)
        older = tuple((facts, one.made) for one in here if (facts := cluster_base.facts_of(one)))
        for needed in needed_wal(kept, since):
            own = (one for one in older if one[0].system_identifier == needed.system_identifier)
            found = replace(needed, older=(*needed.older, *own))
            for one, why in wal_offsite.outlived_in(store, found, since):
                yield Leftover(self.name, one.name, one.size, why)

    @staticmethod
    def opened(stored: OpenArtifact) -> BaseArtifact:
        return BaseArtifact(stored)

    def check_request(self, request: RestoreRequest) -> None:
        from refnet.sources.cluster.cluster_restore import check_request

        check_request(request)

    def restoring(self, context: Context, chosen: OpenArtifact, request: RestoreRequest) -> RestoreWork:  # noqa: ARG002
        from refnet.sources.cluster.cluster_restore import ClusterRestore

        return ClusterRestore(self.name, chosen, request)

    def undoing(self, context: Context, request: RestoreRequest) -> RestoreWork:  # noqa: ARG002
        raise RefnetError(
            "a restore of a cluster replaces nothing, so there is nothing to undo",
            "Stop the server of the restored folder, and delete the folder.",
            Exit.USAGE,
        )

    def recover(self, context: Context, chosen: OpenArtifact, permits: Permits) -> list[str]:  # noqa: ARG002
        again = f"`refnet restore {self.name} --latest --into DIR` makes its whole server, in a new folder"
        return [f"{chosen.name} stays in the backup folder: {again}"]

    def compare(self, context: Context, chosen: OpenArtifact, permits: Permits) -> tuple[Finding, ...]:  # noqa: ARG002
        return ()

    def chain(self, entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        return cluster_base.whole_chain(entry, entries)

    def beside(self, context: Context, *, share: bool = False) -> Iterator[Finding]:
        from refnet.sources.cluster.wal_reading import WalReading

        now, bases = context.clock.now(), context.catalog.entries(self.name)
        since = now - timedelta(days=wiring.retention(self.settings, self.name).days)
        stores = [one.name for one in self.settings.stores_of(self.name)]
        for needed in needed_wal(bases, since):
            archive = WalArchive.of(self.settings, needed.system_identifier)
            reading = WalReading(archive, needed, bases, now, stores, context.progress)
            if archive.exists() and (found := reading.read(share=share)).reason:
                yield found

    def lag_in(self, context: Context, store: str) -> Iterator[str]:
        from refnet.sources.cluster.stream_status import read_status

        entries = wiring.catalog(self.settings).entries()
        found = read_status(self.settings, self.own.cluster or "", entries, context.clock.now())
        yield from found.lag_in(store)

    def send_more(self, context: Context, store: str) -> None:
        from refnet.sources.cluster import wal_offsite

        wal_offsite.send(self.settings, self.own.cluster, store, context.clock.now)

    def fetched(self, context: Context, store: RemoteStore, entry: Entry) -> Iterator[str]:
        from refnet.sources.cluster import wal_offsite

        if (facts := cluster_base.facts_of(entry)) is None:
            return
        brought = wal_offsite.bring(self.settings, store, facts, context.progress)
        for sentence in brought.problems:
            context.note(sentence)
        yield wal_offsite.sentence(brought)

    def without(self, chosen: OpenArtifact, what: str, advice: str) -> RefnetError:  # noqa: ARG002
        return super().without(chosen, what, "It has the files of a whole server.")

    @property
    def unlisted(self) -> RefnetError:
        return RefnetError(
            f"{self.name} has neither tables nor files of its own",
            f"`refnet restore {self.name} --into DIR` makes a data folder that starts.",
            Exit.USAGE,
        )
