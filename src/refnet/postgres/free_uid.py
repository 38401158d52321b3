"""A free user id for a scratch server that root starts: nothing on this machine belongs to it.

systemd and the distributions reserve 61184 to 65519 for services with temporary users (DynamicUser=). The lock is
systemd's own, a file in /run/systemd/dynamic-uid, so that neither systemd nor another proof takes an id in use.
"""

import grp
import os
import pwd
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.locks import take
from refnet.postgres.account import Account

FIRST, LAST = 61184, 65519
_SYSTEMD = Path("/run/systemd/dynamic-uid")
_OURS = Path("/run/refnet/uids")
_TRIES = 200


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
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == uid:
                    return True
    return False
