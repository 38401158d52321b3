"""A PostgreSQL cluster that RefNet itself makes and starts; on a socket in a private folder, on no port."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from refnet.errors import RefnetError
from refnet.locks import is_locked, take
from refnet.postgres.account import environment
from refnet.postgres.binaries import Binaries
from refnet.postgres.postmaster import PORT, START_SECONDS, Postmaster, until
from refnet.postgres.scram import verifier
from refnet.postgres.session import Target, own_parameters
from refnet.postgres.walls import Enclosure, Walls
from refnet.processes import run

_MAX_LOG_BYTES = 16 << 20
_INITDB_SECONDS = 300.0
_APPEND = os.O_CREAT | os.O_APPEND | os.O_WRONLY


@dataclass(frozen=True)
class Locale:
    """Encoding and locale of a cluster's templates, as initdb takes them.

    `provider`: libc, icu or builtin; `name`: the locale of the last two.
    """

    encoding: str = "UTF8"
    collate: str = "C"
    ctype: str = "C"
    provider: str = "libc"
    name: str | None = None


def sorted_by_code_point(major: int) -> Locale:
    """UTF-8 whose order no update of the system's libraries can change (builtin since 17, else C)."""
    return Locale(provider="builtin", name="C.UTF-8") if major >= 17 else Locale()


@dataclass(frozen=True)
class Cluster(Postmaster):
    """A cluster on this machine, and the programs that run it.

    superuser: the role that made it. password: of every role that may log in; "": whoever reaches the socket
    may. note: what is not as it was asked for, or "". enclosure: the walls that its programs run behind; None: they
    run as this process's children do.
    """

    binaries: Binaries
    superuser: str = "refnet"
    password: str = field(default="", repr=False)
    note: str = ""
    enclosure: Enclosure | None = None

    @property
    def walls(self) -> Walls:
        """The walls that stand around the server."""
        return self.enclosure.walls if self.enclosure else Walls()

    def target(self, database: str = "postgres", user: str = "") -> Target:
        """A database of this cluster, as `user` or its superuser.

        Every parameter is given, so inherited PG* variables say nothing. The socket's other end shows that it is our
        server by its user, or by knowing the password.
        """
        shown = {"password": self.password, "require_auth": "scram-sha-256"}
        parameters = own_parameters(
            host=str(self.socket if self.enclosure else self.socket_in_use()),
            port=PORT,
            user=user or self.superuser,
            dbname=database,
            **(shown if self.password else {"requirepeer": self.account.name}),
        )
        return Target(make_conninfo(**parameters), own=True)

    def create(self, locale: Locale, *, sync: bool = True) -> None:
        """Run initdb in `data`, which may not exist yet; InitdbError says what it did not like."""
        self.data.mkdir(exist_ok=True)
        self.account.own(self.data)
        command = [str(self.binaries.tool("initdb")), f"--pgdata={self.data}", f"--username={self.superuser}"]
        command += ["--auth-host=reject", *_initdb_locale(locale, self.binaries.major)]
        command += [] if sync else ["--no-sync"]
        with self._kept_alive() as alive, self._authentication() as options:
            process = self._behind_walls.start(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(alive,),
            )
            with process:
                try:
                    _, said = process.communicate(timeout=_INITDB_SECONDS)
                except subprocess.TimeoutExpired:
                    raise InitdbError(f"it did not end within {_INITDB_SECONDS:.0f} s") from None
                finally:
                    if process.poll() is None:
                        process.kill()
        if process.returncode != 0:
            raise InitdbError(last_error(said) if said.strip() else f"it ended with {process.returncode}")

    @contextmanager
    def _authentication(self) -> Iterator[tuple[str, ...]]:
        """What initdb is told of how roles log in. The file for it holds no secret, only what checks one."""
        if not self.password:
            yield ("--auth-local=trust",)
            return
        file = self.socket / "verifier"
        file.write_text(f"{verifier(self.password)}\n", encoding="ascii")
        self.account.own(file, 0o600)
        try:
            yield ("--auth-local=scram-sha-256", f"--pwfile={file}")
        finally:
            file.unlink()

    @property
    def _behind_walls(self) -> Enclosure:
        return self.enclosure or Enclosure(Walls(), self.account)

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start the server, unless it runs, and wait until it accepts sessions; RefnetError where it does not.

        `settings` win over postgresql.conf.
        """
        begin = 0
        if not self._comes_up(self.is_running) and not self.is_running():
            self._check_major()
            self.forget_the_dead()
            begin = self._log_begin()
            self._launch(self._command(settings or {}))
        self.wait(begin)

    def start_behind_walls(self, settings: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start the server of a fresh cluster; the process that stands for all that run behind its walls.

        It ends with the thread that calls this. `wait` for the server.
        """
        with self._streams() as streams:
            return self._behind_walls.start(self._command(settings), **streams)

    def wait(self, begin: int = 0) -> None:
        """Wait until the server accepts sessions; RefnetError says why it does not. `begin`: of its log, in bytes."""
        if not self._comes_up(lambda: is_locked(self.alive)):
            raise self._down(last_error(self.log.read_bytes()[begin:].decode(errors="replace")))

    def _comes_up(self, lives: Callable[[], bool]) -> bool:
        """Wait until the server is ready, as long as it lives; whether it is."""
        until(lambda: self.is_ready() or not lives(), START_SECONDS)
        return self.is_ready()

    def _down(self, said: str) -> RefnetError:
        if is_locked(self.alive):
            return RefnetError(
                f"PostgreSQL is still starting after {START_SECONDS:.0f} s: {said}",
                f"After a crash this can take long. Try again later; it is told in {self.log}.",
            )
        return RefnetError(f"PostgreSQL did not start: {said}", f"The whole story is in {self.log}.")

    def _command(self, settings: Mapping[str, str]) -> list[str]:
        fixed = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket),
            "port": PORT,
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        command = [str(self.binaries.tool("postgres")), "-D", str(self.data)]
        for name, value in {**settings, **fixed}.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _check_major(self) -> None:
        major = data_major(self.data)
        if major != self.binaries.major:
            raise RefnetError(
                f"the data in {self.data} is of PostgreSQL {major}, the programs are {self.binaries.version}",
                f"Install the server of PostgreSQL {major} (or set postgres.bin_dir), or restore a backup "
                "into a new REFNET_HOME.",
            )

    def _log_begin(self) -> int:
        """Where the log's next line begins; a long log is put aside first."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size > _MAX_LOG_BYTES:
            self.log.rename(self.log.with_name("server.log.1"))
            return 0
        return size

    def _launch(self, command: list[str]) -> None:
        # The shell puts the server in the background and ends: no zombie, no group of our terminal.
        with self._streams() as streams:
            run(
                ["/bin/sh", "-c", '"$@" &', "sh", *command],
                cwd="/",
                env=environment(),
                start_new_session=True,
                **streams,
                **self.account.become,
            )

    @contextmanager
    def _streams(self) -> Iterator[dict[str, Any]]:
        """What a server inherits, as subprocess takes it: its log, and the lock `alive`."""
        with self._kept_alive() as alive, os.fdopen(os.open(self.log, _APPEND, 0o600), "ab") as log:
            yield {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "pass_fds": (alive,)}

    @contextmanager
    def _kept_alive(self) -> Iterator[int]:
        """The lock `alive`, held by whoever inherits it: the server, or an initdb that outlives a killed run."""
        handle = os.open(self.alive, _APPEND, 0o600)
        try:
            take(handle, seconds=None)
            yield handle
        finally:
            os.close(handle)


class InitdbError(RefnetError):
    """initdb refused; `said` is its reason."""

    def __init__(self, said: str) -> None:
        super().__init__(
            f"PostgreSQL's initdb failed: {said}",
            "Correct that, or name other programs as postgres.bin_dir.",
        )
        self.said = said


def data_major(data: Path) -> int | None:
    """The major that a data folder belongs to; None where there is none."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise RefnetError(
            f"{data} is not the data of a PostgreSQL cluster",
            "Restore that folder, or set REFNET_HOME to another one.",
        ) from None
    except PermissionError:
        raise RefnetError(
            f"{data} belongs to another user",
            "Run this as the user who made it or as root, or set REFNET_HOME to another folder.",
        ) from None


def last_error(text: str) -> str:
    """The line of a program's output that says what was wrong, without its prefix."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [
        line for line in lines if not line.startswith("initdb: removing ")
    ] or lines  # what it does after a failure
    for mark in ("FATAL:", "PANIC:", "error:", "ERROR:"):
        for line in reversed(lines):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return lines[-1] if lines else "it said nothing"


def _initdb_locale(locale: Locale, major: int) -> list[str]:
    arguments = [
        f"--encoding={locale.encoding}",
        f"--lc-collate={locale.collate}",
        f"--lc-ctype={locale.ctype}",
        "--locale=C",  # messages, money, numbers, time
    ]
    if major >= 15 and locale.provider != "libc":  # before, templates are libc's
        arguments.append(f"--locale-provider={locale.provider}")
        if locale.name:
            option = "--icu-locale" if locale.provider == "icu" else "--builtin-locale"
            arguments.append(f"{option}={locale.name}")
    return arguments
