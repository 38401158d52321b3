"""The embedded cluster: the database of someone who has no server. Made and started when it is needed.

It lies below REFNET_HOME/postgres (or, as root, in the folder that stands in for it, see account.ground):
data, socket, the server's log, the locks, and a copy of the programs where the server's user needs one.
It runs on until `refnet postgres stop`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import explained, remove_tree
from refnet.locks import locked
from refnet.postgres.account import Account, account, environment, ground
from refnet.postgres.binaries import copied, find
from refnet.postgres.cluster import Cluster, data_major, last_error, sorted_by_code_point
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER, Postmaster
from refnet.processes import run

DATABASE = "refnet"
SUPERUSER = "refnet"
_LOCK = ".lock"
_CREATE_SECONDS = 300.0


class NoServerError(RefnetError):
    """No database is configured, and the embedded cluster was never made."""

    def __init__(self, hint: str = "") -> None:
        super().__init__(
            "no database is configured, and RefNet has no server of its own here",
            hint
            or "Set REFNET_DATABASE_URL=postgresql://USER@HOST/DATABASE (or database_url in refnet.toml); "
            "`refnet network sample` makes a server of RefNet's own.",
            Exit.USAGE,
        )


@dataclass(frozen=True)
class Status:
    """How the embedded cluster stands. `major` and `pid` None: there is no cluster, no server.

    `place`: the folder that holds it all. `socket`: the folder of the socket while the server runs.
    """

    place: Path
    major: int | None = None
    pid: int | None = None
    socket: Path | None = None

    @property
    def running(self) -> bool:
        return self.pid is not None


def start(home: Path, configured: Path | None) -> Cluster:
    """The embedded cluster, made if it is not there and started if it does not run.

    Any number of processes may call this at once. `configured`: the setting postgres.bin_dir.
    """
    place = ground(home / "postgres", account(home / "postgres" / "data"))
    user = account(place / "data")
    binaries = find(data_major(place / "data"), configured, server=True)
    if not user.can_enter(binaries.folder):
        with explained(place):
            binaries = copied(binaries, place)
    cluster = Cluster(place / "data", _socket_folder(place, user), user, binaries, SUPERUSER)
    if not cluster.is_ready():
        with locked(place / _LOCK), explained(place):
            if data_major(cluster.data) is None:
                _create(cluster)
            _make_private(cluster.socket, user)
            cluster.start()
    return replace(cluster, socket=cluster.socket_in_use())


def stop(home: Path) -> bool:
    """Stop the embedded server and wait for its end; False where none ran."""
    server = _postmaster(_place(home))
    return data_major(server.data) is not None and server.stop()


def status(home: Path) -> Status:
    """How the embedded cluster stands; starts and changes nothing."""
    place = _place(home)
    server = _postmaster(place)
    major = data_major(server.data)
    if not server.is_running():
        return Status(place, major)
    return Status(place, major, server.pid(), server.socket_in_use())


def remove(home: Path) -> None:
    """Stop the embedded server and delete its cluster, wherever it lies. For homes that are thrown away."""
    place = _place(home)
    server = _postmaster(place)
    server.stop()
    for folder in {place, home / "postgres", server.socket}:
        with suppress(OSError):
            remove_tree(folder, {os.geteuid(), server.account.uid})


def _place(home: Path) -> Path:
    folder = home / "postgres"
    return ground(folder, account(folder / "data")) if folder.is_dir() else folder


def _postmaster(place: Path) -> Postmaster:
    user = account(place / "data")
    return Postmaster(place / "data", _socket_folder(place, user), user)


def _create(cluster: Cluster) -> None:
    """Make the cluster and the database refnet under another name: it is there whole, or not at all."""
    draft = replace(cluster, data=cluster.data.with_name("data.new"))
    remove_tree(draft.data, {os.geteuid(), cluster.account.uid})
    draft.create(sorted_by_code_point(cluster.binaries.major))
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
            f"See whether the disk of {cluster.data.parent} is full; then run this again.",
        )
    draft.data.rename(cluster.data)


def _socket_folder(place: Path, user: Account) -> Path:
    """`place`/socket; where that is too long for a socket's address, a short one that is as private."""
    if len(os.fsencode(place / "socket")) <= MAX_SOCKET_FOLDER:
        return place / "socket"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = (
        Path(runtime)
        if runtime and not user.other and Path(runtime).is_dir()
        else Path(tempfile.gettempdir())
    )
    return base / f"refnet-{user.uid}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def _make_private(folder: Path, user: Account) -> None:
    """Make `folder` for `user` alone; refuse one that somebody else has put there."""
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
