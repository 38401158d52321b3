"""Finds the current databases of each cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from refnet.catalog.source_name import SourceName, member_name
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.core.glob import Glob
from refnet.settings import Settings, SourceSettings
from refnet.settings.sources import server_of
from refnet.sources import kind_of
from refnet.store.previous_records import PreviousVersions
from refnet.store.source_records import MOST_DATABASES, ClusterRecord, SeenDatabases
from refnet.wiring import member, url_of, with_clusters


def find_databases(
    context: Context, names: Collection[str] = (), *, record: bool = True
) -> tuple[Context, dict[str, RefnetError]]:
    """Ask the server of each cluster for its databases; return the context that names them.

    Args:
        names: clusters; empty: all.
        record: remember the databases, so that other commands need not ask.

    Returns:
        The context, and errors by cluster: no connection (the databases seen last are used), a database that cannot
        be backed up, or no database.
    """
    seen: dict[str, SeenDatabases] = {}
    failed: dict[str, RefnetError] = {}
    for name, cluster in context.settings.clusters.items():
        if names and name not in names:
            continue
        try:
            seen[name], unnamed = _databases(context.settings, cluster)
        except RefnetError as error:
            failed[name] = error
            continue
        if unnamed:
            failed[name] = unnamed
        if record:
            _remember(context, name, seen[name])
    return replace(context, settings=with_clusters(context.settings, seen)), failed


def _databases(settings: Settings, cluster: SourceSettings) -> tuple[SeenDatabases, RefnetError | None]:
    """Databases to back up for `cluster`, and the error about one that cannot be.

    RefnetError without a connection.
    """
    before = ClusterRecord.at(settings.home, cluster.name).read()
    found = kind_of(SourceName.DATABASE).of_cluster(cluster, {*before.databases, *before.gone})
    url = cluster.url or ""
    own = {one.name for one in PreviousVersions(settings.home / "previous", cluster.name).read().records}
    excluded = [Glob(pattern) for pattern in cluster.exclude_databases]
    gone = _gone(before, found, excluded)
    others = [one for one in settings.sources.values() if not one.cluster]
    taken = taken_by(settings.sources.values())
    there = [name for name in found if name not in own]
    kept = [name for name in there if not any(pattern.matches(name) for pattern in excluded)]
    if there and not kept:
        return SeenDatabases(gone=gone), _everything_excluded(cluster.name, len(there))
    unnamed = [name for name in kept if not _is_utf8(name)]
    kept = [name for name in kept if name not in unnamed and server_of(url_of(url, name)) not in taken]
    if len(kept) > MOST_DATABASES:
        raise RefnetError(
            f"the cluster {cluster.name} has {len(kept):,} databases, more than {MOST_DATABASES:,}",
            f"Leave some out with clusters.{cluster.name}.exclude.",
        )
    _check_different(cluster.name, kept)
    named = {other.name for other in others}
    if both := next((one for one in kept if member_name(cluster.name, one) in named), None):
        raise RefnetError(
            f"the source name {member_name(cluster.name, both)} is used twice: in the settings, and for the database {both} of"
            f" the cluster {cluster.name}",
            "Rename the source in the settings file.",
            Exit.USAGE,
        )
    return SeenDatabases(tuple(kept), gone), _not_utf8(cluster.name, unnamed[0]) if unnamed else None


def taken_by(others: Iterable[SourceSettings]) -> frozenset[tuple[str, str]]:
    """The databases that sources of their own name, each with its server as `server_of` returns it: of no cluster."""
    return frozenset(server_of(one.url) for one in others if one.url and not one.cluster)


def _gone(before: SeenDatabases, found: Collection[str], excluded: Collection[Glob]) -> tuple[str, ...]:
    """Databases that disappeared from the server, without those excluded now."""
    from refnet.sources.database.plan.restore_facts import OWN_NAME

    missing = (one for one in dict.fromkeys((*before.gone, *before.databases)) if one not in found)
    return tuple(
        one
        for one in missing
        if not OWN_NAME.fullmatch(one) and not any(pattern.matches(one) for pattern in excluded)
    )[-MOST_DATABASES:]


def with_member(context: Context, source: SourceName) -> Context:
    """`context` with the database `source` of a cluster, even if its server lost it or this home never saw it.

    The database is taken from its artifacts, else from its name. Without such a cluster, nothing changes.
    """
    settings = context.settings
    if not source.kind.row.by_name or source == SourceName.DATABASE or source in settings.sources:
        return context
    for name, cluster in settings.clusters.items():
        said = {one.identity.database: None for one in context.store.entries(source) if one.identity}
        for database in (*said, source.removeprefix(f"{name}-")):
            if member_name(name, database) == source:
                sources = {**settings.sources, source: member(cluster, source, database)}
                return replace(context, settings=replace(settings, sources=sources))
    return context


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_utf8(cluster: str, name: str) -> RefnetError:
    return RefnetError(
        f"the database {plain(name)} of the cluster {cluster} is not backed up: its name is not UTF-8",
        f"Rename it (ALTER DATABASE … RENAME TO …), or leave it out: clusters.{cluster}.exclude.",
    )


def _everything_excluded(cluster: str, count: int) -> RefnetError:
    return RefnetError(
        f"the cluster {cluster} has no database to back up: its exclude leaves out all {count:,} of its server",
        f"Change clusters.{cluster}.exclude.",
        Exit.USAGE,
    )


def _check_different(cluster: str, names: Collection[str]) -> None:
    """RefnetError if two databases have the name of one source: a digest is short enough to be forged."""
    first: dict[str, str] = {}
    for name in names:
        source = member_name(cluster, name)
        if source in first:
            raise RefnetError(
                f"the databases {plain(first[source])} and {plain(name)} of the cluster {cluster} have the same source"
                f" name, {source}",
                "Rename one of them; until then, the databases of the last successful listing are backed up.",
            )
        first[source] = name


def _remember(context: Context, cluster: str, seen: SeenDatabases) -> None:
    record = ClusterRecord.at(context.settings.home, cluster)
    known = record.read()
    for name in seen.gone:
        if name not in known.gone:
            context.note(
                f"the database {name} of the cluster {cluster} is gone; its backups are kept:"
                f" `refnet accept {member_name(cluster, name)}` if that is intended"
            )
    record.write(seen)
