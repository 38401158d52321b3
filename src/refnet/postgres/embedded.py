"""The embedded cluster: a database for users without a server, created and started on demand.

It is in REFNET_HOME/postgres (or, as root, in its substitute, see account.cluster_folder): data, socket, the server's
log, the locks, and a copy of the programs if the server's user needs one. It runs until `refnet postgres stop`.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, remove_tree
from refnet.core.locks import locked
from refnet.core.processes import run
from refnet.postgres.account import Account, account, cluster_folder, environment
from refnet.postgres.binaries import copied, find
from refnet.postgres.cluster import Cluster, data_major, last_error, unicode_locale
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER, Postmaster

DATABASE = "refnet"
SUPERUSER = "refnet"
_LOCK = ".lock"
_CREATE_SECONDS = 300.0


class NoServerError(RefnetError):
    """No database is configured, and there is no embedded cluster."""

    def __init__(self, hint: str = "") -> None:
        super().__init__(
            "no database is configured, and there is no embedded server",
            hint
            or "Set REFNET_DATABASE_URL=postgresql://USER@HOST/DATABASE (or database_url in refnet.toml); "
            "`refnet crawl ID` and `refnet network sample` create an embedded server.",
            Exit.USAGE,
        )


@dataclass(frozen=True)
class Status:
    """The state of the embedded cluster."""

    #: Contains the data folder, the log and the locks.
    folder: Path
    #: PostgreSQL's major version; None: there is no cluster.
    major: int | None = None
    #: The postmaster; None: the server does not run.
    pid: int | None = None
    #: The folder of the socket while the server runs.
    socket: Path | None = None

    @property
    def running(self) -> bool:
        return self.pid is not None


def start(home: Path, configured: Path | None) -> Cluster:
    """Return the embedded cluster; create it if it does not exist, start it if it does not run.

    Any number of processes may call this at once. `configured`: the setting postgres.bin_dir.
    """
    folder = cluster_folder(home / "postgres", account(home / "postgres" / "data"))
    user = account(folder / "data")
    binaries = find(data_major(folder / "data"), configured, server=True)
    if not user.can_enter(binaries.folder):
        with explained(folder):
            binaries = copied(binaries, folder)
    cluster = Cluster(folder / "data", _socket_folder(folder, user), user, binaries, SUPERUSER)
    if not cluster.is_ready():
        with locked(folder / _LOCK), explained(folder):
            if data_major(cluster.data) is None:
                _create(cluster)
            _make_private(cluster.socket, user)
            cluster.start()
    return replace(cluster, socket=cluster.socket_in_use())


def stop(home: Path) -> bool:
    """Stop the embedded server and wait for its end; False if none ran."""
    server = _postmaster(_place(home))
    return data_major(server.data) is not None and server.stop()


def status(home: Path) -> Status:
    """Return the state of the embedded cluster; start and change nothing."""
    folder = _place(home)
    server = _postmaster(folder)
    major = data_major(server.data)
    if not server.is_running():
        return Status(folder, major)
    return Status(folder, major, server.pid(), server.socket_in_use())


def remove(home: Path) -> None:
    """Stop the embedded server and delete its cluster. For temporary homes."""
    folder = _place(home)
    server = _postmaster(folder)
    server.stop()
    for each in {folder, home / "postgres", server.socket}:
        with suppress(OSError):
            remove_tree(each, {os.geteuid(), server.account.uid})


def _place(home: Path) -> Path:
    folder = home / "postgres"
    return cluster_folder(folder, account(folder / "data")) if folder.is_dir() else folder


def _postmaster(folder: Path) -> Postmaster:
    user = account(folder / "data")
    return Postmaster(folder / "data", _socket_folder(folder, user), user)


def _create(cluster: Cluster) -> None:
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


def _socket_folder(folder: Path, user: Account) -> Path:
    """Return `folder`/socket, or a short private path if that is too long for a socket."""
    if len(os.fsencode(folder / "socket")) <= MAX_SOCKET_FOLDER:
        return folder / "socket"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    private = runtime and not user.other and Path(runtime).is_dir()
    base = Path(runtime if private else tempfile.gettempdir())
    return base / f"refnet-{user.uid}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


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
