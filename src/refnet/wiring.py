"""Settings made into live objects: stores, records, and the sources that they name, those of clusters too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from refnet.catalog.monitoring import Gone, Limits
from refnet.catalog.next_artifact import Shrinking
from refnet.catalog.object_names import MANIFESTS, is_key_id
from refnet.catalog.run import History
from refnet.catalog.schedule import Retention, TaskName
from refnet.catalog.source_name import (
    BASES,
    GLOBALS,
    LOCAL,
    ROLES,
    STANDARD,
    Kind,
    SourceName,
    bases_name,
    globals_name,
    likely_kind,
)
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import some
from refnet.settings import Settings, SourceSettings, variable
from refnet.settings.sources import SHORT
from refnet.settings.stores import ENCRYPTED
from refnet.store.backup_folder import Remembered
from refnet.store.local import LocalStore
from refnet.store.previous_records import PreviousVersions
from refnet.store.run_journal import RunJournal
from refnet.store.source_records import ClusterRecord, Identities, Lineage, SeenDatabases

if TYPE_CHECKING:
    from refnet.store.keys import GivenKeys
    from refnet.store.remote import RemoteStore
    from refnet.store.sealed import SealedStore


#: The folder in REFNET_HOME with what is not encrypted yet.
UNSEALED = "unsealed"


def store(settings: Settings) -> LocalStore:
    """Return the backup folder as a store of artifacts that are not encrypted."""
    return LocalStore(settings.backup_dir, remembered=Remembered(settings.home / "stores"))


def workplace(settings: Settings) -> LocalStore:
    """Return the store in which artifacts are made: the backup folder; with encryption.local a folder in REFNET_HOME."""
    return LocalStore(settings.home / UNSEALED) if settings.encryption_local else store(settings)


def sealed(settings: Settings, given: GivenKeys | None = None, *, any_signer: bool = False) -> SealedStore:
    """Return the store with the encrypted artifacts in the backup folder; it needs encryption.local."""
    from refnet.store.sealed import SealedStore

    found = SealedStore.of_settings(settings, LOCAL, given, any_signer=any_signer)
    found.folder, found.workplace = store(settings), workplace(settings)
    return found


def hidden(settings: Settings) -> Path | None:
    """Return the folder with encrypted artifacts in a backup folder that the settings do not call encrypted; None: there is none."""
    folder = settings.backup_dir / ENCRYPTED
    if settings.encryption_local or not folder.is_dir():
        return None
    there = any(one.name == MANIFESTS.rstrip("/") or is_key_id(one.name) for one in folder.iterdir())
    return folder if there else None


def catalog(settings: Settings) -> LocalStore | SealedStore:
    """Return the store with the artifacts of this machine: the backup folder, or what is encrypted in it."""
    return sealed(settings) if settings.encryption_local else store(settings)


def plaintext(settings: Settings) -> tuple[LocalStore, ...]:
    """Return the places that have artifacts which are not encrypted yet, with encryption.local."""
    return (workplace(settings), store(settings)) if settings.encryption_local else ()


def remote_store(
    settings: Settings, name_or_url: str, given: GivenKeys | None = None, *, any_signer: bool = False
) -> RemoteStore:
    """Return the remote store of a name or at a URL, or what is encrypted in the backup folder; see `RemoteStore.of_settings`."""
    if settings.store(name_or_url).name == LOCAL:
        return sealed(settings, given, any_signer=any_signer)
    from refnet.store.remote import RemoteStore

    return RemoteStore.of_settings(settings, name_or_url, given, any_signer=any_signer)


def with_cache(settings: Settings, store: RemoteStore) -> RemoteStore:
    """Let `store` keep pieces for the next command, and use those of earlier ones: not to check a copy, which reads the store."""
    from refnet.store.piece_cache import PieceCache

    if store.name != LOCAL:  # that is on a disk of this machine
        store.cache = PieceCache(settings.home / "cache", settings.cache_size)
    return store


def journal(settings: Settings) -> RunJournal:
    """Return the journal of the runs in this REFNET_HOME."""
    return RunJournal(settings.home / "runs")


def identities(settings: Settings) -> Identities:
    """Return the identities of the sources of this machine."""
    return Identities.at(settings.home, settings.backup_dir)


def lineages(settings: Settings) -> tuple[Lineage, Lineage]:
    """Return the records of databases that continue others: of this machine, and in the backup folder."""
    return Lineage.at(settings.home), Lineage.in_store(settings.backup_dir)


def previous_databases(settings: Settings, name: SourceName) -> PreviousVersions:
    """Return the records of what restores of the database `name` replaced."""
    return PreviousVersions(settings.home / "previous", name)


def limits(settings: Settings) -> dict[SourceName, Limits]:
    """Return the limits of the monitor for each source, by the schedule."""
    schedule = settings.schedule
    drill = schedule.interval(TaskName.DRILL)
    return {
        name: Limits(
            schedule.interval(name),
            drill,
            settings.of(name).min_bytes or 0,
            timedelta(days=settings.of(name).prove_every or 0) or None,
        )
        for name in known(settings)
    }


def known(settings: Settings) -> tuple[SourceName, ...]:
    """Return the sources that the settings name, and those of the specification that have a default.

    The standard sources come first, then roles of clusters, databases and folders, each in the file's order.
    """
    tables = (one for name, one in settings.sources.items() if name not in STANDARD)
    order = [kind.row.table for kind in Kind]
    named = sorted(tables, key=lambda one: order.index(one.table))
    standard = (one for one in STANDARD if one in settings.sources or settings.defaults_to(one))
    return (*standard, *(SourceName(one.name, _kind(one)) for one in named))


def _kind(one: SourceSettings) -> Kind:
    return next(kind for kind in Kind if (kind.row.table, kind.row.is_file) == (one.table, one.is_file))


def expanded(settings: Settings, names: Iterable[str]) -> tuple[SourceName, ...]:
    """Return the sources `names`, each once; plain text, which is no SourceName, is a cluster and stands for its sources."""
    there = [one for one in known(settings) if one in settings.sources]
    found = (
        [name]
        if isinstance(name, SourceName)
        else [one for one in there if settings.sources[one].cluster == name]
        for name in names
    )
    return tuple(dict.fromkeys(one for its in found for one in its))


def is_cluster(settings: Settings, name: str, code: Exit = Exit.USAGE) -> RefnetError:
    """Return the error for the cluster `name` where one source or artifact is needed."""
    its = expanded(settings, [name])
    return RefnetError(f"{name} is a cluster, not one source", f"Its sources are: {some(its, 20)}.", code)


def protected(settings: Settings) -> tuple[SourceName, ...]:
    """Return the sources that the settings protect, in the order of `known`."""
    there = configured(settings)
    return tuple(one for one in known(settings) if one in there)


def configured(settings: Settings) -> frozenset[SourceName]:
    """Return the sources that the settings protect: those that they name, and the defaults that are there.

    A database of a cluster that its server no longer has is not protected.
    """
    named = {one for one in known(settings) if one in settings.sources and not settings.sources[one].gone}
    return frozenset(
        named | {one for one in STANDARD if settings.defaults_to(one) and _is_there(settings, one)}
    )


def _is_there(settings: Settings, source: SourceName) -> bool:
    """Return whether the default of a standard source exists: RefNet's own server, the vault of `refnet notes`, a Compose file."""
    if source == SourceName.DATABASE:
        from refnet.local_postgres import has_own_server

        return has_own_server(settings)
    return settings.config_dir is not None if source == SourceName.CONFIG else settings.vault_dir.exists()


def gone(settings: Settings) -> dict[SourceName, Gone]:
    """Return the sources that were backed up here and are not any more, unless somebody accepted that."""
    named = (one for one in known(settings) if one in settings.sources and settings.sources[one].gone)
    of_clusters = {one: Gone("its server no longer has the database", _restored(one)) for one in named}
    return of_clusters | {one: _lost(settings, one) for one in _not_protected(settings)}


def _not_protected(settings: Settings) -> list[SourceName]:
    """Return the sources of earlier backups of this home that are not protected and not accepted; the records of clusters know theirs."""
    records, runs = identities(settings), History()
    with suppress(RefnetError):  # the monitor says that it cannot be read
        runs = journal(settings).history()
    there, clusters = configured(settings), tuple(f"{one}-" for one in settings.clusters)
    made = {*records.names(), *filter(runs.made, {*runs.totals.buckets, *(run.source for run in runs.runs)})}
    lost = [
        one
        for one in sorted(made)
        if not (one in there or one.startswith(clusters) or records.is_accepted(one))
    ]
    kinds = {str(one): one for one in STANDARD}
    with suppress(RefnetError):  # so it says of the store
        kinds |= {str(one): one for one in catalog(settings).sources()} if lost else {}
    return [kinds.get(one) or SourceName(one, _likely_kind(records, one)) for one in lost]


def _likely_kind(records: Identities, name: str) -> Kind:
    """Return the kind of a source without artifacts, by its record: a database has no id."""
    by_name = True
    with suppress(RefnetError):  # it is reported where the source is used
        by_name = not records.of(name).id
    return likely_kind(name, by_name=by_name)


def _lost(settings: Settings, source: SourceName) -> Gone:
    """Return why a source of earlier backups is not protected: its default has disappeared, or nothing names it."""
    if settings.defaults_to(source) and source != SourceName.CONFIG:
        what = "RefNet's own server" if source == SourceName.DATABASE else f"the vault {settings.vault_dir}"
        return Gone(f"{what} no longer exists", _restored(source))
    why = f"{SHORT[source]} is none" if source in settings.left_out else "the settings no longer name it"
    again = f"set {SHORT[source]}" if source in SHORT else "add it to the settings again"
    return Gone(why, f"{again}, or restore it elsewhere (`refnet restore {source} --to`)")


def _restored(source: SourceName) -> str:
    return f"`refnet restore {source}` brings it back"


def shrinking(settings: Settings, name: SourceName) -> Shrinking:
    """Return the limits below which the source `name` counts as shrunk."""
    own = settings.of(name)
    return Shrinking(
        own.shrunk_tables or 0, own.shrunk_rows or 0, own.shrunk_bytes or 0, own.shrunk_files or 0
    )


def retention(settings: Settings, name: SourceName) -> Retention:
    """Return how long artifacts of `name` are kept."""
    found = settings.of(name).retention
    if found is None:
        raise not_configured(settings, name)
    return found


def not_configured(settings: Settings, name: SourceName) -> RefnetError:
    """Return the error for a source that the settings leave out."""
    if name == SourceName.DATABASE:
        from refnet.local_postgres import has_own_server, no_server

        if not has_own_server(settings):
            return no_server(settings)
    table = name.kind.row.added_to or name.kind.row.table
    cluster = next((one for one in settings.clusters if name.startswith(f"{one}-")), "")
    if name in settings.left_out:
        hint = f"{SHORT[name]} is none: set it."
    elif name in SHORT:
        hint = f"Set {variable(SHORT[name])}."
    elif cluster and name.kind is Kind.CLUSTER:
        hint = f"Set clusters.{cluster}.wal = true."
    elif cluster:
        hint = f"The cluster {cluster} had no such database at its last backup; `refnet backup {cluster}` looks again."
    else:
        hint = f"Add [{table}.{name.removesuffix(GLOBALS)}] to the settings file."
    return RefnetError(f"the source {name} is not configured", hint, Exit.USAGE)


def is_gone(name: SourceName, found: Gone) -> RefnetError:
    """Return the error for the backup of a source that is gone."""
    hint = f"{found.how[0].upper()}{found.how[1:]}; `refnet accept {name}` if that is intended."
    return RefnetError(f"{name} is not backed up: {found.why}", hint)


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
    roles, bases = globals_name(cluster.name), bases_name(cluster.name)
    files = {bases: replace(one, name=bases, table=BASES)} if cluster.wal else {}
    return {roles: replace(one, name=roles, table=ROLES), **files, **found}


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
