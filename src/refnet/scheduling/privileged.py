"""Checks that only root can change what units of root run; otherwise another owner could become root."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.scheduling.units import Service
from refnet.settings import Settings

_ROOT = frozenset({0})


def check(service: Service, settings: Settings) -> None:
    """RefnetError with the first path of program, environment and settings that another user can write."""
    own, program = Path(__file__).parents[1], Path(service.program[0])
    files = [program, Path(sys.executable), service.folder, settings.file, *_programs(settings)]
    for path in filter(None, files):
        _check(path)
    for tree in dict.fromkeys([own, *_environment()]):
        check_tree(tree)


def check_tree(folder: Path) -> None:
    """RefnetError if another user than root can write `folder`, a folder above it, or anything in it."""
    _check(folder)
    for at, folders, files in os.walk(folder):
        for path in (Path(at, name) for name in (*folders, *files)):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(status.st_mode):
                _check(path)
            elif wrong := trust.fault(path, status, _ROOT):
                raise _refused(wrong)


def _check(path: Path) -> None:
    """RefnetError if `path` or a folder above it is not root's; a missing path is fine."""
    try:
        trust.check(path, _ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return
    except RefnetError as wrong:
        raise _refused(wrong) from None


def _refused(wrong: RefnetError) -> RefnetError:
    return RefnetError(
        f"units that run as root are not installed: {wrong.message}",
        "Install RefNet where only root can write (and give its settings to root), or run the units as another user: --as USER.",
        Exit.USAGE,
    )


def _environment() -> Iterator[Path]:
    """Return the folders that this Python imports from."""
    for folder in (sys.prefix, *sys.path):
        if folder and Path(folder).is_dir() and Path(folder) not in {Path("/"), Path("/usr"), Path.cwd()}:
            yield Path(folder)


def _programs(settings: Settings) -> Iterable[Path]:
    for folder in (settings.postgres_bin_dir, settings.prove_bin_dir):
        if folder and folder.is_dir():
            yield from (folder, *folder.iterdir())
