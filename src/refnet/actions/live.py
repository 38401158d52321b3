"""The live database, folders and services that a recovery acts on."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from refnet import servers, wiring
from refnet.actions.recovery_settings import Setup
from refnet.compose import COMPOSE_FILES, compose_file
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.files import read_regular
from refnet.core.formatting import plural
from refnet.recovery.model.artifact import Entry, Outcome
from refnet.recovery.model.origin import origin_label
from refnet.recovery.model.recovery_plan import Stage
from refnet.recovery.model.services import Services, wait_for
from refnet.recovery.model.source import Finding, OpenArtifact
from refnet.recovery.model.source_name import Kind, SourceName
from refnet.recovery.services.compose import Compose
from refnet.recovery.services.local import LocalServices
from refnet.recovery.services.program import working_program
from refnet.recovery.sources.database.restore.left_out import LEFT_OUT
from refnet.recovery.verbs.restore_database import Options
from refnet.sources import database_restore, folder_restore, hooks, roles_restore
from refnet.sources.database_restore import DatabaseRestore
from refnet.sources.hooks import Action

#: The time limit of one health request, and the pause between two looks, in seconds.
_HEALTH_SECONDS, _PAUSE = 10, 0.5
#: So many files with secrets are read, of at most so many bytes.
_SECRETS, _SECRET_BYTES = 100, 64 << 10


@dataclass(frozen=True)
class Live:
    """This machine, as the settings of a recovery name it; made again when the configuration is back."""

    setup: Setup
    clock: Clock = Clock()
    #: The database whose data may be restored, though it is not the target.
    from_database: str | None = None
    #: Create also roles with powers.
    role_powers: bool = False
    #: Called when a restore is done, before the hooks that follow it.
    restored: Callable[[], None] = lambda: None

    @property
    def context(self) -> Context:
        return Context(self.setup.settings, self.clock, restored=self.restored)

    def knows(self, source: SourceName) -> bool:
        """Return whether the settings name `source`."""
        return source in wiring.known(self.setup.settings)

    def replaced(self, source: SourceName) -> str:
        """Return what a restore of `source` would replace, or ""."""
        return _OF_KIND[source.kind].replaced(self, source) if self.knows(source) else ""

    def restore(self, source: SourceName, entry: Entry, restored: Callable[[], None]) -> list[str]:
        """Restore `source` from `entry`; return what was done, a sentence each. `restored`: called before its last hooks."""
        live = replace(self, restored=restored)
        return _OF_KIND[source.kind].restore(live, source, self.context.store.artifact(entry))

    def problems(self, source: SourceName, entry: Entry) -> Sequence[RefnetError]:
        """Return what would prevent the restore of a database or of roles; ConnectError if its server does not answer.

        An embedded server is not made for this, and what the settings in force do not name is not asked.
        """
        if not self.knows(source) or not self.setup.settings.of(source).url:
            return ()
        return _PROBLEMS[source.kind](self, source, self.context.store.artifact(entry))

    def repeat_hooks(self, source: SourceName, entry: Entry) -> None:
        """Run the hooks after the restore of `source` from `entry` once more."""
        hooks.repeat(self.context, source, Action.RESTORE, entry.name)

    def compare(self, source: SourceName, entry: Entry) -> tuple[Finding, ...]:
        """Compare what is live with `entry`."""
        compare = _OF_KIND[source.kind].compare
        return compare(self.context, self.context.store.artifact(entry))

    def commands(self) -> dict[Stage, tuple[str, ...]]:
        """Return the command lines by stage from a backup."""
        restored = [one for one in self.setup.commands if one.restored]
        return {
            stage: tuple(one.line for one in restored if one.stage is stage)
            for stage in Stage
            if any(one.stage is stage for one in restored)
        }

    @property
    def runs_restored_hooks(self) -> bool:
        """True if a restore runs hooks from a backup."""
        return any(one.hook and one.restored for one in self.setup.commands)

    def start(self, stage: Stage) -> Sequence[str]:
        """Start the services of `stage` and wait until they are up; return their names."""
        settings, names = self.setup.settings, self.setup.services(stage)
        if names and settings.recover_services:
            services = self._services()
            services.start(names)
            wait_for(services, names, settings.recover_seconds, self.clock)
            return names
        return ()

    def _services(self) -> Services:
        settings = self.setup.settings
        if settings.recover_services == "local":
            start_server = partial(servers.server, settings)
            return LocalServices(settings.home / "services", start_server, hide=self._hide(None))
        folder = settings.config_dir
        found = compose_file(folder) if folder else None
        if not found:
            raise RefnetError(
                f"recover.services is compose, and {folder or 'config_dir'} has no Compose file",
                f"Put it there ({' or '.join(COMPOSE_FILES)}).",
            )
        return Compose(found, working_program(), settings.recover_seconds, self._hide(folder))

    def _hide(self, folder: Path | None) -> Callable[[str], str]:
        """Return what hides the secrets of the settings, and those in the files of a Compose project in `folder`."""
        from refnet.telemetry.redact import redactor, secrets_of

        known = secrets_of(self.setup.settings)
        for path in islice((folder / "secrets").glob("*"), _SECRETS) if folder else ():
            with suppress(OSError, UnicodeDecodeError):
                known.update(read_regular(path, _SECRET_BYTES).decode().split())
        return redactor(known)

    def health(self) -> Finding | None:
        """Ask the health URL until it answers 200 or the time is over; None where the settings have none."""
        url, seconds = self.setup.settings.recover_health_url, self.setup.settings.recover_seconds
        if not url:
            return None
        clock, what = self.clock, f"health of {url}"
        until = clock.monotonic() + seconds
        while why := _ask(url, max(0.1, min(_HEALTH_SECONDS, until - clock.monotonic()))):
            if clock.monotonic() >= until:
                return Finding(what, Outcome.FAILED, f"{why} (asked for {seconds:.0f} s)")
            clock.sleep(min(_PAUSE, max(0.0, until - clock.monotonic())))
        return Finding(what, Outcome.PASSED)


@dataclass(frozen=True)
class _Acts:
    """The acts of a recovery on the sources of one kind, as in `Live`."""

    replaced: Callable[[Live, SourceName], str]
    restore: Callable[[Live, SourceName, OpenArtifact], list[str]]
    compare: Callable[[Context, OpenArtifact], tuple[Finding, ...]]


def _live_database(live: Live, source: SourceName) -> str:
    return database_restore.replaced(live.context, source)


def _database(live: Live, context: Context, source: SourceName, chosen: OpenArtifact) -> DatabaseRestore:
    how = Options(context.settings.jobs, create_roles=True, role_powers=live.role_powers)
    other = live.from_database if source == SourceName.DATABASE else None
    return database_restore.restore_of(context, source, chosen, how, from_database=other)


def _database_problems(live: Live, source: SourceName, chosen: OpenArtifact) -> Sequence[RefnetError]:
    restore = _database(live, live.context, source, chosen)
    return restore.plan(count=False, damaged_anyway=False).problems


def _restore_database(live: Live, source: SourceName, chosen: OpenArtifact) -> list[str]:
    notes = list[str]()
    context = replace(live.context, note=notes.append)
    back = _database(live, context, source, chosen).run()
    of = origin_label(back.origin, back.destination)
    left_out = (note for note in back.notes if note.startswith(LEFT_OUT))
    return [f"the database {back.destination} is restored from {back.artifact} (of {of})", *left_out, *notes]


def _live_folder(live: Live, source: SourceName) -> str:
    return folder_restore.replaced(live.context, source) if live.setup.folder(source) else ""


def _restore_folder(live: Live, source: SourceName, chosen: OpenArtifact) -> list[str]:
    live.setup.folder(source)  # raises where nothing may go there
    planned = folder_restore.plan(live.context, chosen, folder_restore.Asked(named=True))
    # the stage has asked for them, see Setup.commands
    permitted = folder_restore.restored_commands(live.context, planned)
    done = folder_restore.restore(live.context, chosen, planned, permitted)
    return [f"{done.plan.target.folder} is restored from {chosen.name}"]


def _restore_roles(live: Live, _source: SourceName, chosen: OpenArtifact) -> list[str]:
    roles = roles_restore.restore_of(live.context, chosen, role_powers=live.role_powers)
    created = plural(len(roles.run().plan.create), "role")
    return [f"{created} of {chosen.name} created on {roles.target.address}"]


def _roles_problems(live: Live, _source: SourceName, chosen: OpenArtifact) -> Sequence[RefnetError]:
    return roles_restore.restore_of(live.context, chosen, role_powers=live.role_powers).plan().problems


_PROBLEMS = {Kind.DATABASE: _database_problems, Kind.GLOBALS: _roles_problems}
_OF_KIND = {
    Kind.DATABASE: _Acts(_live_database, _restore_database, database_restore.compare),
    Kind.FOLDER: _Acts(_live_folder, _restore_folder, folder_restore.compare),
    Kind.GLOBALS: _Acts(lambda _live, _source: "", _restore_roles, roles_restore.compare),
}


def _ask(url: str, seconds: float) -> str:
    """Return why `url` does not answer, or ""."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):  # noqa: S310  # only http: a setting's converter checks it
            return ""
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
