"""Copies of the settings file in force, beside the artifacts: a recovery on an empty machine reads the newest one of that time.

Anyone who can write to the store can forge such a copy, so it is trusted no more than an artifact.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.core.errors import RefnetError
from refnet.core.files import (
    OPEN_FOLDER,
    explained,
    make_folder,
    names_in,
    opened,
    read_regular,
    replace_file,
)
from refnet.settings.document import LARGEST

#: Their folder in the store, and the most copies that are kept.
FOLDER, MOST = f"{HIDDEN_PREFIX}settings", 50
#: A copy is stored soon after its artifact.
SOON_AFTER = timedelta(minutes=1)
#: The name of a copy: its time (UTC).
_NAME = re.compile(r"refnet_\d{8}_\d{6}\.toml", re.ASCII)


def keep(root: Path, content: bytes, at: datetime) -> None:
    """Store `content` in the store at `root`, unless the newest copy is the same; remove the oldest beyond MOST.

    RefnetError if that fails.
    """
    with suppress(RefnetError):  # a copy that cannot be read is not the same
        last = newest(root, None)
        if last and last[1] == content:
            return
    folder = root / FOLDER
    make_folder(folder)
    with explained(folder):
        replace_file(folder / _name(at), content)
        for name in _names(root)[:-MOST]:
            with suppress(FileNotFoundError):
                (folder / name).unlink()


def remove(root: Path) -> None:
    """Remove all copies."""
    folder = root / FOLDER
    with explained(folder):
        for name in _names(root):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # another file is in it
            folder.rmdir()


def newest(root: Path, at: datetime | None) -> tuple[Path, bytes] | None:
    """The newest copy in the store at `root`, at or before `at`, else the oldest one, or None.

    RefnetError if it cannot be read.
    """
    names = _names(root)
    if not names:
        return None
    before = [name for name in names if at is None or name <= _name(at)]
    path = root / FOLDER / (before[-1] if before else names[0])
    try:
        return path, read_regular(path, LARGEST)
    except OSError as error:
        raise RefnetError(
            f"{path} is not a copy of the settings: {error.strerror}",
            "Remove it; the next backup stores another.",
        ) from error


def _name(at: datetime) -> str:
    return f"refnet_{at.astimezone(UTC):%Y%m%d_%H%M%S}.toml"


def _names(root: Path) -> list[str]:
    """Return the names of the copies, oldest first."""
    try:
        with opened(root / FOLDER, OPEN_FOLDER & ~os.O_NOFOLLOW) as folder:
            return [name for name in names_in(folder) if _NAME.fullmatch(name)]
    except OSError:
        return []
