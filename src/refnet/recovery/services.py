"""Services that a recovery starts: what they have in common, and those that are processes of this machine.

A process is a command line from the settings. It inherits a lock for as long as it lives. So the kernel knows whether it
runs, and a reused process id misleads nobody.
"""

import hashlib
import os
import select
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from refnet.core.clock import Clock
from refnet.core.errors import RefnetError
from refnet.core.files import explained, open_file
from refnet.core.formatting import plain
from refnet.core.locks import PROBE_SECONDS, is_locked, take

_PAUSE_SECONDS = 0.5
#: The end of a log in a message: at most so many lines, of at most so many characters.
LOG_LINES, _LOG_WIDTH = 5, 160
#: So many services are explained in one message.
_EXPLAINED = 3
#: How long a process must last to count as started, in seconds.
_GRACE = 0.5
_LOCK_FD = 3
#: The end of a log that is read, in bytes.
_LOG = 64 << 10
#: The storage that RefNet itself can start.
POSTGRES = "postgres"


class Services(Protocol):
    """Starts services. All calls raise RefnetError for what a user can cause."""

    def start(self, names: Sequence[str]) -> None:
        """Start each of `names` that does not run."""

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of `names` that are not up yet."""

    def why(self, name: str) -> str:
        """Return what is known of the service `name`, which is not up: its state, and the end of its log."""


def wait_for(services: Services, names: Sequence[str], seconds: float, clock: Clock) -> None:
    """Wait until all of `names` are up; RefnetError with those that are not after `seconds`."""
    until = clock.monotonic() + seconds
    while waiting := services.waiting(names):
        if clock.monotonic() >= until:
            raise not_up(services, waiting, seconds)
        clock.sleep(_PAUSE_SECONDS)


def not_up(services: Services, waiting: Sequence[str], seconds: float) -> RefnetError:
    """Return the error for the services `waiting`, which are not up after `seconds`: each with what is known of it."""
    known = "; ".join(f"{name} {services.why(name)}" for name in waiting[:_EXPLAINED])
    return RefnetError(
        f"{', '.join(waiting)} did not come up within {seconds:.0f} s: {known}",
        "Fix the error in the log, then retry. The time limit is recover.seconds in the settings.",
    )


def log_end(text: str, hide: Callable[[str], str]) -> str:
    """Return the last lines of the log `text` as one line, without secrets and control characters."""
    lines = [plain(line.strip()) for line in hide(text).splitlines() if line.strip()][-LOG_LINES:]
    return " | ".join(line if len(line) <= _LOG_WIDTH else f"{line[: _LOG_WIDTH - 1]}…" for line in lines)


@dataclass(frozen=True)
class LocalServices:
    """Command lines as services."""

    #: Their locks and logs.
    folder: Path
    #: Starts the database server, if it does not run, and returns when it accepts connections.
    postgres: Callable[[], object]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    #: Hides secrets in what a log says.
    hide: Callable[[str], str] = str

    def start(self, names: Sequence[str]) -> None:
        for name in names:
            if name == POSTGRES:
                self.postgres()
            elif not self._runs(name):
                self._start(name)

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name != POSTGRES and not self._runs(name))

    def why(self, name: str) -> str:
        log = self.folder / f"{_key(name)}.log"
        try:
            with os.fdopen(open_file(log), "rb") as reader:
                reader.seek(max(0, reader.seek(0, os.SEEK_END) - _LOG))
                text = reader.read(_LOG).decode(errors="replace")
        except OSError:
            return "does not run"
        return f"does not run, last log lines: {log_end(text, self.hide) or 'none'}"

    def _start(self, name: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log_path = self.folder / f"{_key(name)}.log"
        with _opened(self._lock(name)) as lock, _opened(log_path) as log:
            if not take(lock.fileno(), seconds=PROBE_SECONDS):
                return  # another recovery has just started it
            stdin = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
            output = [(os.POSIX_SPAWN_DUP2, log.fileno(), to) for to in (1, 2)]
            kept_lock = (os.POSIX_SPAWN_DUP2, lock.fileno(), _LOCK_FD)
            command = shlex.split(name)
            try:
                pid = os.posix_spawnp(
                    command[0],
                    command,
                    self.environment,
                    file_actions=[stdin, *output, kept_lock],
                    setsid=True,
                )
            except OSError as error:
                raise RefnetError(
                    f"the service '{name}' cannot be started: {error.strerror}",
                    "It is a command line of recover.* in the settings: fix it there.",
                ) from None
        if _ends_within(pid, _GRACE):
            raise RefnetError(f"the service '{name}' ended at once", f"See its log: {log_path}")

    def _runs(self, name: str) -> bool:
        return is_locked(self._lock(name))

    def _lock(self, name: str) -> Path:
        return self.folder / f"{_key(name)}.lock"


def _opened(path: Path) -> BinaryIO:
    """Open the file at `path` to append to it."""
    with explained(path):
        return os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")


def _key(name: str) -> str:
    """Return a file name for a command line: its program and a digest."""
    program = Path(shlex.split(name)[0]).name
    return f"{program}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _ends_within(pid: int, seconds: float) -> bool:
    handle = os.pidfd_open(pid)
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
