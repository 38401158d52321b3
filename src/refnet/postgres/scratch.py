"""Scratch servers: temporary, isolated PostgreSQL servers that proofs load into.

A killed run leaves its folder behind; the next run in the same base folder removes it: `scratch_folder.py`.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from refnet.core.files import check_own, explained, hand_over, make_folder
from refnet.core.signals import delayed
from refnet.postgres import ending, template
from refnet.postgres.account import STATE, Account, account, make_enterable
from refnet.postgres.binaries import Binaries, copied
from refnet.postgres.cluster import Cluster
from refnet.postgres.free_uid import free_account
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER
from refnet.postgres.scram import new_password
from refnet.postgres.scratch_folder import new_folder
from refnet.postgres.tempdirs import private_folder
from refnet.postgres.walls import Enclosure, ServerFolders, enclosure

#: Durability is off, as nothing is kept. Measured: a fifth faster to load.
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "maintenance_work_mem": "64MB",
}


@contextmanager
def scratch(
    binaries: Binaries, *, base: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Start an isolated server in a new folder below `base`; at the end all its processes and data are removed.

    `Cluster.walls` names its isolation layers. Its superuser has a random name and password. As root the server runs
    with a free user id, and below /var/lib/refnet-scratch if that user cannot enter `base`. `settings` override
    SETTINGS.

    The block must end in the thread that began it: the server does not outlive that thread.
    """
    with ExitStack() as stack:
        with explained(base):
            user = stack.enter_context(free_account()) if os.geteuid() == 0 else account()
            folders = prepared(binaries, base, user, stack)
            isolation = enclosure(folders, user)
            name, password = f"refnet_{secrets.token_hex(6)}", new_password()
            cluster = Cluster(folders.data, folders.socket, user, folders.programs, name, password, isolation)
            cluster = template.fill(cluster, _templates(folders.folder.parent), _create)
        silent = {"event_triggers": "off"} if cluster.binaries.major >= 17 else {}
        # Without isolation, a killed server leaves its segments in /dev/shm.
        segments = {} if isolation.walls.files else {"dynamic_shared_memory_type": "mmap"}
        with delayed():
            process = cluster.start_enclosed({**SETTINGS, **silent, **segments, **(settings or {})})
            stack.callback(ending.end, process, isolation, folders.folder)
        cluster.wait()
        yield template.renamed(cluster)


def prepared(binaries: Binaries, base: Path, user: Account, stack: ExitStack) -> ServerFolders:
    """Return the folders of a new server below `base`, see `new_folder`."""
    folder = new_folder(base, user, stack)
    programs = binaries if user.can_enter(binaries.folder) else copied(binaries, folder.parent)
    return ServerFolders(folder, _socket_folder(folder, user, stack), programs)


def _templates(place: Path) -> Path:
    """Return the folder for templates of data folders, accessible only to this user."""
    place = STATE / "refnet-scratch" if os.geteuid() == 0 else place
    make_enterable(place)  # it is also where scratch servers are, see `_enterable`
    folder = place / "templates"
    make_folder(folder)
    check_own(folder, "the folder of templates", "remove it")
    return folder


def _create(cluster: Cluster) -> None:
    """Run initdb, which needs a named user: without isolation, such a user runs it and hands the data over."""
    if cluster.walls.files or not cluster.account.other:
        cluster.create(kept=False)
        return
    named = account()
    for folder in (cluster.data, cluster.socket):
        named.own(folder)
    replace(cluster, account=named, enclosure=Enclosure(cluster.walls, named)).create(kept=False)
    for folder in (cluster.data, cluster.socket):
        hand_over(folder, named.uid, cluster.account.uid, cluster.account.gid)


def _socket_folder(folder: Path, user: Account, stack: ExitStack) -> Path:
    """Create `folder`/socket, or a short private folder if that path is too long for a socket."""
    path = folder / "socket"
    if len(bytes(path)) > MAX_SOCKET_FOLDER:
        short = stack.enter_context(private_folder())
        short.chmod(0o711)
        path = short / "socket"
    path.mkdir()
    user.own(path)
    return path
