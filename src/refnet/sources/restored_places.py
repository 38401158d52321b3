"""Places on this machine that a restore must not overwrite, and commands that run code from a restored folder.

Such a command names a program or file in the folder; its origin does not matter. All links are followed; missing files
count by their path. A program outside that itself opens files inside is not detected: that was its owner's decision.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from refnet import wiring
from refnet.core.files import resolved
from refnet.settings import Settings, user_path
from refnet.sources import source_of

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


#: Programs that run a file that they are given, or that they find in the current folder; and programs that run others.
_RUNNERS = frozenset(
    (
        *("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "busybox", "source"),
        *("python", "pypy", "perl", "ruby", "node", "nodejs", "deno", "bun", "php", "lua", "tclsh", "awk", "gawk"),
        *("java", "make", "gmake", "just", "task", "rake", "ninja", "npm", "npx", "pnpm", "yarn", "uv", "uvx"),
        *("pipx", "poetry", "tox", "nox", "cargo", "go", "git", "psql", "sqlite", "ansible-playbook", "terraform"),
        *("docker", "docker-compose", "podman", "podman-compose", "nerdctl", "kubectl", "helm", "vagrant"),
        *("env", "sudo", "doas", "su", "runuser", "setpriv", "chroot", "nsenter", "unshare", "bwrap", "systemd-run"),
        *("xargs", "find", "parallel", "nohup", "nice", "ionice", "timeout", "flock", "setsid", "time", "watch"),
    )
)  # fmt: skip
#: What separates words in a command line for a shell, or a path from its option.
_BETWEEN = re.compile(r"[\s;&|()<>\"'`$={},:]+")
#: The most links that are followed on one path, as in the kernel.
_LINKS = 40


def of_others(settings: Settings, folder: Path) -> str:
    """Reason why nothing may be restored into `folder`, or ""."""
    if is_of_system(folder):
        return "is a folder of the system, or your home folder"
    for place, what in ((settings.backup_dir, "the backup folder"), (settings.home, "REFNET_HOME")):
        other = place.resolve()
        if folder.is_relative_to(other) or other.is_relative_to(folder):
            return f"is {what}, is in it, or contains it"
    for name in wiring.configured(settings):
        if source_of(settings, name).occupies(folder):
            return f"is the live folder of {name}, is in it, or contains it"
    return ""


def is_of_system(place: Path) -> bool:
    """Whether `place` is a system folder or the user's home, which a restore must not overwrite."""
    return str(place) in _TOPS or place == user_path("~")


def is_of_programs(place: Path) -> bool:
    """Whether programs execute files in `place`: a system folder, or a hidden folder of a user."""
    hidden = str(place).replace("/.local/share/", "/")
    return "/." in hidden or any(place.is_relative_to(top) for top in _SYSTEM)


def forms(path: Path) -> tuple[Path, Path]:
    """`path` as it is written, and with links resolved."""
    return Path(os.path.normpath(path)), resolved(path)


def runs(words: Sequence[str], cwd: Path, folders: Collection[Path]) -> bool:
    """Whether the command `words` runs or may run a file in one of `folders`."""
    places = {form for one in folders for form in forms(one)}
    if not places or not words:
        return False
    program = list(_program(words[0], cwd))
    if any(is_in(one, places) for one in program):
        return True
    parts = [part for word in words[1:] for part in dict.fromkeys((word, *_BETWEEN.split(word))) if part]
    names = {Path(words[0]).name, *(list(_way(one))[-1].name for one in program[-1:])}
    if any(name.rstrip("0123456789.") in _RUNNERS for name in names):
        return is_in(cwd, places) or any(is_in(cwd / part, places) for part in parts)
    return any(_is_file_in(cwd / part, part, places) for part in parts)


def is_in(path: Path, folders: Collection[Path]) -> bool:
    """Whether `path`, or a link on its way, is at or below one of `folders`."""
    return any(place.is_relative_to(folder) for place in _way(path) for folder in folders)


def _program(name: str, cwd: Path) -> Iterator[Path]:
    """Yield the places searched for `name`, up to the match."""
    if "/" in name:
        yield cwd / name
        return
    for folder in os.get_exec_path():
        yield (found := cwd / folder / name)
        if os.access(found, os.X_OK):
            return


def _is_file_in(path: Path, word: str, folders: Collection[Path]) -> bool:
    """Whether `path` may be a file in `folders`. Folders and words that name nothing there are data."""
    # Path's own raise where a name is too long, or this user may not look
    if os.path.isdir(path) or not ("/" in word or os.path.exists(path)):  # noqa: PTH110, PTH112
        return False
    return is_in(path, folders)


def _way(path: Path) -> Iterator[Path]:
    """Yield every place that the kernel visits to resolve the absolute `path`, including links."""
    at, left, links = Path("/"), list(reversed(path.parts[1:])), 0
    while left:
        name = left.pop()
        if name == "..":
            at = at.parent
            continue
        at /= name
        yield at
        try:
            target = at.readlink()
        except (OSError, ValueError):
            continue
        links += 1
        if links > _LINKS:
            return
        left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        at = Path("/") if target.is_absolute() else at.parent
