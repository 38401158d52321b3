"""Settings made into live objects; the only place that assembles.

What speaks to PostgreSQL is imported where it is needed: the driver takes longer to load than a vault to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refnet import servers
from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.monitoring import Limits
from refnet.recovery.model.retention import Listing, PreviousVersion
from refnet.recovery.model.schedule import Schedule, TaskName
from refnet.recovery.model.shrinking import Shrinking
from refnet.recovery.model.source import Made, OpenArtifact, Source
from refnet.recovery.sources.files import entries
from refnet.recovery.sources.files.describe import describe as describe_files
from refnet.recovery.sources.files.files_source import FilesSource
from refnet.recovery.sources.files.target import FolderTarget, discard, target_of
from refnet.recovery.stores.identified import Remembered
from refnet.recovery.stores.local import LocalStore
from refnet.recovery.stores.open_artifacts import listed_beside
from refnet.recovery.stores.previous_records import PreviousVersions
from refnet.recovery.stores.run_journal import Journal
from refnet.settings import Retention, Settings

if TYPE_CHECKING:
    from refnet.recovery.sources.database.database_source import DatabaseSource
    from refnet.telemetry.facts import Facts


def store(settings: Settings) -> LocalStore:
    """Where artifacts live."""
    return LocalStore(settings.backup_dir, remembered=Remembered(settings.home / "stores"))


def journal(settings: Settings) -> Journal:
    """The runs of this REFNET_HOME."""
    return Journal(settings.home / "runs")


def limits(settings: Settings) -> dict[SourceName, Limits]:
    """What the monitor allows of each source, by the schedule."""
    schedule = Schedule.of(settings)
    drill = schedule.interval(TaskName.DRILL)
    return {
        name: Limits(schedule.interval(TaskName(name)), drill, settings.monitor_min_bytes)
        for name in SourceName
    }


def facts(settings: Settings, now: Callable[[], datetime]) -> Callable[[], Facts]:
    """A reading of what is known of the backups; what did not change since the last one is not read again."""
    from refnet.telemetry.facts import Facts

    shelves, runs, schedule = store(settings), journal(settings), Schedule.of(settings)
    configured, allowed = frozenset(sources(settings)), limits(settings)

    def read() -> Facts:
        listed, leftovers = shelves.contents()
        return Facts(
            now(),
            Catalog.of(listed),
            leftovers,
            shelves.free_bytes(),
            runs.history(),
            configured,
            schedule,
            allowed,
            servers.identity(settings),
            shelves.trouble(),
        )

    return read


class Sources(Mapping[SourceName, Source]):
    """The sources that are configured, each made when it is asked for."""

    def __init__(self, makers: Mapping[SourceName, Callable[[], Source]]) -> None:
        self._makers = makers

    def __getitem__(self, name: SourceName) -> Source:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[SourceName]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def sources(
    settings: Settings,
    *,
    jobs: int | None = None,
    tables: tuple[str, ...] = (),
    into: LocalStore | None = None,
) -> Sources:
    """What the settings protect; a source that they do not configure is not there.

    Args:
        jobs: parallel workers, before the setting.
        tables: only these tables of the database; empty: everything.
        into: the store whose last artifact a new one may share its bytes with; None: that of the settings.
    """
    jobs, into = jobs or settings.jobs, into or store(settings)
    found: dict[SourceName, Callable[[], Source]] = {
        SourceName.DATABASE: partial(_database, settings, jobs, tables)
    }
    for name, folder in (
        (SourceName.CONFIG, settings.config_dir),
        (SourceName.OBSIDIAN, settings.vault_dir if _has_vault(settings) else None),
    ):
        if folder:
            found[name] = partial(_files, settings, name, folder, jobs, into)
    return Sources(found)


def shrinking(settings: Settings) -> Shrinking:
    """When a source counts as shrunk."""
    return Shrinking(
        settings.shrunk_tables, settings.shrunk_rows, settings.shrunk_bytes, settings.shrunk_files
    )


def retention(settings: Settings, name: SourceName) -> Retention:
    """How long artifacts of `name` are kept."""
    kept: Retention = getattr(settings, f"retention_{name}")
    return kept


def previous_versions(settings: Settings) -> tuple[Listing, ...]:
    """What lists the databases and folders that restores put aside, for prune to remove when their time is over."""
    return (partial(_previous_databases, settings), partial(_previous_folders, settings))


def _previous_databases(settings: Settings, source: SourceName) -> list[PreviousVersion]:
    """The databases that restores keep. An embedded server is asked where it runs, and never started for this."""
    from refnet.postgres import embedded
    from refnet.recovery.sources.database.restore.previous_databases import previous_databases

    if source is not SourceName.DATABASE:
        return []
    if not settings.database_url and embedded.status(settings.home).pid is None:
        return []
    return previous_databases(servers.server(settings), previous(settings).read().records)


def previous(settings: Settings) -> PreviousVersions:
    """The records of the databases that restores replaced."""
    return PreviousVersions(settings.home / "previous")


def _previous_folders(settings: Settings, name: SourceName) -> tuple[PreviousVersion, ...]:
    if name is SourceName.DATABASE or (name is SourceName.CONFIG and not settings.config_dir):
        return ()
    return tuple(
        PreviousVersion(name, f"folder {work.path}", work.journal.at, partial(discard, work))
        for work in place(settings, name).previous_versions()
    )


def place(settings: Settings, name: SourceName) -> FolderTarget:
    """Where `name`, config or obsidian, is live; RefnetError where the settings do not say."""
    if name is SourceName.OBSIDIAN:
        return target_of(name, settings.vault_dir, None, settings.home / "swaps")
    if settings.config_dir is None:
        raise RefnetError(
            "the source config is not configured",
            "Set REFNET_CONFIG_DIR; see refnet.toml.example.",
            Exit.USAGE,
        )
    listed = entries.names(entries.parse_entries(settings.config_entries))
    return target_of(name, settings.config_dir, listed, settings.home / "swaps")


def prover(settings: Settings, name: SourceName, *, trust: bool = False) -> Source:
    """A source that proves artifacts of `name`, which needs nothing live and no configuration.

    `trust`: dumps that RefNet did not make, even where this machine cannot build all walls around a scratch server.
    """
    if name is SourceName.DATABASE:
        return replace(_database(settings, settings.jobs, ()), trust=trust)
    return _files(settings, name, None, settings.jobs, store(settings))


def describe(settings: Settings, name: SourceName, held: OpenArtifact, created: datetime) -> Made | None:
    """What an artifact without a manifest says of itself, made at `created` as far as is known; None: nothing."""
    if name is SourceName.DATABASE:
        return _database(settings, 1, ()).describe(held)
    return describe_files(listed_beside(held.path), created) if held.path else None


def tables(settings: Settings, name: SourceName, held: OpenArtifact) -> tuple[dict[str, Any], ...]:
    """The tables in an artifact of the database, by its own index; none in another."""
    return _database(settings, 1, ()).tables_in(held) if name is SourceName.DATABASE else ()


def _has_vault(settings: Settings) -> bool:
    """A vault that nobody set is protected from the moment that it is there; then it is missed for ever."""
    set_by_user = "vault_dir" in settings.origins
    return set_by_user or settings.vault_dir.exists() or bool(_last(store(settings), SourceName.OBSIDIAN))


def _files(
    settings: Settings, name: SourceName, folder: Path | None, jobs: int, into: LocalStore
) -> FilesSource:
    return FilesSource(
        name=name,
        folder=folder,
        entries=entries.parse_entries(settings.config_entries) if name is SourceName.CONFIG else None,
        scratch=settings.home / "scratch",
        swaps=settings.home / "swaps",
        jobs=jobs,
        last=partial(_last, into, name),
    )


def _last(store: LocalStore, name: SourceName) -> OpenArtifact | None:
    """The newest whole artifact of `name`, if there is one."""
    entry = Catalog.of(store.entries(name)).newest_complete(name)
    return store.artifact(entry) if entry else None


def _database(settings: Settings, jobs: int, tables: tuple[str, ...]) -> DatabaseSource:
    from refnet.recovery.sources.database.artifact.required_tables import Required
    from refnet.recovery.sources.database.database_source import DatabaseSource

    return DatabaseSource(
        target=lambda: servers.existing_server(settings),
        binaries=partial(servers.binaries_for, settings),
        scratch=settings.home / "scratch",
        jobs=jobs,
        tables=tables,
        required=Required(settings.required_tables, _database_name(settings)),
    )


def _database_name(settings: Settings) -> str | None:
    """The name of the database that the settings mean, asking nobody; None where they name none."""
    from refnet.postgres.session import Target

    with suppress(RefnetError):  # what is wrong with the URL is told by what uses it
        return Target.from_url(settings.database_url).name if settings.database_url else None
    return None
