"""What a scratch server occupies: a user id, a folder, processes; all are freed at its end, or after a killed run.

The user id is free: nothing on this machine belongs to it. systemd and the distributions reserve 61184 to 65519 for
services with temporary users (DynamicUser=). Its lock is systemd's own, a file in /run/systemd/dynamic-uid, so that
neither systemd nor another proof takes an id in use. The folder's lock distinguishes a leftover from a running server.
"""

import fcntl
import grp
import os
import pwd
import secrets
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from refnet.core import processes
from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, check_own, opened, remove_tree
from refnet.core.locks import is_locked, locked, take
from refnet.core.processes import run, until
from refnet.postgres.account import STATE, Account, make_enterable
from refnet.postgres.tempdirs import remove_leftovers
from refnet.postgres.walls import Enclosure

FIRST, LAST = 61184, 65519
_SYSTEMD = Path("/run/systemd/dynamic-uid")
_OURS = Path("/run/refnet/uids")
_TRIES = 200
#: How the folders are named, and the file in each that its run has locked.
PREFIX, _OWNER = "scratch-", "owner"
#: How long the processes may take to end.
_SECONDS = 20.0
#: ioctl(2): FS_IOC_GETFLAGS and FS_IOC_SETFLAGS as most Linux architectures have them; the flag T of chattr(1).
_GET_FLAGS, _SET_FLAGS, _TOP_FOLDER = 0x8008_6601, 0x4008_6602, 0x2_0000


@contextmanager
def free_account() -> Iterator[Account]:
    """Yield an account with a free user id, locked while the block runs. Only root can use it."""
    for _ in range(_TRIES):
        uid = FIRST + secrets.randbelow(LAST - FIRST + 1)
        with locked_uid(uid) as ours:
            if ours and not _known(uid) and not has_processes(uid):
                yield Account(f"#{uid}", uid, uid, other=True)
                return
    raise RefnetError(
        f"no user id between {FIRST} and {LAST} is free",
        f"End the processes of such users (ps -eo uid,pid,args), or look at the locks in {_folder()}.",
    )


def _folder() -> Path:
    return _SYSTEMD if _SYSTEMD.is_dir() else _OURS


@contextmanager
def locked_uid(uid: int) -> Iterator[bool]:
    """Lock a user id while the block runs; yield False if another process has it locked."""
    _folder().mkdir(parents=True, exist_ok=True)
    path = _folder() / str(uid)
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    ours = False
    try:
        ours = take(handle) and os.fstat(handle).st_nlink > 0  # its owner may have removed the file
        if ours:
            os.write(handle, b"refnet\n")
        yield ours
    finally:
        if ours:
            path.unlink(missing_ok=True)
        os.close(handle)


def _known(uid: int) -> bool:
    with suppress(KeyError):
        pwd.getpwuid(uid)
        return True
    with suppress(KeyError):
        grp.getgrgid(uid)
        return True
    return False


def has_processes(uid: int) -> bool:
    """Return whether the user `uid` has processes."""
    return bool(processes.found(lambda one: one.stat().st_uid == uid))


def new_folder(base: Path, user: Account, stack: ExitStack) -> Path:
    """Create a folder below `base` with a folder `data` of `user`; `stack` removes it. First remove leftovers."""
    place = _enterable(base, user)
    with locked(place / ".lock"):
        remove_leftovers(place, PREFIX, _OWNER, end=end_leftover)
        _spread(place)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        stack.callback(_remove, folder)
        stack.enter_context(locked(folder / _OWNER))
    folder.chmod(0o711)
    (folder / "data").mkdir()
    user.own(folder / "data")
    return folder


def _spread(place: Path) -> None:
    """Let ext4 put each new folder of `place` elsewhere on the disk, as it does with the homes of users.

    ext4 takes no inode that was freed within minutes, and passes all of them on its way to each new file. Measured: near
    the files of the last scratch server, a table costs three times as much. Other file systems refuse the flag.
    """
    with suppress(OSError), opened(place, OPEN_FOLDER) as folder:
        (flags,) = struct.unpack("I", fcntl.ioctl(folder, _GET_FLAGS, struct.pack("I", 0)))
        if not flags & _TOP_FOLDER:
            fcntl.ioctl(folder, _SET_FLAGS, struct.pack("I", flags | _TOP_FOLDER))


def _enterable(base: Path, user: Account) -> Path:
    """Return `base`, created if it is missing, or /var/lib/refnet-scratch if the server's user cannot enter it."""
    for place in (base, STATE / "refnet-scratch"):
        make_enterable(place)
        check_own(place, "the folder of scratch servers", "set REFNET_HOME to another folder")
        if user.can_enter(place):
            return place
    raise RefnetError(
        f"the user {user.name}, which runs scratch servers, cannot enter {place}",
        f"Let other users enter {place} and the folders above it (chmod o+x).",
    )


def _remove(folder: Path) -> None:
    wait(folder)
    with suppress(OSError):  # the next run tries again
        remove_tree(folder)


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
            found = processes.found(lambda one: (one / "cwd").readlink().is_relative_to(folder))
            found = [pid for pid in found if pid != os.getpid()]
            for pid in found:
                _kill(pid)
            return not found

    until(gone, _SECONDS)


def _children(pid: int) -> list[int]:
    """Return the pids of the children of a single-threaded process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
