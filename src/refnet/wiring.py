"""Settings made into live objects; the only place that assembles."""

from __future__ import annotations

from functools import partial

from refnet.postgres import binaries, embedded
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.source import Source
from refnet.recovery.sources.database.source import DatabaseSource
from refnet.recovery.stores.local import LocalStore
from refnet.recovery.verbs.prune import Listing
from refnet.settings import Retention, Settings


def store(settings: Settings) -> LocalStore:
    """Where artifacts live."""
    return LocalStore(settings.backup_dir)


def server(settings: Settings) -> Target:
    """The database that is protected: that of REFNET_DATABASE_URL, else the embedded one, which is started."""
    if settings.database_url:
        return Target.from_url(settings.database_url)
    return embedded.start(settings.home, settings.postgres_bin_dir).target(embedded.DATABASE)


def binaries_for(settings: Settings, major: int | None, *, server: bool = False) -> Binaries:
    """PostgreSQL's programs for a server of `major`; see binaries.find."""
    return binaries.find(major, settings.postgres_bin_dir, server=server)


def sources(
    settings: Settings, *, jobs: int | None = None, tables: tuple[str, ...] = ()
) -> dict[SourceName, Source]:
    """What the settings protect; a source that they do not configure is not there.

    Args:
        jobs: parallel workers, before the setting.
        tables: only these tables of the database; empty: everything.
    """
    return {SourceName.DATABASE: _database(settings, jobs or settings.jobs, tables)}


def retention(settings: Settings, name: SourceName) -> Retention:
    """How long artifacts of `name` are kept."""
    kept: Retention = getattr(settings, f"retention_{name}")
    return kept


def put_aside(_settings: Settings) -> tuple[Listing, ...]:
    """What lists the databases and folders that restores put aside, for prune to remove when their time is over."""
    return ()


def prover(settings: Settings, name: SourceName) -> Source:
    """A source that proves artifacts of `name`, which needs nothing live and no configuration."""
    if name is SourceName.DATABASE:
        return _database(settings, settings.jobs, ())
    raise NotImplementedError(name)


def _database(settings: Settings, jobs: int, tables: tuple[str, ...]) -> DatabaseSource:
    return DatabaseSource(
        target=lambda: server(settings),
        binaries=partial(binaries_for, settings),
        scratch=settings.home / "scratch",
        jobs=jobs,
        tables=tables,
        required=settings.required_tables,
    )
