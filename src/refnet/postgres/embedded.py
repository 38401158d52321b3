"""The embedded cluster: a database for users without a server, created and started on demand.

It is in REFNET_HOME/postgres (or, as root, in its substitute, see account.cluster_folder): data, socket, the server's
log, the locks, and a copy of the programs if the server's user needs one. It runs until `refnet postgres stop`.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import remove_tree
from refnet.postgres.account import Account, account, cluster_folder
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER, Postmaster, data_major

DATABASE = "refnet"
SUPERUSER = "refnet"


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
class EmbeddedState:
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


def stop(home: Path) -> bool:
    """Stop the embedded server and wait for its end; False if none ran."""
    server = _postmaster(_place(home))
    return data_major(server.data) is not None and server.stop()


def status(home: Path) -> EmbeddedState:
    """Return the state of the embedded cluster; start and change nothing."""
    folder = _place(home)
    server = _postmaster(folder)
    major = data_major(server.data)
    if not server.is_running():
        return EmbeddedState(folder, major)
    return EmbeddedState(folder, major, server.pid(), server.socket_in_use())


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
    return Postmaster(folder / "data", socket_folder(folder, user), user)


def socket_folder(folder: Path, user: Account) -> Path:
    """Return `folder`/socket, or a short private path if that is too long for a socket."""
    if len(os.fsencode(folder / "socket")) <= MAX_SOCKET_FOLDER:
        return folder / "socket"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    private = runtime and not user.other and Path(runtime).is_dir()
    base = Path(runtime if private else tempfile.gettempdir())
    return base / f"refnet-{user.uid}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
