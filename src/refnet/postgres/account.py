"""The system user that our servers run as, and folders that it can enter.

PostgreSQL refuses to run as root. As root our servers run as `postgres` where the machine has that user,
else as `nobody`; no permission outside our own folders is changed for it.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.errors import RefnetError
from refnet.files import OPEN_FOLDER, explained, opened, replace_file
from refnet.processes import run

#: In a folder whose contents had to go elsewhere: where they are.
ELSEWHERE = "elsewhere"
#: Holds the stand-ins of folders that the server's user cannot enter.
STATE = Path("/var/lib")
_KEPT_VARIABLES = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Account:
    """A system user; `other`: it is not the user of this process, which is root."""

    name: str
    uid: int
    gid: int
    other: bool

    @property
    def become(self) -> dict[str, Any]:
        """Arguments of subprocess that make a child run as this user, with none of root's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}

    def own(self, path: Path, mode: int = 0o700) -> None:
        """Make `path`, which is ours, this user's and private."""
        path.chmod(mode)
        if self.other:
            os.chown(path, self.uid, self.gid)

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal as this user, so that it reaches none but its own processes; False where it does not."""
        command = ["/bin/sh", "-c", 'kill -s "$1" "$2"', "sh", signal.Signals(number).name[3:], str(pid)]
        return run(command, cwd="/", capture_output=True, **self.become).returncode == 0

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can enter `folder`. Asked of the kernel, which knows of ACLs as well."""
        if not self.other:
            return os.access(folder, os.X_OK)
        command = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
        return run(command, cwd="/", capture_output=True, **self.become).returncode == 0


def account(data: Path | None = None) -> Account:
    """The user that a server started by this process runs as: for root, the owner of `data` where it exists."""
    if os.geteuid() != 0:
        return _known(os.geteuid(), other=False)
    if data and data.exists() and data.stat().st_uid != 0:
        return _known(data.stat().st_uid, other=True)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid, other=True)
    raise RefnetError(
        "PostgreSQL does not run as root, and this machine has neither the user postgres nor nobody",
        "Create one (useradd --system postgres), or run RefNet as an ordinary user.",
    )


def _known(uid: int, *, other: bool) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise RefnetError(
            f"the user id {uid} has no entry in the system's list of users, which PostgreSQL needs",
            "Add one to /etc/passwd, or set REFNET_DATABASE_URL to a server that runs already.",
        ) from None
    return Account(entry.pw_name, uid, entry.pw_gid, other)


def environment() -> dict[str, str]:
    """The environment of a server: nothing of ours. Code that a restore brings along can read it."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | {"LC_ALL": "C"}


def ground(folder: Path, user: Account) -> Path:
    """`folder`, made if need be; or the folder that stands in for it where `user` cannot enter it.

    The stand-in is /var/lib/refnet-HASH, HASH from the path of `folder`. The choice is written down in
    `folder`, so that a later change of some parent's permissions does not lose what is there.
    """
    note = folder / ELSEWHERE
    with explained(folder):
        if note.is_file():
            return Path(note.read_text(encoding="utf-8").strip())
        make_enterable(folder)
        if user.can_enter(folder):
            return folder
        if any(not each.name.startswith(".") for each in folder.iterdir()):
            raise RefnetError(
                f"the user {user.name}, who runs the server, can no longer enter {folder}",
                "Give that user the right to pass (chmod o+x) on each folder above it, or set REFNET_HOME "
                "to another folder.",
            )
        stand_in = STATE / f"refnet-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
        make_enterable(stand_in)
        (stand_in / "stands-in-for").write_text(f"{folder}\n", encoding="utf-8")
        replace_file(note, f"{stand_in}\n".encode(), 0o644)
        return stand_in


def make_enterable(folder: Path) -> None:
    """Make what is missing of `folder`: others may pass through, and see nothing."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        with opened(each, OPEN_FOLDER) as handle:
            if os.fstat(handle).st_uid == os.geteuid():
                os.fchmod(handle, 0o711 if os.geteuid() == 0 else 0o700)
