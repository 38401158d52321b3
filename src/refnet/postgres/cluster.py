"""A PostgreSQL cluster that RefNet itself makes, starts and stops; on a socket in a private folder, on no port.

Whether a server runs is told by a lock that the kernel holds: the postmaster inherits it and keeps it as
long as one of its processes lives. A pid alone lies after a kill or a reboot, when another process has it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from refnet.errors import RefnetError
from refnet.postgres.account import Account, environment
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target, own_parameters

PORT = "5432"  # names the socket; nothing listens on it
SOCKET_NAME = f".s.PGSQL.{PORT}"
#: sun_path holds 104 bytes on macOS, 108 on Linux, the final NUL included.
MAX_SOCKET_FOLDER = 103 - len(f"/{SOCKET_NAME}")
START_SECONDS = 60.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Locale:
    """Encoding and locale of a cluster's templates, as initdb takes them. `provider`: libc, icu, builtin."""

    encoding: str = "UTF8"
    collate: str = "C"
    ctype: str = "C"
    provider: str = "libc"
    name: str | None = None
    """The locale of the provider icu or builtin."""


def sorted_by_code_point(major: int) -> Locale:
    """UTF-8 whose order no update of the system's libraries can change (builtin since 17, else C)."""
    return Locale(provider="builtin", name="C.UTF-8") if major >= 17 else Locale()


@dataclass(frozen=True)
class Cluster:
    """A cluster on this machine.

    `data`: its data folder. `socket`: the folder of its socket. Beside `data` lie the server's log
    `server.log` and the lock `alive`. `superuser`: the role that made it. `isolated`: the server was
    started without network; `note`: what could not be had as asked, or "".
    """

    binaries: Binaries
    data: Path
    socket: Path
    account: Account
    superuser: str = "refnet"
    isolated: bool = False
    note: str = ""

    @property
    def log(self) -> Path:
        return self.data.parent / "server.log"

    def target(self, database: str = "postgres") -> Target:
        """A database of this cluster. Every parameter is given, so inherited PG* variables say nothing."""
        parameters = own_parameters(
            host=str(self.socket),
            port=PORT,
            user=self.superuser,
            dbname=database,
            requirepeer=self.account.name,
        )
        return Target(make_conninfo(**parameters), own=True)

    def create(self, locale: Locale, *, sync: bool = True) -> None:
        """Run initdb in `data`, which may not exist yet; RefnetError says what it did not like."""
        self.data.mkdir()
        self.account.own(self.data)
        command = [
            str(self.binaries.tool("initdb")),
            "--pgdata",
            str(self.data),
            "--username",
            self.superuser,
        ]
        command += ["--auth-local=trust", "--auth-host=reject", *_initdb_locale(locale, self.binaries.major)]
        command += [] if sync else ["--no-sync"]
        done = subprocess.run(
            command,
            cwd="/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            **self.account.become,
        )
        if done.returncode != 0:
            raise InitdbError(_last_error(done.stderr))

    def start(self, settings: Mapping[str, str] | None = None, launcher: Sequence[str] = ()) -> None:
        """Start the server and wait until it accepts connections; RefnetError where it does not.

        `settings` win over postgresql.conf. `launcher`: a command that takes on the server's user by
        itself and runs the rest of its arguments (without network).
        """
        if self.is_running():
            return
        self._check_major()
        self._forget_the_dead()
        fixed = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket),
            "port": PORT,
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        command = [*launcher, str(self.binaries.tool("postgres")), "-D", str(self.data)]
        for name, value in {**(settings or {}), **fixed}.items():
            command += ["-c", f"{name}={value}"]
        begin = _size(self.log)
        self._launch(command, become=not launcher)
        self._wait(lambda: self._status() == "ready", begin)

    def stop(self, how: signal.Signals = signal.SIGINT) -> bool:
        """Stop the server and wait for its end; False where none ran. SIGINT: fast; SIGQUIT: immediate."""
        # A server that has just been launched has not written its pid yet.
        _until(lambda: self.pid() is not None or not _is_held(self._alive), START_SECONDS)
        pid = self.pid()
        if pid is None or not self.is_running():
            return False
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            pass  # killed from outside; what is left of it ends by itself
        except PermissionError:
            raise RefnetError(
                f"the server in {self.data} belongs to another user",
                "Stop it as the user who started it, or as root.",
            ) from None
        if not _until(lambda: not _is_held(self._alive) and not self._answers(), STOP_SECONDS):
            raise RefnetError(
                f"the server in {self.data} (pid {pid}) did not stop within {STOP_SECONDS:.0f} s",
                f"See {self.log}; a long checkpoint may still be running.",
            )
        return True

    def is_running(self) -> bool:
        """Whether a server of this cluster lives, started by us or by hand."""
        return (_is_held(self._alive) and self.pid() is not None) or self._answers()

    def pid(self) -> int | None:
        """The postmaster's process id as it wrote it; only true while the server runs."""
        lines = self._pid_file()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def socket_in_use(self) -> Path | None:
        """The folder of the socket that a running server wrote down."""
        lines = self._pid_file()
        return Path(lines[4].strip()) if len(lines) > 4 and lines[4].strip() else None

    @property
    def _alive(self) -> Path:
        return self.data.parent / "alive"

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except (FileNotFoundError, PermissionError):
            return []

    def _status(self) -> str:
        lines = self._pid_file()
        return lines[7].strip() if len(lines) > 7 else ""

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str((self.socket_in_use() or self.socket) / SOCKET_NAME))
            except OSError:
                return False
            return True

    def _check_major(self) -> None:
        major = data_major(self.data)
        if major != self.binaries.major:
            raise RefnetError(
                f"the data in {self.data} is PostgreSQL {major}'s; the programs here are {self.binaries.version}",
                f"Install the server of PostgreSQL {major} (or set postgres.bin_dir), or restore a backup "
                "into a new REFNET_HOME.",
            )

    def _forget_the_dead(self) -> None:
        """Remove what a killed server left; called only when none of its processes lives.

        PostgreSQL itself would refuse to start where an unrelated process has the old pid, as happens
        after a reboot and in containers.
        """
        for path in (
            self.data / "postmaster.pid",
            self.socket / SOCKET_NAME,
            self.socket / f"{SOCKET_NAME}.lock",
        ):
            path.unlink(missing_ok=True)

    def _launch(self, command: list[str], *, become: bool) -> None:
        # The shell puts the server in the background and ends: no zombie, no group of our terminal.
        private = os.O_CREAT | os.O_APPEND | os.O_WRONLY
        alive = os.open(self._alive, private, 0o600)
        log = os.open(self.log, private, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", *command],
                cwd="/",
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(alive,),
                start_new_session=True,
                check=True,
                **(self.account.become if become else {}),
            )
        finally:
            os.close(alive)
            os.close(log)

    def _wait(self, ready: Callable[[], bool], log_begin: int) -> None:
        done = _until(lambda: ready() or not _is_held(self._alive), START_SECONDS)
        if ready() and _is_held(self._alive):
            return
        with self.log.open("rb") as log:
            log.seek(log_begin)
            said = _last_error(log.read().decode(errors="replace"))
        if done:
            raise RefnetError(f"PostgreSQL did not start: {said}", f"The whole story is in {self.log}.")
        raise RefnetError(
            f"PostgreSQL is still starting after {START_SECONDS:.0f} s: {said}",
            f"After a crash this can take long. Try again later; it is told in {self.log}.",
        )


class InitdbError(RefnetError):
    """initdb refused; the message holds its reason."""

    def __init__(self, said: str) -> None:
        super().__init__(
            f"PostgreSQL's initdb failed: {said}",
            "Mend that, or name other programs as postgres.bin_dir.",
        )
        self.said = said


def data_major(data: Path) -> int | None:
    """The major that a data folder belongs to; None where there is none."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the kernel's lock on `path`; yields False where another process has it and `wait` is False."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _is_held(path: Path) -> bool:
    """Whether a process holds the lock on `path`. Shared, so that those who ask do not see each other."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _initdb_locale(locale: Locale, major: int) -> list[str]:
    arguments = [
        "--encoding",
        locale.encoding,
        f"--lc-collate={locale.collate}",
        f"--lc-ctype={locale.ctype}",
        "--locale=C",  # messages, money, numbers, time
    ]
    if major >= 15 and locale.provider != "libc":
        arguments.append(f"--locale-provider={locale.provider}")
        if locale.name:
            option = "--icu-locale" if locale.provider == "icu" else "--builtin-locale"
            arguments.append(f"{option}={locale.name}")
    return arguments


def _last_error(text: str) -> str:
    """The line of a server's output that says what was wrong, without its prefix."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for mark in ("FATAL:", "PANIC:", "error:", "ERROR:"):
        for line in reversed(lines):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return lines[-1] if lines else "it said nothing"
