"""A PostgreSQL cluster that RefNet creates and starts: on a socket in a private folder, without a TCP port.

Also how RefNet's own server is started, the embedded cluster: it is made first if it does not exist. The passwords of
a run are random and only in memory; the server gets a verifier.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from refnet.core.errors import RefnetError
from refnet.core.files import explained, remove_tree
from refnet.core.locks import is_locked, locked, take
from refnet.core.processes import run, until
from refnet.postgres.account import Account, account, cluster_folder, environment
from refnet.postgres.binaries import Binaries, copied, find
from refnet.postgres.embedded import DATABASE, SUPERUSER, socket_folder
from refnet.postgres.postmaster import PORT, START_SECONDS, Postmaster, data_major
from refnet.postgres.session import Target, own_parameters
from refnet.postgres.walls import Enclosure, Walls

#: initdb's options for templates in UTF-8 with the locale C.
C_LOCALE = ("--encoding=UTF8", "--locale=C")
#: initdb's options for a temporary data folder: fewer bytes to copy.
NOT_KEPT = ("--no-sync", "--wal-segsize=4")
_MAX_LOG_BYTES = 16 << 20
#: Time limits of initdb, and of the server that creates the embedded cluster's database.
_INITDB_SECONDS, _CREATE_SECONDS = 300.0, 300.0
_APPEND = os.O_CREAT | os.O_APPEND | os.O_WRONLY


def unicode_locale(major: int) -> Sequence[str]:
    """Return initdb's options for UTF-8 with a sort order that no library update changes (builtin from 17, else C)."""
    builtin = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if major >= 17 else ()
    return (*C_LOCALE, *builtin)


@dataclass(frozen=True)
class Cluster(Postmaster):
    """A cluster on this machine and the programs that run it."""

    binaries: Binaries
    #: The role that initdb creates.
    superuser: str = "refnet"
    #: The superuser's password; "": everybody who reaches the socket may log in.
    password: str = field(default="", repr=False)
    #: The isolation of the programs; None: not isolated.
    enclosure: Enclosure | None = None

    @property
    def walls(self) -> Walls:
        """The isolation layers of the server."""
        return self.enclosure.walls if self.enclosure else Walls()

    def target(self, database: str = "postgres", user: str = "") -> Target:
        """Return a database of this cluster, as `user` or as the superuser.

        Every parameter is set, so that inherited PG* variables have no effect. The server is authenticated by its
        system user, or by the password that it checks.
        """
        by_password = {"password": self.password, "require_auth": "scram-sha-256"}
        parameters = own_parameters(
            host=str(self.socket if self.enclosure else self.socket_in_use()),
            port=PORT,
            user=user or self.superuser,
            dbname=database,
            **(by_password if self.password else {"requirepeer": self.account.name}),
        )
        return Target(make_conninfo(**parameters), own=True)

    def create(self, locale: Sequence[str] = C_LOCALE, *, kept: bool = True) -> None:
        """Run initdb in `data`, which must be missing or empty; RefnetError with initdb's reason if it fails."""
        self.data.mkdir(exist_ok=True)
        self.account.own(self.data)
        command = [str(self.binaries.tool("initdb")), f"--pgdata={self.data}", f"--username={self.superuser}"]
        command += ["--auth-host=reject", *locale, *(() if kept else NOT_KEPT)]
        with self._locked_alive() as alive, self._authentication() as options:
            streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "pass_fds": (alive,)}
            try:
                code, _, said = self.isolation.run([*command, *options], _INITDB_SECONDS, **streams)
            except subprocess.TimeoutExpired:
                raise _initdb_failed(f"timed out after {_INITDB_SECONDS:.0f} s") from None
        if code != 0:
            raise _initdb_failed(last_error(said) if said.strip() else f"exit code {code}")

    @contextmanager
    def _authentication(self) -> Iterator[tuple[str, ...]]:
        """Yield initdb's options for authentication. The password file contains only a verifier."""
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
    def isolation(self) -> Enclosure:
        """How its programs are run."""
        return self.enclosure or Enclosure(Walls(), self.account)

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start the server, unless it runs, and wait until it accepts sessions; RefnetError if it does not.

        `settings` override postgresql.conf.
        """
        begin = 0
        if not self._comes_up(self.is_running) and not self.is_running():
            self._check_major()
            self.remove_stale_files()
            begin = self._log_begin()
            self._launch(self._command(settings or {}))
        self.wait(begin)

    def start_enclosed(self, settings: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start the server of a fresh cluster in its enclosure; return the process that leads the server's processes.

        The server ends with the calling thread. It may not accept sessions yet: see `wait`.
        """
        with self._streams() as streams:
            return self.isolation.start(self._command(settings), **streams)

    def wait(self, begin: int = 0) -> None:
        """Wait until the server accepts sessions; RefnetError with the reason if it does not.

        `begin`: the log's size before the start, in bytes.
        """
        if not self._comes_up(lambda: is_locked(self.alive)):
            raise self._down(last_error(self.log.read_bytes()[begin:].decode(errors="replace")))

    def _comes_up(self, lives: Callable[[], bool]) -> bool:
        """Wait until the server is ready or has ended; return whether it is ready."""
        until(lambda: self.is_ready() or not lives(), START_SECONDS)
        return self.is_ready()

    def _down(self, said: str) -> RefnetError:
        if is_locked(self.alive):
            return RefnetError(
                f"PostgreSQL is still starting after {START_SECONDS:.0f} s: {said}",
                f"Recovery after a crash can take long. Retry later; see {self.log}.",
            )
        return RefnetError(
            f"PostgreSQL did not start: {said}", f"Fix it and retry; the server's log is {self.log}."
        )

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
                f"the data folder {self.data} is of PostgreSQL {major}, but the programs are {self.binaries.version}",
                f"Install the server of PostgreSQL {major} (or set postgres.bin_dir), or restore a backup "
                "into a new REFNET_HOME.",
            )

    def _log_begin(self) -> int:
        """Return the size of the log, in bytes; rename a large log first."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size > _MAX_LOG_BYTES:
            self.log.rename(self.log.with_name("server.log.1"))
            return 0
        return size

    def _launch(self, command: list[str]) -> None:
        # The shell starts the server in the background and ends: no zombie, not in our terminal's process group.
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
        """Yield the handles that a server inherits, as arguments of subprocess: its log, the lock `alive`."""
        with self._locked_alive() as alive, os.fdopen(os.open(self.log, _APPEND, 0o600), "ab") as log:
            yield {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "pass_fds": (alive,)}

    @contextmanager
    def _locked_alive(self) -> Iterator[int]:
        """Lock `alive` for a child that inherits the handle: the server, or an initdb that outlives a killed run."""
        handle = os.open(self.alive, _APPEND, 0o600)
        try:
            take(handle, seconds=None)
            yield handle
        finally:
            os.close(handle)


def last_error(text: str) -> str:
    """Return the error in a program's output, without prefix."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # initdb cleans up after a failure, and says so last
    lines = [line for line in lines if not line.startswith("initdb: removing ")] or lines
    for mark in ("FATAL:", "PANIC:", "error:", "ERROR:"):
        for line in reversed(lines):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return lines[-1] if lines else "no error message"


def _initdb_failed(reason: str) -> RefnetError:
    return RefnetError(
        f"PostgreSQL's initdb failed: {reason}",
        "Fix it and retry, or set postgres.bin_dir to other programs.",
    )


def new_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(32)


def verifier(password: str) -> str:
    """Return the verifier of `password` that a server stores (SCRAM-SHA-256, RFC 5803); it does not let anybody log in.

    One iteration is enough: more of them slow guessing down, and a random password cannot be guessed.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256$1:{}${}:{}".format(*parts)


def start_embedded(home: Path, configured: Path | None) -> Cluster:
    """Return the embedded cluster; create it if it does not exist, start it if it does not run.

    Any number of processes may call this at once. `configured`: the setting postgres.bin_dir.
    """
    folder = cluster_folder(home / "postgres", account(home / "postgres" / "data"))
    user = account(folder / "data")
    binaries = find(data_major(folder / "data"), configured, server=True)
    if not user.can_enter(binaries.folder):
        with explained(folder):
            binaries = copied(binaries, folder)
    cluster = Cluster(folder / "data", socket_folder(folder, user), user, binaries, SUPERUSER)
    if not cluster.is_ready():
        with locked(folder / ".lock"), explained(folder):
            if data_major(cluster.data) is None:
                _create_embedded(cluster)
            _make_private(cluster.socket, user)
            cluster.start()
    return replace(cluster, socket=cluster.socket_in_use())


def _create_embedded(cluster: Cluster) -> None:
    """Create the cluster with the database refnet as `data.new`, then rename it: never half made after a crash."""
    draft = replace(cluster, data=cluster.data.with_name("data.new"))
    remove_tree(draft.data, {os.geteuid(), cluster.account.uid})
    draft.create(unicode_locale(cluster.binaries.major))
    command = [str(cluster.binaries.tool("postgres")), "--single", "-D", str(draft.data), "template1"]
    done = run(
        command,
        _CREATE_SECONDS,
        input=f"CREATE DATABASE {DATABASE}\n",
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        **cluster.account.become,
    )
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise RefnetError(
            f"the database {DATABASE} could not be created: {last_error(done.stderr)}",
            f"Check whether the disk of {cluster.data.parent} is full, and retry.",
        )
    draft.data.rename(cluster.data)


def _make_private(folder: Path, user: Account) -> None:
    """Create `folder`, accessible only to `user`; RefnetError if somebody else created it."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or found.st_uid != user.uid or found.st_mode & 0o077:
            raise RefnetError(
                f"{folder} is not a private folder of the user {user.name}",
                "Remove it, or choose a shorter REFNET_HOME.",
            ) from None
    else:
        user.own(folder)
