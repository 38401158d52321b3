"""Scratch servers: temporary, isolated PostgreSQL servers that proofs load into.

A fresh data folder, the template, is made once for each PostgreSQL and copied for each server: initdb takes longer than
a copy. Each template has a superuser with a name and a password that `renamed` replaces before anything is loaded. A
killed run leaves its folder behind; the next run in the same base folder removes it: `scratch_resources.py`.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psycopg import Error

from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import (
    OPEN_FILE,
    OPEN_FOLDER,
    check_own,
    empty_tree,
    explained,
    hand_over,
    make_folder,
    opened,
    read_regular,
    remove_tree,
    replace_file,
    write_all,
)
from refnet.core.locks import locked
from refnet.core.signals import delayed
from refnet.postgres.account import STATE, Account, account, make_enterable
from refnet.postgres.binaries import Binaries, copied
from refnet.postgres.cluster import C_LOCALE, NOT_KEPT, Cluster, new_password, verifier
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER
from refnet.postgres.scratch_resources import end, free_account, new_folder
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
#: Names in the folder of templates.
_PREFIX, _NEW, _RECORD, _DATA = "template-", ".new-", "record.json", "data"
#: Size limits of a file in a fresh data folder and of the record, in bytes.
_MOST, _MOST_RECORD = 64 << 20, 4096
_SHA256 = "[0-9a-f]{64}"
_FIELDS = checked.record(
    {
        "made_by": checked.text(64, like=_SHA256),
        "superuser": checked.text(63, like=r"refnet_[0-9a-f]{12}"),
        "password": checked.text(200),
        "digest": checked.text(64, like=_SHA256),
    }
)
_RENAME = "UPDATE pg_catalog.pg_authid SET rolname = %s, rolpassword = %s WHERE oid = 10"


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
        cluster, folder = new_cluster(binaries, base, stack)
        with explained(base):
            cluster = fill(cluster, _templates(folder.parent), _create)
        start(cluster, {**SETTINGS, **(settings or {})}, folder, stack)
        yield renamed(cluster)


def new_cluster(binaries: Binaries, base: Path, stack: ExitStack) -> tuple[Cluster, Path]:
    """An isolated cluster without data, and the new folder below `base` with all that belongs to it; `stack` removes it.

    As root it has a free user id. Its superuser has a random name and password.
    """
    with explained(base):
        user = stack.enter_context(free_account()) if os.geteuid() == 0 else account()
        folders = prepared(binaries, base, user, stack)
        name, password = f"refnet_{secrets.token_hex(6)}", new_password()
        way = enclosure(folders, user)
    made = Cluster(folders.data, folders.socket, user, folders.programs, name, password, way)
    return made, folders.folder


def start(cluster: Cluster, settings: Mapping[str, str], folder: Path, stack: ExitStack) -> None:
    """Start a `new_cluster` that has data, and wait until it accepts sessions; `stack` ends it, and removes its data."""
    silent = {"event_triggers": "off"} if cluster.binaries.major >= 17 else {}
    # Without isolation, a killed server leaves its segments in /dev/shm.
    segments = {} if cluster.walls.files else {"dynamic_shared_memory_type": "mmap"}
    with delayed():
        process = cluster.start_enclosed({**silent, **segments, **settings})
        stack.callback(end, process, cluster.isolation, folder)
    cluster.wait()


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


@dataclass(frozen=True)
class _TemplateRecord:
    #: The programs that made it, see `_made_by`.
    made_by: str
    superuser: str
    password: str
    #: SHA-256 over the names, modes and contents of its files.
    digest: str


def fill(cluster: Cluster, place: Path, make: Callable[[Cluster], None]) -> Cluster:
    """Fill the empty data folder of `cluster`; return it with the superuser that the server knows.

    Args:
        place: the folder of templates, accessible only to this user.
        make: runs initdb; called if the template is missing or does not match its record.
    """
    made_by = _made_by(cluster)
    folder = place / f"{_PREFIX}{hashlib.sha256(os.fsencode(cluster.binaries.folder)).hexdigest()[:12]}"
    with locked(place / ".lock"):
        for left in place.glob(f"{_NEW}*"):  # of a killed run
            remove_tree(left)
        record = _read(folder)
        if record and record.made_by == made_by and _copied(folder / _DATA, cluster) == record.digest:
            return replace(cluster, superuser=record.superuser, password=record.password)
        _empty(cluster)
        with suppress(OSError):
            remove_tree(folder)
        make(cluster)
        with suppress(OSError):  # without a template, the next one runs initdb too
            _keep(cluster, place, folder, made_by)
    return cluster


def renamed(cluster: Cluster) -> Cluster:
    """Give the superuser of the running `cluster` a random name and password, which no template knows."""
    name, password = f"refnet_{secrets.token_hex(6)}", new_password()
    try:
        with cluster.target().connect() as session:
            session.execute(_RENAME, (name, verifier(password)))
    except Error as error:
        raise RefnetError(
            f"cannot rename the superuser of the scratch server: {str(error).splitlines()[0]}",
            f"Retry; if it happens again, see {cluster.log}.",
            transient=True,
        ) from error
    return replace(cluster, superuser=name, password=password)


def _made_by(cluster: Cluster) -> str:
    """Return a hash over the version and files of PostgreSQL's programs and the options of initdb."""
    found = [cluster.binaries.tool(name).stat() for name in ("initdb", "postgres")]
    parts = (
        cluster.binaries.version,
        *C_LOCALE,
        *NOT_KEPT,
        *((one.st_ino, one.st_size, one.st_mtime_ns) for one in found),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _read(folder: Path) -> _TemplateRecord | None:
    """Return the record of the template `folder`; None if it is missing or damaged."""
    try:
        return _TemplateRecord(
            **_FIELDS(checked.document(read_regular(folder / _RECORD, _MOST_RECORD, owner=os.geteuid())))
        )
    except (OSError, ValueError, RefnetError):
        return None


def _copied(source: Path, cluster: Cluster) -> str | None:
    """Copy the data folder `source` into that of `cluster`; return its digest, None if that fails."""
    try:
        return _copy(source, cluster.data, cluster.account)
    except OSError:
        return None


def _keep(cluster: Cluster, place: Path, folder: Path, made_by: str) -> None:
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=place))
    try:
        (new / _DATA).mkdir(mode=0o700)
        digest = _copy(cluster.data, new / _DATA, None)
        record = _TemplateRecord(made_by, cluster.superuser, cluster.password, digest)
        replace_file(new / _RECORD, json.dumps(vars(record)).encode())
        new.rename(folder)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _copy(source: Path, target: Path, user: Account | None) -> str:
    """Copy a tree of folders and files by handles into the empty `target`, for `user`; return its digest."""
    seen = hashlib.sha256()
    with opened(source, OPEN_FOLDER) as begin, opened(target, OPEN_FOLDER) as end:
        _copy_folder(begin, end, user if user and user.other else None, seen)
    return seen.hexdigest()


def _copy_folder(source: int, target: int, user: Account | None, seen: Any) -> None:
    for name in sorted(os.listdir(source)):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        seen.update(os.fsencode(f"{name}\0{found.st_mode:o}\0"))
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            with opened(name, OPEN_FOLDER, source) as inner, opened(name, OPEN_FOLDER, target) as made:
                _copy_folder(inner, made, user, seen)
                _give(made, user)
            continue
        with opened(name, OPEN_FILE, source) as handle:
            size = os.fstat(handle).st_size
            if not stat.S_ISREG(os.fstat(handle).st_mode) or size > _MOST:
                raise OSError(f"{name} does not belong in a new data folder")
            content = os.read(handle, size + 1)  # one more: a growing file gets another digest
        seen.update(len(content).to_bytes(8, "big") + content)
        made = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=target)
        try:
            write_all(made, content)
            _give(made, user)
        finally:
            os.close(made)


def _give(handle: int, user: Account | None) -> None:
    if user:
        os.fchown(handle, user.uid, user.gid)


def _empty(cluster: Cluster) -> None:
    """Remove what a failed copy left in the data folder."""
    with opened(cluster.data, OPEN_FOLDER) as folder:
        empty_tree(folder)
