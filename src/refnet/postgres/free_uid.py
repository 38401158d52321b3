"""A user id that is nobody's, for a scratch server that root starts: it owns nothing on this machine.

It comes from 61184 to 65519, which systemd and the distributions set apart for services whose user exists only
while they run (DynamicUser=). The lock is systemd's own, a file in /run/systemd/dynamic-uid, so that neither it nor
another proof takes an id that is in use.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refnet.errors import RefnetError
from refnet.locks import take
from refnet.postgres.account import Account

FIRST, LAST = 61184, 65519
_SYSTEMD = Path("/run/systemd/dynamic-uid")
_OURS = Path("/run/refnet/uids")
_TRIES = 200


@contextmanager
def nobodys_account() -> Iterator[Account]:
    """An account of a free user id, held for as long as the block runs. Only root can take one on."""
    for _ in range(_TRIES):
        uid = FIRST + secrets.randbelow(LAST - FIRST + 1)
        with unused(uid) as ours:
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
def unused(uid: int) -> Iterator[bool]:
    """Hold the lock of a user id, and remove it afterwards; yields False where another process holds it."""
    _folder().mkdir(parents=True, exist_ok=True)
    path = _folder() / str(uid)
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, 0o600)
    ours = False
    try:
        ours = take(handle) and os.fstat(handle).st_nlink > 0  # its holder may have removed it meanwhile
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
    """Whether a process of this user runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if entry.stat().st_uid == uid:
                    return True
    return False
