"""The databases and the roles of each cluster as sources, by the record of what its server had last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from refnet.catalog.source_name import ROLES, globals_name
from refnet.settings import Settings, SourceSettings
from refnet.store.source_records import ClusterRecord, SeenDatabases


def with_clusters(settings: Settings, seen: Mapping[str, SeenDatabases] | None = None) -> Settings:
    """Return `settings` with the databases and the roles of each cluster as sources.

    seen: the databases of clusters that were asked now; of the others the record has them.
    """
    if not settings.clusters:
        return settings
    sources = {name: one for name, one in settings.sources.items() if not one.cluster}
    for name, cluster in settings.clusters.items():
        there = (seen or {}).get(name) or ClusterRecord.at(settings.home, name).read()
        sources |= _members(cluster, there)
    return replace(settings, sources=sources)


def _members(cluster: SourceSettings, seen: SeenDatabases) -> dict[str, SourceSettings]:
    one = replace(cluster, cluster=cluster.name)
    found = {
        name: member(cluster, name, database, gone=database in seen.gone)
        for name, database in seen.members(cluster.name).items()
    }
    roles = globals_name(cluster.name)
    return {roles: replace(one, name=roles, table=ROLES), **found}


def member(cluster: SourceSettings, name: str, database: str, *, gone: bool = False) -> SourceSettings:
    """Return the source `name` for a database of `cluster`."""
    return replace(
        cluster,
        cluster=cluster.name,
        name=str(name),
        table="databases",
        url=url_of(cluster.url or "", database),
        restore_url=url_of(cluster.restore_url, database) if cluster.restore_url else None,
        gone=gone,
    )


def url_of(url: str, database: str) -> str:
    """Return the URL of another database on the server of `url`. libpq takes the last dbname."""
    end = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{end}dbname={quote(database, safe='')}"
