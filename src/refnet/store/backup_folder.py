"""May this run write in this backup folder? It is the expected store, and no other run has locked the source.

A disk that is not mounted leaves an empty folder. So a store has an id in a marker file. REFNET_HOME has the id of every store in which an artifact was published. If the two
differ, or the marker is missing, nothing is written until `refnet store accept`.
"""

import hashlib
import json
import os
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import (
    NotRegularError,
    explain,
    explained,
    make_folder,
    open_file,
    read_regular,
    replace_file,
    resolved,
    sync_folder,
)
from refnet.core.locks import take
from refnet.store.disk import HiddenFile

MARKER, LOCK_NAME = f"{HIDDEN_PREFIX}store.json", f"{HIDDEN_PREFIX}lock"
FSTAB, MOUNTED = Path("/etc/fstab"), Path("/proc/self/mountinfo")
_FORMAT = 1
_RECORD = checked.record({"id": checked.text(32, like="[0-9a-f]{32}")}, more=True)
_LARGEST, _LARGEST_TABLE = 16 << 10, 4 << 20  # bytes
_ACCEPT = "To use it as a new store from now on, run `refnet store accept`."


@dataclass(frozen=True)
class Remembered:
    """The ids of stores in REFNET_HOME, in `folder`: a file each, named by the digest of its path."""

    folder: Path

    def id_of(self, root: Path) -> str | None:
        """Recorded id of the store at `root`; None if nothing was published there."""
        return _read(self._file(root), "the record of a store")

    def remember(self, root: Path, store: str) -> None:
        """Record `store` as the id of the store at `root`."""
        with suppress(RefnetError):  # an invalid record is replaced
            if self.id_of(root) == store:
                return
        path = self._file(root)
        make_folder(self.folder)
        with explained(path):
            replace_file(path, _written(store, path=str(root)))

    def _file(self, root: Path) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"


def id_in(root: Path) -> str | None:
    """Return the id in the marker of the store at `root`; None if it has no marker."""
    return _read(root / MARKER, "the marker of a store")


def mark(root: Path) -> str | None:
    """Return the id of the store at `root`, with a new marker if needed; None if this user may not write the marker."""
    if known := id_in(root):
        return known
    made = secrets.token_hex(16)
    make_folder(root)
    if not os.access(root, os.W_OK):
        return None
    with HiddenFile(root, ".part") as file:
        file.write(_written(made))
        file.sync()
        renamed = file.rename(MARKER)
    sync_folder(root)
    return made if renamed else mark(root)


def accept(root: Path, remembered: Remembered) -> str:
    """Make the folder `root` the expected store; return its id."""
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
            f"this user cannot write in {root}, so it cannot be marked as the store",
            "Run it as the user that owns the folder.",
        )
    remembered.remember(root, store)
    return store


def trouble(root: Path, remembered: Remembered, fstab: Path = FSTAB) -> RefnetError | None:
    """Error if `root` may not be the expected store; None if it is, or is new."""
    there, known = id_in(root), remembered.id_of(root)
    if there is not None and known in (None, there):
        return None
    if known is not None:
        what = "a different store than" if there else "not the store of"
        return RefnetError(f"{root} is {what} earlier runs: is the disk mounted?", f"Mount it. {_ACCEPT}")
    if (mount := unmounted(root, fstab)) is None:
        return None
    return RefnetError(
        f"{root} is on {mount}, which is in {fstab} and not mounted",
        f"Mount it (mount {shlex.quote(str(mount))}), or choose another folder (REFNET_BACKUP_DIR). {_ACCEPT}",
    )


def unmounted(root: Path, fstab: Path = FSTAB) -> Path | None:
    """The unmounted mount point in `fstab` above `root`; None if mounted or unknown."""
    mounted, named = _above(root, MOUNTED, 4), _above(root, fstab, 1)
    if not named or not MOUNTED.exists() or (mounted and mounted.is_relative_to(named)):
        return None
    return named


def unmounted_in(folder: Path, fstab: Path = FSTAB) -> list[Path]:
    """The mount points of `fstab` in `folder` that are mounted at boot, and are not mounted now."""
    if not MOUNTED.exists():
        return []
    mounted, within = {*_mount_points(MOUNTED, 4)}, resolved(folder)
    named = _mount_points(fstab, 1, at_boot=True)
    return sorted({one for one in named if within in one.parents} - mounted)


def _above(root: Path, table: Path, column: int) -> Path | None:
    """Return the deepest mount point in `table` at or above `root`."""
    there = [point for point in _mount_points(table, column) if resolved(root).is_relative_to(point)]
    return max(there, key=lambda point: len(point.parts), default=None)


def _mount_points(table: Path, column: int, *, at_boot: bool = False) -> Iterator[Path]:
    """Yield the folders in a column of `table`, except the root; none if it cannot be read.

    at_boot: only lines of fstab that are mounted at boot.
    """
    try:
        text = read_regular(table, _LARGEST_TABLE).decode(errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > column and not fields[0].startswith("#") and fields[column].startswith("/"):
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8) % 256), fields[column])
            left_out = at_boot and "noauto" in "".join(fields[3:4]).split(",")
            if point != "/" and "\0" not in point and not left_out:
                yield resolved(Path(point))


def _read(path: Path, what: str) -> str | None:
    """Return the id in a marker or record; None if the file does not exist. RefnetError if it is not valid."""
    try:
        return str(_RECORD(checked.document(read_regular(path, _LARGEST)))["id"])
    except FileNotFoundError:
        return None
    except (NotRegularError, ValueError) as error:
        raise RefnetError(f"{path} is not {what}", f"Check which program wrote it. {_ACCEPT}") from error
    except OSError as error:
        raise explain(error, path) from error


def _written(store: str, **more: str) -> bytes:
    return json.dumps({"format": _FORMAT, "id": store, **more}).encode() + b"\n"


@contextmanager
def locked(folder: Path, what: str, seconds: float = 0.0) -> Iterator[int]:
    """Lock `folder`, of a source or of REFNET_HOME, by flock. RefnetError with Exit.LOCKED if another run has locked it.

    seconds: how long to wait for that run. Yield the handle: a child that inherits it keeps the lock as long as it lives.
    The file stays: if it were removed, two runs could lock two files of one name. It contains the process id.
    """
    path = folder / LOCK_NAME
    with explained(path):
        handle = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        _take(handle, what, path, seconds)
        with explained(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield handle
    finally:
        os.close(handle)


def _take(handle: int, what: str, path: Path, seconds: float) -> None:
    try:
        if take(handle, seconds=seconds):
            return
    except OSError as error:
        raise RefnetError(
            f"{path.parent} cannot be locked: {error.strerror}",
            "Choose a folder on a file system with locks (REFNET_BACKUP_DIR).",
        ) from error
    holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
    raise RefnetError(
        f"{what} is locked by another run of RefNet (process {holder or 'unknown'})",
        "Wait until it ends, then retry. A killed run leaves no lock.",
        Exit.LOCKED,
        transient=True,
    )
