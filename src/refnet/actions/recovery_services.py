"""Starts the services of a recovery, and asks whether they are healthy."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from refnet import servers
from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Outcome
from refnet.compose import COMPOSE_FILES, compose_file
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.core.files import read_regular
from refnet.recovery.compose import Compose, working_program
from refnet.recovery.services import LocalServices, Services, wait_for
from refnet.settings import Settings
from refnet.telemetry.redact import redactor, secrets_of

#: The time limit of one health request, and the pause between two looks, in seconds.
_HEALTH_SECONDS, _PAUSE = 10, 0.5
#: So many files with secrets are read, of at most so many bytes.
_SECRETS, _SECRET_BYTES = 100, 64 << 10


def start_services(context: Context, names: Sequence[str]) -> Sequence[str]:
    """Start the services `names` and wait until they are up; return their names."""
    settings = context.settings
    if names and settings.recover_services:
        services = _services(context)
        services.start(names)
        wait_for(services, names, settings.recover_seconds, context.clock)
        return names
    return ()


def _services(context: Context) -> Services:
    settings = context.settings
    if settings.recover_services == "local":
        start_server = partial(servers.server, settings)
        environment = {**os.environ, **context.variables}
        return LocalServices(settings.home / "services", start_server, environment, _hide(settings, None))
    folder = settings.config_dir
    found = compose_file(folder) if folder else None
    if not found:
        raise RefnetError(
            f"recover.services is compose, and {folder or 'config_dir'} has no Compose file",
            f"Put it there ({' or '.join(COMPOSE_FILES)}).",
        )
    hide = _hide(settings, folder)
    return Compose(found, working_program(), settings.recover_seconds, hide, context.variables)


def _hide(settings: Settings, folder: Path | None) -> Callable[[str], str]:
    """Filter that hides the secrets of the settings and of a Compose project in `folder`."""
    known = secrets_of(settings)
    for path in islice((folder / "secrets").glob("*"), _SECRETS) if folder else ():
        with suppress(OSError, UnicodeDecodeError):
            known.update(read_regular(path, _SECRET_BYTES).decode().split())
    return redactor(known)


def check_health(context: Context) -> Finding | None:
    """Poll the health URL until it returns 200 or time is up; None without such a setting."""
    url, seconds = context.settings.recover_health_url, context.settings.recover_seconds
    if not url:
        return None
    clock, what = context.clock, f"health of {url}"
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
