"""Ends all processes of a scratch server: the server, and every program that code in it has started."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from refnet.core.locks import is_locked
from refnet.core.processes import run, until
from refnet.postgres.account import Account
from refnet.postgres.free_uid import FIRST, LAST, has_processes, locked_uid
from refnet.postgres.walls import Enclosure

_SECONDS = 20.0


def end(process: subprocess.Popen[str], enclosure: Enclosure, folder: Path) -> None:
    """End all processes of a scratch server.

    The kernel ends all processes of a PID namespace with its first one. The server's pid file is not read: the pid
    belongs to another namespace, and code in the server can change the file.

    Args:
        process: the one that leads the server's processes.
        folder: the folder of the scratch server.
    """
    if enclosure.walls.processes:
        until(lambda: _led_to_its_end(process), _SECONDS)  # the first process may not have started yet
    process.kill()
    process.wait()  # a zombie would count as a running process
    if not enclosure.walls.processes:
        _end_strays(enclosure.account if enclosure.account.other else None, folder)
    wait(folder)


def wait(folder: Path) -> None:
    """Wait until the last process of a server or of a killed initdb has ended."""
    until(lambda: not is_locked(folder / "alive"), _SECONDS)


def _led_to_its_end(process: subprocess.Popen[str]) -> bool:
    for first in _children(process.pid):
        _kill(first)
    return process.poll() is not None


def end_leftover(folder: Path) -> None:
    """End the processes that a killed run left in `folder`."""
    try:
        uid = (folder / "data").lstat().st_uid
    except OSError:
        return
    if os.geteuid() == 0 and FIRST <= uid <= LAST:
        with locked_uid(uid) as free:
            if free:
                _end_strays(Account(f"#{uid}", uid, uid, other=True), folder)
    else:
        _end_strays(None, folder)


def _end_strays(user: Account | None, folder: Path) -> None:
    """Kill every process of `user`, a free user id; None: this user's processes that run in `folder`."""
    if user:
        kill = ["/bin/sh", "-c", "kill -s KILL -- -1"]  # the kernel spares the sender

        def gone() -> bool:
            run(kill, cwd="/", capture_output=True, **user.become)
            return not has_processes(user.uid)
    else:

        def gone() -> bool:
            found = _running_in(folder)
            for pid in found:
                _kill(pid)
            return not found

    until(gone, _SECONDS)


def _running_in(folder: Path) -> list[int]:
    """Return the pids of processes with a working directory in `folder`: a server and its children."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found.append(int(entry.name))
    return found


def _children(pid: int) -> list[int]:
    """Return the pids of the children of a single-threaded process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
