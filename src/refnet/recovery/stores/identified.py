"""Is a backup folder the store that it was? A disk that is not mounted leaves an empty folder in its place.

A store says who it is in a marker file. REFNET_HOME remembers the id of every store that an artifact was published in.
Where the two disagree, or the marker of a remembered store is missing, nothing is written until somebody has looked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.errors import RefnetError
from refnet.files import (
    NotRegularError,
    explain,
    explained,
    make_folder,
    read_regular,
    replace_file,
    sync_folder,
)
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.stores.disk import HiddenFile

MARKER = f"{HIDDEN_PREFIX}store.json"
FSTAB, MOUNTED = Path("/etc/fstab"), Path("/proc/self/mountinfo")
_FORMAT = 1
_ID = re.compile(r"[0-9a-f]{32}")
_LARGEST, _LARGEST_TABLE = 16 << 10, 4 << 20  # bytes
_ACCEPT = "If it is meant to be another one from now on, run `refnet store accept`."


@dataclass(frozen=True)
class Remembered:
    """What REFNET_HOME knows of stores, in `folder`: a file each, named by the digest of its path."""

    folder: Path

    def id_of(self, root: Path) -> str | None:
        """The id of the store that was at `root`; None where no artifact was ever published there from here."""
        return _read(self._file(root), "what REFNET_HOME remembers of a store")

    def remember(self, root: Path, store: str) -> None:
        """From now on `store` is the id of the one at `root`."""
        with suppress(RefnetError):  # what cannot be read is replaced
            if self.id_of(root) == store:
                return
        path = self._file(root)
        make_folder(self.folder)
        with explained(path):
            replace_file(path, _written(store, path=str(root)))

    def _file(self, root: Path) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"


def id_in(root: Path) -> str | None:
    """The id that the store at `root` gives itself; None where it has no marker."""
    return _read(root / MARKER, "the marker of a store")


def mark(root: Path) -> str | None:
    """The id of the store at `root`, made where it has none yet; None where this user may write in its folders alone."""
    if known := id_in(root):
        return known
    made = secrets.token_hex(16)
    make_folder(root)
    if not os.access(root, os.W_OK):
        return None
    with HiddenFile(root, ".part") as file:
        file.write(_written(made))
        file.settle()
        placed = file.place(MARKER)
    sync_folder(root)
    return made if placed else mark(root)


def accept(root: Path, remembered: Remembered) -> str:
    """Make the folder `root`, as it is now, the store that is meant; its id."""
    try:
        store = mark(root)
    except RefnetError:
        if not (root / MARKER).is_file():
            raise
        store = secrets.token_hex(16)
        with explained(root / MARKER):
            replace_file(root / MARKER, _written(store))
    if store is None:
        raise RefnetError(
            f"this user may not write in {root}, so it cannot be marked as the store",
            "Run it as the user that owns the folder.",
        )
    remembered.remember(root, store)
    return store


def trouble(root: Path, remembered: Remembered, fstab: Path = FSTAB) -> RefnetError | None:
    """Why the folder `root` is not, or may not be, the store that is meant; None where it is, or may become it."""
    there, known = id_in(root), remembered.id_of(root)
    if there is not None and known in (None, there):
        return None
    if known is not None:
        what = "another store than the one" if there else "not the store"
        return RefnetError(f"{root} is {what} that was here: is the disk mounted?", f"Mount it. {_ACCEPT}")
    if (mount := unmounted(root, fstab)) is None:
        return None
    return RefnetError(
        f"{root} lies on {mount}, which {fstab} names and which is not mounted",
        f"Mount it (mount {mount}), or choose another folder (REFNET_BACKUP_DIR). {_ACCEPT}",
    )


def unmounted(root: Path, fstab: Path = FSTAB) -> Path | None:
    """The mount point of `fstab` that `root` would lie on and that is not mounted; None also where nobody can say."""
    mounted, named = _above(root, MOUNTED, 4), _above(root, fstab, 1)
    if not named or not MOUNTED.exists() or (mounted and mounted.is_relative_to(named)):
        return None
    return named


def _above(root: Path, table: Path, column: int) -> Path | None:
    """The deepest mount point that `table` names at or above `root`."""
    there = [point for point in _mount_points(table, column) if _resolved(root).is_relative_to(point)]
    return max(there, key=lambda point: len(point.parts), default=None)


def _mount_points(table: Path, column: int) -> Iterator[Path]:
    """The folders that `table` names in a column, but for the root; none where it cannot be read."""
    try:
        text = read_regular(table, _LARGEST_TABLE).decode(errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > column and not fields[0].startswith("#") and fields[column].startswith("/"):
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8) % 256), fields[column])
            if point != "/" and "\0" not in point:
                yield _resolved(Path(point))


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _read(path: Path, what: str) -> str | None:
    """The id in such a file, or None where there is no file; RefnetError where it cannot be read as one."""
    try:
        values: Any = json.loads(read_regular(path, _LARGEST))
    except FileNotFoundError:
        return None
    except (NotRegularError, ValueError, RecursionError):
        values = None
    except OSError as error:
        raise explain(error, path) from error
    found = values.get("id") if isinstance(values, dict) else None
    if isinstance(found, str) and _ID.fullmatch(found):
        return found
    raise RefnetError(f"{path} is not {what}", f"Look at what wrote it there. {_ACCEPT}")


def _written(store: str, **more: str) -> bytes:
    return json.dumps({"format": _FORMAT, "id": store, **more}).encode() + b"\n"
