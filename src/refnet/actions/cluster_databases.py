"""Find the databases of each cluster: those that its server has now, new ones too."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from refnet import wiring
from refnet.actions.context import Context
from refnet.cluster_sources import url_of, with_clusters
from refnet.errors import Exit, RefnetError
from refnet.postgres.session import Target
from refnet.recovery.model.cluster import MOST, Seen, member_name
from refnet.recovery.model.glob import Glob
from refnet.recovery.stores.cluster_record import ClusterRecord
from refnet.settings import Settings, SourceSettings
from refnet.settings.sources import server_of

#: Without the templates, and what RefNet itself made beside a live database.
_DATABASES = "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"


def find_databases(
    context: Context, names: Collection[str] = (), *, record: bool = True
) -> tuple[Context, dict[str, RefnetError]]:
    """Ask the server of each cluster for its databases; return the context that names them.

    Args:
        names: these clusters; none: all.
        record: remember them, so that other commands know them without asking.

    Returns:
        The context, and the error of each cluster whose server could not be asked: it keeps the databases that were
        seen last.
    """
    seen: dict[str, Seen] = {}
    failed: dict[str, RefnetError] = {}
    for name, cluster in context.settings.clusters.items():
        if names and name not in names:
            continue
        try:
            seen[name] = _databases(context.settings, cluster)
        except RefnetError as error:
            failed[name] = error
            continue
        if record:
            _remember(context, name, seen[name])
    return replace(context, settings=with_clusters(context.settings, seen)), failed


def _databases(settings: Settings, cluster: SourceSettings) -> Seen:
    """Return the databases of `cluster` that are backed up as its own; RefnetError if its server cannot be asked."""
    url = cluster.url or ""
    with Target.from_url(url).connect(encoding="UTF8") as session:
        found = [name for (name,) in session.execute(_DATABASES).fetchall()]
    own = {one.name for one in wiring.previous(settings).read().records}
    excluded = [Glob(pattern) for pattern in cluster.exclude_databases]
    others = [one for one in settings.sources.values() if not one.cluster]
    taken = {server_of(one) for one in (settings.database_url, *(other.url for other in others)) if one}
    kept = [
        name
        for name in found
        if name not in own
        and not any(pattern.matches(name) for pattern in excluded)
        and server_of(url_of(url, name)) not in taken
    ]
    if len(kept) > MOST:
        raise RefnetError(
            f"the cluster {cluster.name} has {len(kept):,} databases, more than {MOST:,}",
            f"Leave some out: clusters.{cluster.name}.exclude.",
        )
    named = {other.name for other in others}
    if both := next((one for one in kept if member_name(cluster.name, one) in named), None):
        raise RefnetError(
            f"the database {both} of the cluster {cluster.name} and another source have one name",
            f"Rename the source {member_name(cluster.name, both)} in the settings file.",
            Exit.USAGE,
        )
    return Seen(tuple(kept))


def _remember(context: Context, cluster: str, seen: Seen) -> None:
    record = ClusterRecord.at(context.settings.home, cluster)
    for name in record.read().databases:
        if name not in seen.databases:
            context.note(f"the database {name} of the cluster {cluster} is gone; its backups are kept")
    record.write(seen)
