"""systemctl and its answers. A missing systemd, as in a container, is an answer and no error."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.settings import user_path


@dataclass(frozen=True)
class Systemd:
    """A systemd manager: the system's, or this user's."""

    user: bool

    @property
    def folder(self) -> Path:
        """The folder of installed units."""
        if not self.user:
            return Path("/etc/systemd/system")
        config = os.environ.get("XDG_CONFIG_HOME", "")
        return (Path(config) if config.startswith("/") else user_path("~/.config")) / "systemd" / "user"

    @property
    def command(self) -> str:
        """The command that reaches this manager."""
        return "systemctl --user" if self.user else "systemctl"

    @property
    def has_user_bus(self) -> bool:
        """Whether the environment names a bus of the user; `su`, `sudo` and cron set none."""
        return any(os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"))

    def unreachable(self) -> str | None:
        """Return why the manager cannot be reached; None if it can."""
        done = self._run("show", "--property=Version")
        if done is None:
            return "systemctl is not installed"
        return None if done.returncode == 0 else _first_line(done)

    def reload(self) -> None:
        """Make the manager read its units again."""
        self._must("daemon-reload")

    def is_enabled(self, unit: str) -> bool:
        """Return whether `unit` starts at boot; works without a running manager."""
        return self._says("is-enabled", unit) == "enabled"

    def is_active(self, unit: str) -> bool:
        """Return whether `unit` runs; an active timer waits for its next time."""
        return self._says("is-active", unit) == "active"

    def is_waiting(self, timer: str) -> bool:
        """Return whether `timer` is enabled and active."""
        return self.is_enabled(timer) and self.is_active(timer)

    def enable(self, units: Iterable[str]) -> None:
        """Start `units` now and at boot."""
        self._must("enable", "--now", *units)

    def disable(self, units: Iterable[str]) -> None:
        """Stop `units` now, and do not start them at boot."""
        self._must("disable", "--now", *units)

    def next_run(self, timer: str) -> datetime | None:
        """Return when `timer` elapses next (UTC), its random delay included; None if unknown."""
        text = self._says("show", "--timestamp=unix", "--property=NextElapseUSecRealtime", "--value", timer)
        return datetime.fromtimestamp(int(text[1:]), UTC) if text.startswith("@") else None

    def _says(self, *arguments: str) -> str:
        done = self._run(*arguments)
        return done.stdout.strip() if done else ""

    def _must(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done is None or done.returncode != 0:
            raise RefnetError(
                f"`{self.command} {' '.join(arguments)}` failed: {_first_line(done) if done else 'not installed'}",
                "Fix the cause and retry; a retry is safe.",
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
                f"List its pending jobs: {self.command} list-jobs.",
            ) from None


def _first_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines()
    return lines[0].strip() if lines else f"exit code {done.returncode}"
