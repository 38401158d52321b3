"""The databases of a recovery as of the last commit that arrived here, from base backups and WAL.

Each server is recovered once, into a scratch server. What is made there of a database is an artifact in the backup folder:
the restore, the comparison at the end and the next run of an interrupted recovery use it like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime

from refnet.actions.any_second import maker_as_of
from refnet.actions.backup import Options, make
from refnet.actions.cluster_databases import taken_by
from refnet.catalog.cluster_base import facts_of
from refnet.catalog.manifest import Entry
from refnet.catalog.recovery_target import AfterTheEndError, shown
from refnet.catalog.source_name import Kind, SourceName, member_name
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.formatting import local
from refnet.core.glob import Glob
from refnet.recovery.plan import RecoveryPlan
from refnet.servers import database_name
from refnet.settings import Settings
from refnet.settings.sources import server_of
from refnet.sources import source_of
from refnet.sources.cluster.recovery_facts import Recovery, decided
from refnet.sources.cluster.scratch_recovery import Recovered, recovered
from refnet.sources.cluster.stream_status import streamed
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.database.restore.previous_databases import databases_on
from refnet.sources.restore_options import AsOf
from refnet.wiring import member, url_of


def base_of(settings: Settings, source: SourceName, entries: Mapping[SourceName, Entry]) -> Entry | None:
    """The base backup in the set `entries` of the server of the database `source`; None: there is none."""
    if source.kind is not Kind.DATABASE or not any(one.kind is Kind.CLUSTER for one in entries):
        return None
    bases = streamed(settings, source)
    return entries.get(bases) if bases else None


def _reaches(context: Context, base: Entry, moment: datetime | None) -> datetime | None:
    """Until when the WAL of the server of `base` goes on here, at most until `moment`, or now; None: unknown.

    The archive is not signed: what it says of the future dates no artifact there.
    """
    facts = facts_of(base)
    archive = WalArchive.of(context.settings, facts.system_identifier) if facts else None
    until = archive.covered_until() if archive and archive.exists() else None
    return min(until, moment or until, context.clock.now()) if until else None


def said(context: Context, plan: RecoveryPlan) -> Iterator[str]:
    """Yield until when WAL brings each database that `plan` restores, or why it does not."""
    for source in plan.replacing:
        entry, base = plan.entries[source], base_of(context.settings, source, plan.entries)
        until = base and _reaches(context, base, plan.moment)
        if base is None or (until and until <= entry.created):
            continue
        try:
            _decided(context, base, plan.moment)
        except RefnetError as error:
            yield f"{source} is restored from {entry.name} alone, because WAL cannot be used: {error.message}"
        else:
            end = f" up to {local(until)}" if until else ""
            yield f"{source} is restored from {base.name} and WAL, with every commit{end}"


def _decided(context: Context, base: Entry, moment: datetime | None) -> Recovery:
    """The recovery of the server of `base` to the end of its WAL here, at most to `moment`; RefnetError if impossible."""
    latest = AsOf(latest=True)
    try:
        return decided(context, base.source, AsOf(moment.isoformat()) if moment else latest, base)
    except AfterTheEndError:
        return decided(context, base.source, latest, base)


@dataclass(frozen=True)
class _Server:
    """A server in a scratch server, with every commit up to a moment."""

    found: Recovered
    until: datetime


@dataclass
class LatestDatabases:
    """Recovers servers up to the last commit that arrived here; the scratch servers run until `close`."""

    #: Not further than that.
    moment: datetime | None = None
    #: It continues an interrupted recovery, which may have made an artifact and not recorded it.
    resumed: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)
    #: By the name of its base backup: the server, or why it cannot be recovered.
    _servers: dict[str, _Server | RefnetError] = field(default_factory=dict)

    def close(self) -> None:
        """End the scratch servers."""
        self._servers.clear()
        self._stack.close()

    def newer(self, context: Context, source: SourceName, entry: Entry, base: Entry) -> Entry | None:
        """An artifact of the database `source` that is newer than `entry`; None: no WAL goes beyond that.

        RefnetError if it cannot be made.
        """
        until = _reaches(context, base, self.moment)
        if until is not None and until <= entry.created:
            return None
        server = self._server(context, base)
        return self.artifact(context, source, base) if server.until > entry.created else None

    def artifact(self, context: Context, source: SourceName, base: Entry) -> Entry:
        """Make the artifact of the database `source`, which the settings name; RefnetError if that fails."""
        server, name = self._server(context, base), database_name(context.settings, source)
        if name not in databases_on(server.found.cluster.target()):
            raise RefnetError(
                f"the database {name} did not exist any more at {shown(server.until)}",
                "If it was dropped on purpose, drop what was restored.",
            )
        if self.resumed and (made := self._made(context, source, server.until)):
            return made
        maker = maker_as_of(context.settings, source, server.found, server.until)
        done = make(context, maker, context.local, Options(prove=False))
        return next(one for one in context.local.entries(source) if one.name == done.manifest.name)

    @staticmethod
    def _made(context: Context, source: SourceName, until: datetime) -> Entry | None:
        """The artifact that an interrupted run made of `source` as of `until`, or None."""
        there = context.local.entries(source)
        return next((one for one in there if one.created == until and one.complete and not one.damaged), None)

    def new(
        self, context: Context, base: Entry, known: Collection[SourceName]
    ) -> Iterator[tuple[SourceName, Context]]:
        """Yield the databases of the server of `base` that no source names, also none of `known`, and no setting excludes.

        Each with `context` and the settings that name it.
        """
        settings = context.settings
        cluster = settings.clusters[settings.of(base.source).cluster or ""]
        excluded = [Glob(pattern) for pattern in cluster.exclude_databases]
        taken = taken_by(settings.sources.values())
        for name in databases_on(self._server(context, base).found.cluster.target()):
            source = SourceName(member_name(cluster.name, name), Kind.DATABASE)
            is_named = source in known or server_of(url_of(cluster.url or "", name)) in taken
            if not is_named and not any(pattern.matches(name) for pattern in excluded):
                sources = {**settings.sources, source: member(cluster, source, name)}
                yield source, replace(context, settings=replace(settings, sources=sources))

    def _server(self, context: Context, base: Entry) -> _Server:
        if base.name not in self._servers:
            try:
                self._servers[base.name] = self._recovered(context, base)
            except RefnetError as error:
                self._servers[base.name] = error
        found = self._servers[base.name]
        if isinstance(found, RefnetError):
            raise found
        return found

    def _recovered(self, context: Context, base: Entry) -> _Server:
        recovery = _decided(context, base, self.moment)
        options = source_of(context.settings, base.source).proof_options(context.progress)
        found = self._stack.enter_context(recovered(recovery, options))
        ends = (_reaches(context, base, self.moment), found.reached.commit)
        until = max((one for one in ends if one), default=base.created)
        return _Server(found, min(until, context.clock.now()))
