"""Throwaway servers: a proof loads into one, and nothing of it is kept.

A run that is killed leaves its folder; the next one in the same base folder removes it. The folder's lock, held by
the kernel, tells a leftover from a run that still goes on.
"""

from __future__ import annotations

import os
import secrets
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from refnet.errors import RefnetError
from refnet.files import check_own, explained, hand_over, remove_tree
from refnet.locks import locked
from refnet.postgres import ending
from refnet.postgres.account import STATE, Account, account, make_enterable
from refnet.postgres.binaries import Binaries, copied
from refnet.postgres.cluster import Cluster, InitdbError, Locale
from refnet.postgres.free_uid import nobodys_account
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER
from refnet.postgres.scram import new_password
from refnet.postgres.tempdirs import private_folder
from refnet.postgres.walls import Enclosure, Rooms, enclosure

PREFIX = "scratch-"
_OWNER = "owner"

#: Nothing here survives, so nothing is made durable. Measured: a fifth faster to load.
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
    binaries: Binaries,
    *,
    base: Path,
    locale: Locale | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A server behind walls in a folder of its own below `base`, gone with all that it ran and all its data at the end.

    `Cluster.walls` says which walls stand. Its superuser has a name and a password of this run alone. As root the
    server runs as a user that is nobody's, and below /var/lib/refnet-scratch where that user cannot enter `base`.
    `locale`: of the templates; one that the system lacks is replaced by the nearest, which `Cluster.note` says.
    `settings` win over SETTINGS. SIGTERM and SIGHUP end the block as an exception does.

    The block ends in the thread that began it: the server does not outlive that thread.
    """
    with _signals_raise(), ExitStack() as stack:
        with explained(base):
            user = stack.enter_context(nobodys_account()) if os.geteuid() == 0 else account()
            rooms, socket = _prepared(binaries, base, user, stack)
            around = enclosure(rooms, user)
            name = f"refnet_{secrets.token_hex(6)}"
            cluster = Cluster(
                rooms.folder / "data", socket, user, rooms.programs, name, new_password(), enclosure=around
            )
            cluster = _created(cluster, locale or Locale())
        major = rooms.programs.major
        silent = {"event_triggers": "off"} if major >= 17 else {}
        # Elsewhere a server that is killed leaves them in /dev/shm.
        segments = {} if around.walls.files else {"dynamic_shared_memory_type": "mmap"}
        process = cluster.start_behind_walls({**SETTINGS, **silent, **segments, **(settings or {})})
        stack.callback(ending.end, process, around, rooms.folder)
        cluster.wait()
        yield cluster


@contextmanager
def throwaway(
    binaries: Binaries,
    *,
    base: Path,
    superuser: str = "refnet",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A server like a live one, without walls: for tests and measurements, never for what somebody else wrote."""
    with _signals_raise(), ExitStack() as stack:
        user = account()
        with explained(base):
            rooms, socket = _prepared(binaries, base, user, stack)
            cluster = Cluster(rooms.folder / "data", socket, user, rooms.programs, superuser)
            cluster.create(Locale(), sync=False)
        stack.callback(cluster.stop, signal.SIGQUIT)
        cluster.start({**SETTINGS, **(settings or {})})
        stack.callback(cluster.stop, signal.SIGQUIT, cluster.pid())
        yield cluster


def _prepared(binaries: Binaries, base: Path, user: Account, stack: ExitStack) -> tuple[Rooms, Path]:
    """A fresh folder that `stack` removes, and the socket's folder; leftovers are removed first."""
    place = _place(base, user)
    with locked(place / ".lock"):
        _remove_leftovers(place)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        stack.callback(_remove, folder)
        stack.enter_context(locked(folder / _OWNER))
    folder.chmod(0o711)
    (folder / "data").mkdir()
    user.own(folder / "data")
    programs = binaries if user.can_enter(binaries.folder) else copied(binaries, place)
    socket = _socket_folder(folder, user, stack)
    return Rooms(folder, (folder / "data", socket), programs), socket


def _place(base: Path, user: Account) -> Path:
    """`base`, made if need be; /var/lib/refnet-scratch where the server's user cannot enter it."""
    for place in (base, STATE / "refnet-scratch"):
        make_enterable(place)
        check_own(place, "the folder of scratch servers", "set REFNET_HOME to another folder")
        if user.can_enter(place):
            return place
    raise RefnetError(
        f"the user {user.name}, who runs scratch servers, cannot enter {place}",
        f"Give others the right to pass (chmod o+x) on {place} and the folders above it.",
    )


def _created(cluster: Cluster, locale: Locale) -> Cluster:
    """The cluster with templates in `locale`, else in the nearest that there is, and a note that says so."""
    refusals: list[InitdbError] = []
    for candidate in (locale, *_nearest(locale)):
        try:
            _create(cluster, candidate)
        except InitdbError as error:
            refusals.append(error)
            remove_tree(cluster.data, {cluster.account.uid, account().uid})
        else:
            return replace(cluster, note=_note(locale, candidate, refusals[0].said) if refusals else "")
    raise refusals[0]


def _create(cluster: Cluster, locale: Locale) -> None:
    """Run initdb, which asks the system for its user's name: where that is not behind walls, as one that has a name."""
    if cluster.walls.files or not cluster.account.other:
        cluster.create(locale, sync=False)
        return
    named = account()
    for folder in (cluster.data, cluster.socket):
        named.own(folder)
    replace(cluster, account=named, enclosure=Enclosure(cluster.walls, named)).create(locale, sync=False)
    for folder in (cluster.data, cluster.socket):
        hand_over(folder, named.uid, cluster.account.uid, cluster.account.gid)


def _nearest(locale: Locale) -> list[Locale]:
    """What stands in for a locale: C.UTF-8, which knows letters beyond ASCII, then C, which is everywhere."""
    if locale.encoding.upper() not in {"UTF8", "UTF-8"}:
        return [Locale(locale.encoding)]
    return [Locale(provider="builtin", name="C.UTF-8"), Locale(collate="C.UTF-8", ctype="C.UTF-8"), Locale()]


def _note(asked: Locale, got: Locale, said: str) -> str:
    name = asked.name or " / ".join(dict.fromkeys([asked.collate, asked.ctype]))
    return f"the locale {name} is not to be had here ({said}); {got.name or got.ctype} stands in"


def _socket_folder(folder: Path, user: Account, stack: ExitStack) -> Path:
    """`folder`/socket; where that is too long for a socket's address, one in a short private folder."""
    path = folder / "socket"
    if len(bytes(path)) > MAX_SOCKET_FOLDER:
        short = stack.enter_context(private_folder())
        short.chmod(0o711)
        path = short / "socket"
    path.mkdir()
    user.own(path)
    return path


def _remove_leftovers(place: Path) -> None:
    """Remove what killed runs left. Nothing in it is believed, and no link is followed: a dump was run there."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError, RefnetError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            with locked(folder / _OWNER, seconds=0.0) as ours:
                if ours:
                    ending.end_leftover(folder)
                    remove_tree(folder)


def _remove(folder: Path) -> None:
    with suppress(OSError):  # the next run tries again
        remove_tree(folder)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block, where they would end the process without a word."""

    replaced: dict[signal.Signals, Any] = {}

    def end(number: int, _frame: FrameType | None) -> None:
        for each in replaced:
            signal.signal(each, signal.SIG_IGN)  # a second one would cut the cleaning short
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                replaced[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
