"""Places on this machine that a restore must not overwrite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refnet import wiring
from refnet.settings import Settings, user_path
from refnet.sources import source_of

if TYPE_CHECKING:
    pass

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


def of_others(settings: Settings, folder: Path) -> str:
    """Reason why nothing may be restored into `folder`, or ""."""
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
    """Whether `place` is a system folder or the user's home, which a restore must not overwrite."""
    return str(place) in _TOPS or place == user_path("~")


def is_of_programs(place: Path) -> bool:
    """Whether programs execute files in `place`: a system folder, or a hidden folder of a user."""
    hidden = str(place).replace("/.local/share/", "/")
    return "/." in hidden or any(place.is_relative_to(top) for top in _SYSTEM)
