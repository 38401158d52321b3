"""What a recovery acts on, made from the settings and, where they say nothing, from the set itself."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

from refnet import wiring
from refnet.errors import RefnetError
from refnet.postgres import embedded
from refnet.postgres.connecting import ConnectError
from refnet.postgres.session import server_version
from refnet.recovery.model.artifact import Entry, Outcome, SourceName
from refnet.recovery.model.recovering import Stage
from refnet.recovery.model.services import Services
from refnet.recovery.model.source import Finding, silent
from refnet.recovery.services.compose import Compose
from refnet.recovery.services.local import LocalServices
from refnet.recovery.sources.database.artifact import Artifact
from refnet.recovery.verbs import restore_database, restore_files
from refnet.recovery.verbs.recover import Machine
from refnet.settings import FILE_NAME, Settings, load

_COMPOSE_FILES = ("compose.yaml", "docker-compose.yml")
_HEALTH_SECONDS = 10
_ANY_TABLE = """
SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' LIMIT 1
"""


def settings_for(
    environment: Mapping[str, str], folder: Path, entries: Mapping[SourceName, Entry]
) -> Settings:
    """The settings in force, those of the configuration's own refnet.toml where no other is; on an empty machine
    the configuration goes back to the folder that it was backed up from.
    """
    made = partial(load, environment, root=os.geteuid() == 0, cores=len(os.sched_getaffinity(0)))
    settings = made(folder)
    entry = entries.get(SourceName.CONFIG)
    config = settings.config_dir or (Path(str(entry.manifest.details.get("folder", "/"))) if entry else None)
    if config and settings.file is None and (config / FILE_NAME).is_file():
        settings = made(config)
    return settings if settings.config_dir or not config else replace(settings, config_dir=config)


def machine(settings: Settings) -> Machine:
    """What a recovery with `settings` acts on."""
    live = _Live(settings)
    health = settings.recover_health_url
    return Machine(
        restore=live.restore,
        compare=live.compare,
        live=live.replaced,
        services=partial(_services, settings) if settings.recover_services else None,
        started={
            Stage.CONFIG: settings.recover_storage,
            Stage.VAULT: settings.recover_application,
            Stage.BACKGROUND: settings.recover_background,
            Stage.EDGE: settings.recover_edge,
        },
        seconds=settings.recover_seconds,
        health=partial(_ask, health) if health else None,
    )


@dataclass(frozen=True)
class _Live:
    """The live database, vault and configuration."""

    settings: Settings

    def restore(self, source: SourceName, entry: Entry) -> str:
        held = wiring.store(self.settings).held(entry)
        if source is SourceName.DATABASE:
            return self._restore_database(Artifact(held))
        done = restore_files.restore(
            held,
            restore_files.plan(held, wiring.place(self.settings, source)),
            lock=partial(wiring.restore_lock, self.settings, source),
            now=_now,
            clock=perf_counter,
        )
        return f"{done.plan.place.folder} holds what {entry.name} holds"

    def _restore_database(self, artifact: Artifact) -> str:
        with wiring.restore_lock(self.settings, SourceName.DATABASE):
            done = restore_database.restore(
                wiring.server(self.settings),
                artifact,
                partial(wiring.binaries_for, self.settings),
                restore_database.Options(self.settings.jobs, create_roles=True),
                previous=wiring.previous(self.settings),
                now=_now,
                clock=perf_counter,
            )
        return f"the database {done.database} holds what {done.artifact} holds"

    def compare(self, source: SourceName, entry: Entry) -> tuple[Finding, ...]:
        held = wiring.store(self.settings).held(entry)
        if source is SourceName.DATABASE:
            return self._compare_database(Artifact(held))
        found = restore_files.plan(held, wiring.place(self.settings, source)).changes
        counts = f"{len(found.added)} missing, {len(found.changed)} changed, {len(found.removed)} more"
        return (
            Finding(
                f"files of {source}", Outcome.FAILED if found else Outcome.PASSED, counts if found else ""
            ),
        )

    def _compare_database(self, artifact: Artifact) -> tuple[Finding, ...]:
        target = wiring.server(self.settings)
        try:
            with target.connect() as session:
                binaries = wiring.binaries_for(self.settings, server_version(session))
        except ConnectError as error:
            return (Finding(f"database {target.name}", Outcome.FAILED, error.message),)
        return artifact.compare(target, binaries, self.settings.jobs, silent, content=True)

    def replaced(self, source: SourceName) -> str:
        if source is SourceName.DATABASE:
            return self._database_replaced()
        if source is SourceName.CONFIG and self.settings.config_dir is None:
            return ""
        folder = wiring.place(self.settings, source).folder
        return str(folder) if folder.is_dir() and any(folder.iterdir()) else ""

    def _database_replaced(self) -> str:
        """The live database, where it holds any table; an embedded server is not made to find out."""
        if not self.settings.database_url and embedded.status(self.settings.home).major is None:
            return ""
        target = wiring.server(self.settings)
        try:
            with target.connect() as session:
                tables = session.execute(_ANY_TABLE).fetchone()
        except ConnectError as error:
            if error.no_such_database:
                return ""
            raise
        return f"the database {target.name}" if tables else ""


def _services(settings: Settings) -> Services:
    if settings.recover_services == "local":
        return LocalServices(settings.home / "services", partial(wiring.server, settings))
    folder = settings.config_dir
    found = [folder / name for name in _COMPOSE_FILES if (folder / name).is_file()] if folder else []
    if not found:
        raise RefnetError(
            f"recover.services is compose, and {folder or 'config_dir'} holds no Compose file",
            f"Put it there ({' or '.join(_COMPOSE_FILES)}).",
        )
    return Compose(found[0])


def _ask(url: str) -> Finding:
    what = f"health of {url}"
    if not url.startswith(("http://", "https://")):
        return Finding(what, Outcome.FAILED, "it is no http address")
    try:
        with urllib.request.urlopen(url, timeout=_HEALTH_SECONDS):  # noqa: S310  # only http, checked above
            return Finding(what, Outcome.PASSED)
    except (urllib.error.URLError, OSError) as error:
        return Finding(what, Outcome.FAILED, str(getattr(error, "reason", error)))


def _now() -> datetime:
    return datetime.now(UTC)
