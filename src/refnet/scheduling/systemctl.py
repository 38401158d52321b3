"""systemctl, and what it says. Where no systemd runs (a container), that is an answer and no error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from refnet.errors import RefnetError


@dataclass(frozen=True)
class Systemd:
    """A service manager: the system's, or that of this user."""

    user: bool

    @property
    def folder(self) -> Path:
        """Where units that somebody installs lie."""
        if not self.user:
            return Path("/etc/systemd/system")
        config = os.environ.get("XDG_CONFIG_HOME", "")
        return (Path(config) if config.startswith("/") else Path.home() / ".config") / "systemd" / "user"

    @property
    def command(self) -> str:
        """How to call it, in words."""
        return "systemctl --user" if self.user else "systemctl"

    def unreachable(self) -> str | None:
        """Why the manager cannot be reached, or None where it can."""
        done = self._run("show", "--property=Version")
        if done is None:
            return "systemctl is not installed"
        return None if done.returncode == 0 else _said(done)

    def reload(self) -> None:
        """Make the manager read its units again."""
        self._must("daemon-reload")

    def is_enabled(self, unit: str) -> bool:
        """Whether `unit` starts by itself. Needs no manager that runs."""
        done = self._run("is-enabled", unit)
        return done is not None and done.stdout.strip() == "enabled"

    def is_active(self, unit: str) -> bool:
        """Whether `unit` runs; a timer that does waits for its time."""
        done = self._run("is-active", unit)
        return done is not None and done.stdout.strip() == "active"

    def enable(self, units: Iterable[str]) -> None:
        """Make `units` start by themselves, from now on."""
        self._must("enable", "--now", *units)

    def disable(self, units: Iterable[str]) -> None:
        """End `units`, and have them start by themselves no more."""
        self._must("disable", "--now", *units)

    def next_run(self, timer: str) -> datetime | None:
        """When `timer` elapses next (UTC), its random delay included; None where it is not known."""
        done = self._run("show", "--timestamp=unix", "--property=NextElapseUSecRealtime", "--value", timer)
        text = done.stdout.strip() if done else ""
        return datetime.fromtimestamp(int(text[1:]), UTC) if text.startswith("@") else None

    def _must(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done is None or done.returncode != 0:
            raise RefnetError(
                f"`{self.command} {' '.join(arguments)}` failed: {_said(done) if done else 'it is not installed'}",
                "Mend what it says, then run this again; nothing is done twice.",
            )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str] | None:
        command = ["systemctl", *(["--user"] if self.user else []), "--no-ask-password", *arguments]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=60
            )
        except FileNotFoundError:
            return None
        except subprocess.TimeoutExpired:
            raise RefnetError(
                f"`{self.command} {' '.join(arguments)}` did not answer within a minute",
                f"See what it waits for: {self.command} list-jobs.",
            ) from None


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines()
    return lines[0].strip() if lines else f"exit code {done.returncode}"
