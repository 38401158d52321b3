"""Throwaway servers: a proof loads into one, and nothing of it is kept.

A run that is killed leaves its folder and perhaps its server; the next scratch() in the same base folder
ends and removes both. The folder's lock, held by the kernel, tells a leftover from a run that still goes on.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from refnet.errors import RefnetError
from refnet.postgres.account import STATE, Account, account, make_enterable, writing
from refnet.postgres.binaries import Binaries, copied
from refnet.postgres.cluster import Cluster, InitdbError, Locale
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER, Postmaster, locked

PREFIX = "scratch-"
_OWNER = "owner"
_LAUNCHER = "unshare"

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
    superuser: str = "refnet_scratch",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A throwaway server in a folder of its own below `base`, gone with all its data at the end.

    As root, where the server's user cannot enter `base`: below /var/lib/refnet-scratch. `locale`: of the
    templates; one that the system lacks is replaced by the nearest, which `Cluster.note` says. `settings` win over SETTINGS. The server is without network where the kernel lets us
    (`Cluster.isolated`). SIGTERM and SIGHUP end the block as an exception does.
    """
    with _signals_raise(), ExitStack() as stack:
        with writing(base):
            cluster = _prepared(binaries, base, superuser, stack)
            cluster = _created(cluster, locale or Locale())
        launcher = isolation(cluster.account)
        stack.callback(cluster.stop, signal.SIGQUIT)
        cluster.start({**SETTINGS, **(settings or {})}, launcher)
        stack.callback(cluster.stop, signal.SIGQUIT, cluster.pid())
        yield replace(cluster, isolated=bool(launcher))


def _prepared(binaries: Binaries, base: Path, superuser: str, stack: ExitStack) -> Cluster:
    """A cluster without data yet, in a fresh folder that `stack` removes; leftovers are removed first."""
    user = account()
    place = _place(base, user)
    with locked(place / ".lock"):
        _remove_leftovers(place, user)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        stack.enter_context(locked(folder / _OWNER))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    programs = binaries if user.can_enter(binaries.folder) else copied(binaries, place)
    return Cluster(folder / "data", _socket_folder(folder, user, stack), user, programs, superuser)


def _place(base: Path, user: Account) -> Path:
    """`base`, made if need be; /var/lib/refnet-scratch where the server's user cannot enter it."""
    make_enterable(base)
    if user.can_enter(base):
        return base
    make_enterable(STATE / "refnet-scratch")
    return STATE / "refnet-scratch"


def _created(cluster: Cluster, locale: Locale) -> Cluster:
    """The cluster with templates in `locale`, else in the nearest that is to be had, and a note that says so."""
    refusals = []
    for candidate in (locale, *_nearest(locale)):
        try:
            cluster.create(candidate, sync=False)
        except InitdbError as error:
            refusals.append(error)
            shutil.rmtree(cluster.data)
        else:
            return replace(cluster, note=_note(locale, candidate, refusals[0].said) if refusals else "")
    raise refusals[0]


def _nearest(locale: Locale) -> list[Locale]:
    """What stands in for a locale: C.UTF-8, which knows letters beyond ASCII, then C, which is everywhere."""
    if locale.encoding.upper() not in {"UTF8", "UTF-8"}:
        return [Locale(locale.encoding)]
    return [Locale(provider="builtin", name="C.UTF-8"), Locale(collate="C.UTF-8", ctype="C.UTF-8"), Locale()]


def _note(asked: Locale, got: Locale, said: str) -> str:
    name = asked.name or " / ".join(dict.fromkeys([asked.collate, asked.ctype]))
    return f"the locale {name} is not to be had here ({said}); {got.name or got.ctype} stands in"


def _socket_folder(folder: Path, user: Account, stack: ExitStack) -> Path:
    """`folder`/socket; where that is too long for a socket's address, a short one that it is a link to."""
    path = folder / "socket"
    if len(bytes(path)) <= MAX_SOCKET_FOLDER:
        path.mkdir()
    else:
        short = Path(tempfile.mkdtemp(prefix="refnet-"))
        stack.callback(shutil.rmtree, short, ignore_errors=True)
        path.symlink_to(short)
        path = short
    user.own(path)
    return path


def _remove_leftovers(place: Path, user: Account) -> None:
    """Remove what killed runs left. What lies in their data folders is not to be believed: a dump was run there."""
    for folder in place.glob(f"{PREFIX}*"):
        with locked(folder / _OWNER, wait=False) as ours:
            if ours:
                socket = (folder / "socket").resolve()
                with suppress(RefnetError):  # a server without its folder ends by itself within a minute
                    Postmaster(folder / "data", socket, user).stop(signal.SIGQUIT)
                for each in (socket, folder):
                    shutil.rmtree(each, ignore_errors=True)


@lru_cache
def isolation(user: Account) -> tuple[str, ...]:
    """The command that runs the rest of its arguments as `user` and without network; () where none can.

    Sockets in the file system work across network namespaces.
    """
    program = shutil.which(_LAUNCHER)
    if program is None:
        return ()
    as_user = ["--setgid", str(user.gid), "--setuid", str(user.uid)]
    command = [program, "--net", *(as_user if user.other else ["--user", "--map-current-user"]), "--"]
    try:
        subprocess.run([*command, "/bin/sh", "-c", ":"], cwd="/", capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(command)


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
