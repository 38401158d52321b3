"""The live database, folders and services that a recovery acts on."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from refnet import servers
from refnet.actions.recovery_settings import Setup
from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Outcome
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
from refnet.sources.base import Permits
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

    def context(self, restored: Callable[[], None] = lambda: None) -> Context:
        """What a restore works with; `restored` is called before the hooks that follow it."""
        return Context(self.setup.settings, self.clock, restored=restored, variables=self.variables)

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
