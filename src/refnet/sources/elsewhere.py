"""The places, other than the live ones, that a restore is asked to write: a folder, or a database on any server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refnet import wiring
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.recovery.model.restore_place import check_name
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.sources.files.member_names import shown_path
from refnet.recovery.sources.files.target import FolderTarget, target_of
from refnet.settings import Settings, user_path
from refnet.sources import source_of

if TYPE_CHECKING:
    from refnet.postgres.session import Target

#: Folders of the system, which nothing is restored over; of a backup's word, nothing below them either.
_SYSTEM = [
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run/systemd",
    "/sbin",
    "/sys",
    "/usr",
]
_TOPS = ["/", *["/dev", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var"], *_SYSTEM]  # noqa: S108  # refused
_SECRETS = ("password", "sslpassword", "oauth_client_secret")


def database_at(url: str) -> Target:
    """Return the database that `--to` names. RefnetError (USAGE) if the URL is not one, or contains a password."""
    from refnet.postgres.session import Target

    target = Target.from_url(url, "--to")
    if any(target.parts.get(name) for name in _SECRETS):
        raise RefnetError(
            f"--to {target.display}: the URL contains a password, which every user of this machine can read",
            "Leave it out: put the password into ~/.pgpass, or into the variable PGPASSWORD.",
            Exit.USAGE,
        )
    check_name(target.name, "--to")
    return target


def folder_at(settings: Settings, source: SourceName, asked: str, *, merge: bool) -> FolderTarget:
    """Return the folder that `--to` names. RefnetError (USAGE) if nothing may be restored there.

    merge: it may have content.
    """
    named = user_path(asked)
    if "://" in asked:
        raise _refused(named, f"is a URL, and {source} is a folder", "Name a new or empty folder.")
    with explained(named):
        if named.is_symlink():
            raise _refused(named, "is a link", "Name the folder that it leads to.")
        folder = Path(os.path.realpath(named))
        above = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        if not above.is_dir():
            raise _refused(above, "is not a folder", "Name a new or empty folder.")
        if why := of_others(settings, folder):
            raise _refused(folder, why, "Name a folder of its own.")
        if not merge and folder.is_dir() and any(folder.iterdir()):
            raise _refused(folder, "is not empty", "Name a new or empty folder, or add to it with --merge.")
    target = target_of(source, folder, None, settings.home / "swaps")
    return replace(target, elsewhere=True)


def _refused(folder: Path, why: str, hint: str) -> RefnetError:
    return RefnetError(f"--to: {shown_path(folder)} {why}", hint, Exit.USAGE)


def of_others(settings: Settings, folder: Path) -> str:
    """Return why nothing is restored into `folder`, which belongs to something else; "" if it may be."""
    if is_of_system(folder):
        return "is a folder of the system, or your home folder"
    for place, what in ((settings.backup_dir, "the backup folder"), (settings.home, "REFNET_HOME")):
        if _overlap(folder, place.resolve()):
            return f"is {what}, is in it, or contains it"
    for name in wiring.configured(settings):
        if source_of(settings, name).occupies(folder):
            return f"is the live folder of {name}, is in it, or contains it"
    return ""


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def is_of_system(place: Path) -> bool:
    """Return whether `place` is a folder of the system, or the user's home, which nothing is restored over."""
    return str(place) in _TOPS or place == user_path("~")


def is_of_programs(place: Path) -> bool:
    """Return whether programs run the files in `place`: a folder of the system, or a hidden one of a user."""
    hidden = str(place).replace("/.local/share/", "/")
    return "/." in hidden or any(place.is_relative_to(top) for top in _SYSTEM)
