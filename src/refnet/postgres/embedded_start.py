"""Starts RefNet's own server, and makes its cluster first if it does not exist."""

import os
from dataclasses import replace
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.files import explained, remove_tree
from refnet.core.locks import locked
from refnet.core.processes import run
from refnet.postgres.account import Account, account, cluster_folder, environment
from refnet.postgres.binaries import copied, find
from refnet.postgres.cluster import Cluster, last_error, unicode_locale
from refnet.postgres.embedded import DATABASE, SUPERUSER, socket_folder
from refnet.postgres.postmaster import data_major

_LOCK = ".lock"
_CREATE_SECONDS = 300.0


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
    cluster = Cluster(folder / "data", socket_folder(folder, user), user, binaries, SUPERUSER)
    if not cluster.is_ready():
        with locked(folder / _LOCK), explained(folder):
            if data_major(cluster.data) is None:
                _create(cluster)
            _make_private(cluster.socket, user)
            cluster.start()
    return replace(cluster, socket=cluster.socket_in_use())


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
