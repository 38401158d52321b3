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
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import FrameType

from refnet.postgres.account import Account, account, ground
from refnet.postgres.binaries import Binaries, copied
from refnet.postgres.cluster import MAX_SOCKET_FOLDER, Cluster, InitdbError, Locale, locked

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

    `locale`: of the templates; one that the system lacks is replaced by C, which `Cluster.note` says.
    `settings` win over SETTINGS. The server is without network where the kernel lets us
    (`Cluster.isolated`). SIGTERM and SIGHUP end the block as an exception does.
    """
    user = account()
    place = ground(base, user)
    with _signals_raise(), ExitStack() as stack:
        with locked(place / ".lock"):
            _remove_leftovers(place, user)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            stack.enter_context(locked(folder / _OWNER))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.chmod(0o711)
            programs = binaries if user.can_enter(binaries.folder) else copied(binaries, place)
        cluster = Cluster(programs, folder / "data", _socket_folder(folder, user, stack), user, superuser)
        cluster = _created(cluster, locale or Locale())
        launcher = isolation(user)
        stack.callback(cluster.stop, signal.SIGQUIT)
        cluster.start({**SETTINGS, **(settings or {})}, launcher)
        yield replace(cluster, isolated=bool(launcher))


def _created(cluster: Cluster, locale: Locale) -> Cluster:
    """The cluster with templates in `locale`; in C, and a note, where the system or the build lacks it."""
    try:
        cluster.create(locale, sync=False)
    except InitdbError as error:
        shutil.rmtree(cluster.data)
        cluster.create(Locale(encoding=locale.encoding), sync=False)
        asked = locale.name or " / ".join(dict.fromkeys([locale.collate, locale.ctype]))
        return replace(cluster, note=f"the locale {asked} is not to be had here ({error.said}); C stands in")
    return cluster


def _socket_folder(folder: Path, user: Account, stack: ExitStack) -> Path:
    path = folder / "socket"
    if len(bytes(path)) > MAX_SOCKET_FOLDER:
        path = Path(tempfile.mkdtemp(prefix="refnet-"))
        stack.callback(shutil.rmtree, path, ignore_errors=True)
    path.mkdir(exist_ok=True)
    user.own(path)
    return path


def _remove_leftovers(place: Path, user: Account) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        with locked(folder / _OWNER, wait=False) as ours:
            if ours:
                left = Cluster(Binaries(folder, 0, "", ""), folder / "data", folder / "socket", user)
                elsewhere = left.socket_in_use()
                left.stop(signal.SIGQUIT)
                shutil.rmtree(folder)
                if elsewhere and elsewhere != left.socket:
                    shutil.rmtree(elsewhere, ignore_errors=True)


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

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    replaced = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                replaced[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
