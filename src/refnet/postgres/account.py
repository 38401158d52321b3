"""The system user of RefNet's own servers, and folders that this user can enter.

PostgreSQL refuses to run as root. If RefNet runs as root, its servers run as `postgres` if that user exists, else as
`nobody`; no permissions outside RefNet's own folders are changed.
"""

import hashlib
import os
import pwd
import signal
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from refnet.core.errors import RefnetError
from refnet.core.files import OPEN_FOLDER, explained, opened, replace_file, resolved
from refnet.core.processes import run

#: The file, in a folder with a substitute, that names the substitute.
ELSEWHERE = "elsewhere"
#: Contains the substitutes of folders that the server's user cannot enter.
STATE = Path("/var/lib")
_KEPT_VARIABLES = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Account:
    """A system user."""

    name: str
    uid: int
    gid: int
    #: Differs from the user of this process, which is root.
    other: bool

    @property
    def become(self) -> dict[str, Any]:
        """The arguments of subprocess that make a child run as this user, without root's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}

    def own(self, path: Path, mode: int = 0o700) -> None:
        """Give this process's `path` to this user, with `mode`."""
        path.chmod(mode)
        if self.other:
            os.chown(path, self.uid, self.gid)

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal as this user, so that it can reach only this user's processes; return whether it did."""
        command = ["/bin/sh", "-c", 'kill -s "$1" "$2"', "sh", signal.Signals(number).name[3:], str(pid)]
        return run(command, cwd="/", capture_output=True, **self.become).returncode == 0

    def can_enter(self, folder: Path) -> bool:
        """Return whether this user can enter `folder`; the kernel decides, ACLs included."""
        if not self.other:
            return os.access(folder, os.X_OK)
        real = resolved(folder)
        seen = [each.stat() for each in (real, *real.parents) if each.exists()]
        return _can_enter(self, folder, tuple((one.st_dev, one.st_ino, one.st_ctime_ns) for one in seen))


@lru_cache
def _can_enter(user: Account, folder: Path, _seen: tuple[tuple[int, int, int], ...]) -> bool:
    """Ask the kernel again only if something changed on the way to `folder`: each change of rights is a new ctime."""
    command = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
    return run(command, cwd="/", capture_output=True, **user.become).returncode == 0


def account(data: Path | None = None) -> Account:
    """Return the user that our servers run as: for root, the owner of `data` if it exists."""
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
            f"the user id {uid} has no entry in the system's list of users, and PostgreSQL needs one",
            "Add one to /etc/passwd, or set REFNET_DATABASE_URL to a running server.",
        ) from None
    return Account(entry.pw_name, uid, entry.pw_gid, other)


def environment() -> dict[str, str]:
    """Return the environment of a server, without this process's secrets: code from a dump can read it."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | {"LC_ALL": "C"}


def cluster_folder(folder: Path, user: Account) -> Path:
    """Return `folder`, created if it is missing, or its substitute if `user` cannot enter it.

    The substitute is /var/lib/refnet-HASH, HASH from the path of `folder`. It is recorded in `folder`, so that a later
    change of a parent's permissions does not lose the data.
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
                f"the user {user.name}, which runs the server, can no longer enter {folder}",
                "Let that user enter the folders above it (chmod o+x), or set REFNET_HOME to another folder.",
            )
        substitute = STATE / f"refnet-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
        make_enterable(substitute)
        (substitute / "stands-in-for").write_text(f"{folder}\n", encoding="utf-8")
        replace_file(note, f"{substitute}\n".encode(), 0o644)
        return substitute


def make_enterable(folder: Path) -> None:
    """Create `folder` and its missing parents; for root, others may pass through them but not list them."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        with opened(each, OPEN_FOLDER) as handle:
            if os.fstat(handle).st_uid == os.geteuid():
                os.fchmod(handle, 0o711 if os.geteuid() == 0 else 0o700)
