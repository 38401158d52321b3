"""The live database, folders and services that a recovery acts on."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from refnet import servers, wiring
from refnet.actions.recovery_settings import Setup
from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Entry, Outcome
from refnet.catalog.source_name import SourceName
from refnet.compose import COMPOSE_FILES, compose_file
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.files import read_regular
from refnet.recovery.plan import Stage
from refnet.recovery.services.compose import Compose
from refnet.recovery.services.local import LocalServices
from refnet.recovery.services.program import working_program
from refnet.recovery.services.service import Services, wait_for
from refnet.sources import Source, hooks, source_of
from refnet.sources.base import Permits
from refnet.sources.hooks import Action
from refnet.telemetry.redact import redactor, secrets_of

#: The time limit of one health request, and the pause between two looks, in seconds.
_HEALTH_SECONDS, _PAUSE = 10, 0.5
#: So many files with secrets are read, of at most so many bytes.
_SECRETS, _SECRET_BYTES = 100, 64 << 10


@dataclass(frozen=True)
class Live:
    """This machine according to the settings of a recovery; recreated when the configuration is back."""

    setup: Setup
    clock: Clock = Clock()
    permits: Permits = Permits()
    #: Variables that its hooks and services get beside those of the environment.
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def context(self) -> Context:
        return Context(self.setup.settings, self.clock, variables=self.variables)

    def knows(self, source: SourceName) -> bool:
        """Return whether the settings name `source`."""
        return source in wiring.known(self.setup.settings)

    def replaced(self, name: SourceName) -> str:
        """What a restore of the source `name` would replace, or ""."""
        return self._source(name).replaced() if self.knows(name) else ""

    def restore(self, name: SourceName, entry: Entry, restored: Callable[[], None]) -> list[str]:
        """Restore `name` from `entry`; return sentences about it. `restored`: called before the last hooks."""
        context = replace(self.context, restored=restored)
        return self._source(name).recover(context, context.store.artifact(entry), self.permits)

    def problems(self, name: SourceName, entry: Entry) -> Sequence[RefnetError]:
        """What would prevent the restore; ConnectError if its server does not respond.

        No embedded server is created for this, and sources that the settings do not name are skipped.
        """
        if not self.knows(name):
            return ()
        context = self.context
        return source_of(context.settings, name).problems(
            context, context.store.artifact(entry), self.permits
        )

    def _source(self, name: SourceName) -> Source:
        """The source `name`; RefnetError if nothing may be restored to its place."""
        self.setup.folder(name)
        return source_of(self.setup.settings, name)

    def repeat_hooks(self, source: SourceName, entry: Entry) -> None:
        """Run the hooks after the restore of `source` from `entry` once more."""
        hooks.repeat(self.context, source, Action.RESTORE, entry.name)

    def compare(self, name: SourceName, entry: Entry) -> tuple[Finding, ...]:
        """Compare live data with `entry`."""
        context = self.context
        return source_of(context.settings, name).compare(context, context.store.artifact(entry))

    def commands(self) -> dict[Stage, tuple[str, ...]]:
        """Command lines from a backup, by stage."""
        restored = [one for one in self.setup.commands if one.restored]
        return {
            stage: tuple(one.line for one in restored if one.stage is stage)
            for stage in Stage
            if any(one.stage is stage for one in restored)
        }

    @property
    def runs_restored_hooks(self) -> bool:
        """Whether a restore runs hooks from a backup."""
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
            environment = {**os.environ, **self.variables}
            return LocalServices(settings.home / "services", start_server, environment, self._hide(None))
        folder = settings.config_dir
        found = compose_file(folder) if folder else None
        if not found:
            raise RefnetError(
                f"recover.services is compose, and {folder or 'config_dir'} has no Compose file",
                f"Put it there ({' or '.join(COMPOSE_FILES)}).",
            )
        return Compose(found, working_program(), settings.recover_seconds, self._hide(folder), self.variables)

    def _hide(self, folder: Path | None) -> Callable[[str], str]:
        """Filter that hides the secrets of the settings and of a Compose project in `folder`."""
        known = secrets_of(self.setup.settings)
        for path in islice((folder / "secrets").glob("*"), _SECRETS) if folder else ():
            with suppress(OSError, UnicodeDecodeError):
                known.update(read_regular(path, _SECRET_BYTES).decode().split())
        return redactor(known)

    def health(self) -> Finding | None:
        """Poll the health URL until it returns 200 or time is up; None without such a setting."""
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


def _ask(url: str, seconds: float) -> str:
    """Reason why `url` does not answer, or ""."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):  # noqa: S310  # only http: a setting's converter checks it
            return ""
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
