"""A data folder, and a check whether a server runs in it.

The check uses a kernel lock: the postmaster inherits it, and it lasts as long as one of the server's processes lives.
A pid is not enough: after a kill or a reboot another process can have it.
"""

import os
import re
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.locks import is_locked
from refnet.core.processes import until
from refnet.postgres.account import Account

PORT = "5432"  # names the socket; nothing listens on it
SOCKET_NAME = f".s.PGSQL.{PORT}"
#: sun_path has 104 bytes on macOS, 108 on Linux, the final NUL included.
MAX_SOCKET_FOLDER = 103 - len(f"/{SOCKET_NAME}")
#: Linux's largest is 4194304.
_PID = re.compile(r"[1-9][0-9]{0,6}")
START_SECONDS = 60.0
LAUNCH_SECONDS = 10.0
STOP_SECONDS = 60.0
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class Postmaster:
    """A server's data folder and the folder of its socket, which only `account` can enter.

    The log `server.log` and the lock `alive` are beside `data`.
    """

    data: Path
    socket: Path
    account: Account

    @property
    def log(self) -> Path:
        return self.data.parent / "server.log"

    @property
    def alive(self) -> Path:
        return self.data.parent / "alive"

    def is_running(self) -> bool:
        """Return whether a server runs here, started by us or by hand; it may still be starting or stopping."""
        return (is_locked(self.alive) and self.pid() is not None) or self._answers()

    def is_ready(self) -> bool:
        """Return whether the server accepts sessions."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[7].strip() == "ready" and self._answers()

    def pid(self) -> int | None:
        """Return the postmaster's process id from its pid file; valid only while the server runs."""
        lines = self._pid_file()
        return int(lines[0]) if lines and _PID.fullmatch(lines[0].strip()) else None

    def socket_in_use(self) -> Path:
        """Return the folder of the running server's socket; if no server runs, `socket`."""
        lines = self._pid_file()
        return Path(lines[4].strip()) if len(lines) > 4 and lines[4].strip() else self.socket

    def stop(self, how: signal.Signals = signal.SIGINT, pid: int | None = None) -> bool:
        """Stop the server and wait for its end; False if none ran.

        Args:
            how: SIGINT for a fast shutdown, SIGQUIT for an immediate one.
            pid: the postmaster, known since its start; None: from the pid file, which code in the server can change.
        """
        # A server that has just been started has not written its pid yet; an initdb never writes one.
        until(lambda: self.pid() is not None or not is_locked(self.alive), LAUNCH_SECONDS)
        pid = pid or self.pid()
        if pid is None or not self.is_running():
            return False
        if not self.account.signal(pid, how) and self.is_running():
            raise RefnetError(
                f"the server in {self.data} cannot be stopped: its process {pid} does not belong to the user {self.account.name}",
                "Stop it as the user who started it, or as root.",
            )
        if not until(lambda: not self.is_running(), STOP_SECONDS):
            raise RefnetError(
                f"the server in {self.data} (pid {pid}) did not stop within {STOP_SECONDS:.0f} s",
                f"See {self.log}; a long checkpoint may still be running.",
            )
        return True

    def remove_stale_files(self) -> None:
        """Remove the files of a killed server; call it only if no server runs.

        PostgreSQL itself would refuse to start if an unrelated process has the old pid, as happens after a reboot and
        in containers. The lock gets a new file: a stray child may still have the old one locked.
        """
        left = (self.socket / SOCKET_NAME, self.socket / f"{SOCKET_NAME}.lock", self.alive)
        for path in (self.data / "postmaster.pid", *left):
            path.unlink(missing_ok=True)

    def _pid_file(self) -> list[str]:
        # Root reads what another user may have put there: no link, no pipe, no more than a page.
        try:
            handle = os.open(self.data / "postmaster.pid", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return []
        with os.fdopen(handle, "rb") as file:
            return file.read(4096).decode(errors="replace").splitlines()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_ANSWER_SECONDS)
            try:
                probe.connect(str(self.socket_in_use() / SOCKET_NAME))
            except OSError:
                return False
            return True


def data_major(data: Path) -> int | None:
    """Return the major version of a data folder; None if the folder does not exist."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise RefnetError(
            f"{data} is not the data folder of a PostgreSQL cluster",
            "Restore that folder, or set REFNET_HOME to another one.",
        ) from None
    except PermissionError:
        raise RefnetError(
            f"{data} belongs to another user",
            "Run this as its owner or as root, or set REFNET_HOME to another folder.",
        ) from None
