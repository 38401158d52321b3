"""What a recovery acts on, made from the settings and, where they say nothing, from the set itself."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import perf_counter, sleep

from refnet import origins, servers, wiring
from refnet.actions.context import Context
from refnet.actions.recover import Machine
from refnet.compose import COMPOSE_FILES, compose_file
from refnet.errors import RefnetError
from refnet.postgres import embedded
from refnet.postgres.connecting import ConnectError
from refnet.postgres.session import server_version
from refnet.recovery.model.artifact import Entry, Outcome, SourceName
from refnet.recovery.model.origin import told
from refnet.recovery.model.recovery_plan import Stage
from refnet.recovery.model.services import Services
from refnet.recovery.model.source import Finding, silent
from refnet.recovery.services.compose import Compose
from refnet.recovery.services.local import LocalServices
from refnet.recovery.sources.database.artifact.opening import opened
from refnet.recovery.sources.database.restore.server_facts import holds_tables
from refnet.recovery.verbs import restore_database, restore_files
from refnet.recovery.verbs.restore_database import Dump
from refnet.restored import Setup
from refnet.settings import Settings

_NO_LIST = "another program made the archive, so nothing says what it should hold"
#: How long one question may take, and the pause between two, in seconds.
_HEALTH_SECONDS, _HEALTH_PAUSE = 10, 0.5


def machine(setup: Setup, *, from_database: str | None = None) -> Machine:
    """What a recovery that runs with `setup` acts on. `from_database`: the database that the user has named."""
    settings, live = setup.settings, _Live(setup, from_database)
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
        restored={
            stage: tuple(one.line for one in setup.commands if one.stage is stage and one.restored)
            for stage in Stage
        },
        seconds=settings.recover_seconds,
        health=partial(_healthy, health, settings.recover_seconds) if health else None,
    )


@dataclass(frozen=True)
class _Live:
    """The live database, vault and configuration."""

    setup: Setup
    from_database: str | None = None

    @property
    def settings(self) -> Settings:
        return self.setup.settings

    def restore(self, source: SourceName, entry: Entry) -> str:
        held = wiring.store(self.settings).artifact(entry)
        if source is SourceName.DATABASE:
            return self._restore_database(opened(held))
        self.setup.folder(source)
        done = restore_files.restore(
            held,
            restore_files.plan(held, wiring.place(self.settings, source)),
            lock=partial(Context(self.settings).restore_lock, source),
            now=_now,
            clock=perf_counter,
        )
        return f"{done.plan.target.folder} holds what {entry.name} holds"

    def _restore_database(self, artifact: Dump) -> str:
        with Context(self.settings).restore_lock(SourceName.DATABASE):
            done = restore_database.restore(
                servers.server(self.settings),
                artifact,
                partial(servers.binaries_for, self.settings),
                restore_database.Options(
                    self.settings.jobs,
                    create_roles=True,
                    permission=origins.permission(self.settings, self.from_database),
                ),
                previous=wiring.previous(self.settings),
                now=_now,
                clock=perf_counter,
            )
        of = told(done.origin, done.place)
        forgotten = origins.remember(self.settings, done)
        return f"the database {done.place} holds what {done.artifact} (of {of}) holds" + (
            f"; {forgotten}" if forgotten else ""
        )

    def compare(self, source: SourceName, entry: Entry) -> tuple[Finding, ...]:
        held = wiring.store(self.settings).artifact(entry)
        if source is SourceName.DATABASE:
            return self._compare_database(opened(held))
        planned = restore_files.plan(held, wiring.place(self.settings, source))
        found, what = planned.changes, f"files of {source}"
        counts = f"{len(found.added)} missing, {len(found.changed)} changed, {len(found.removed)} more"
        findings = (Finding(what, Outcome.FAILED if found else Outcome.PASSED, counts if found else ""),)
        return (
            findings
            if planned.listed
            else (*findings, Finding(f"list of {what}", Outcome.UNVERIFIED, _NO_LIST))
        )

    def _compare_database(self, artifact: Dump) -> tuple[Finding, ...]:
        target = servers.server(self.settings)
        try:
            with target.connect() as session:
                binaries = servers.binaries_for(self.settings, server_version(session))
        except ConnectError as error:
            return (Finding(f"database {target.name}", Outcome.FAILED, error.message),)
        return artifact.compare(target, binaries, self.settings.jobs, silent, content=True)

    def replaced(self, source: SourceName) -> str:
        if source is SourceName.DATABASE:
            return self._database_replaced()
        if self.setup.folder(source) is None:
            return ""
        folder = wiring.place(self.settings, source).folder
        return str(folder) if folder.is_dir() and any(folder.iterdir()) else ""

    def _database_replaced(self) -> str:
        """The live database, where it holds any table; an embedded server is not made to find out."""
        if not self.settings.database_url and embedded.status(self.settings.home).major is None:
            return ""
        target = servers.server(self.settings)
        try:
            return f"the database {target.display}" if holds_tables(target) else ""
        except ConnectError as error:
            if error.no_such_database:
                return ""
            raise


def _services(settings: Settings) -> Services:
    if settings.recover_services == "local":
        return LocalServices(settings.home / "services", partial(servers.server, settings))
    folder = settings.config_dir
    found = compose_file(folder) if folder else None
    if not found:
        raise RefnetError(
            f"recover.services is compose, and {folder or 'config_dir'} holds no Compose file",
            f"Put it there ({' or '.join(COMPOSE_FILES)}).",
        )
    return Compose(found)


def _healthy(url: str, seconds: float) -> Finding:
    """Ask `url` until it answers 200, for `seconds` at most."""
    what, until = f"health of {url}", perf_counter() + seconds
    if not url.startswith(("http://", "https://")):
        return Finding(what, Outcome.FAILED, "it is no http address")
    while why := _ask(url, max(0.1, min(_HEALTH_SECONDS, until - perf_counter()))):
        if perf_counter() >= until:
            return Finding(what, Outcome.FAILED, f"{why} (asked for {seconds:.0f} s)")
        sleep(min(_HEALTH_PAUSE, max(0.0, until - perf_counter())))
    return Finding(what, Outcome.PASSED)


def _ask(url: str, seconds: float) -> str:
    """Why `url` is not well; "" where it is."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):  # noqa: S310  # only http, checked before
            return ""
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def _now() -> datetime:
    return datetime.now(UTC)
