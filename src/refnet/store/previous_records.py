"""The records of previous versions in REFNET_HOME: one small private file each, written atomically."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.catalog.previous import LONGEST, PreviousRecord
from refnet.core.errors import RefnetError
from refnet.core.files import explained, make_folder, replace_file
from refnet.store import disk

_ENDING = ".json"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: More than any retention keeps.
_MOST = 10_000


@dataclass(frozen=True)
class Known:
    """The result of a reading."""

    records: tuple[PreviousRecord, ...] = ()
    #: A sentence for each file that is not a valid record.
    unreadable: tuple[str, ...] = ()


class PreviousVersions:
    """The records in `folder`, which is created with the first one."""

    def __init__(self, folder: Path, source: str = "database") -> None:
        self.folder = folder
        #: The source that they are read for, for hints.
        self.source = source

    def read(self) -> Known:
        """Read every record. RefnetError if the folder cannot be read, or another user can write in it."""
        with explained(self.folder):
            if not self._exists():
                return Known()
            paths = sorted(self.folder.iterdir())
        found: list[PreviousRecord] = []
        unreadable: list[str] = []
        for path in paths[:_MOST]:
            if path.suffix != _ENDING or path.name.startswith(HIDDEN_PREFIX):
                continue
            try:
                found.append(PreviousRecord.from_json(_read(path)))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                unreadable.append(f"the record {path} cannot be read: {reason}")
        return Known(tuple(found), tuple(unreadable))

    def add(self, record: PreviousRecord) -> None:
        """Write `record` durably."""
        make_folder(self.folder)
        path = self._path(record)
        with explained(path):
            self._exists()
            replace_file(path, record.to_json().encode())

    def forget(self, record: PreviousRecord) -> None:
        """Remove `record`, if it exists."""
        disk.remove(self._path(record))

    def _path(self, record: PreviousRecord) -> Path:
        key = f"{record.system}\0{record.oid}\0{record.name}"
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{_ENDING}"

    def _exists(self) -> bool:
        """Return True if the folder exists. RefnetError if others can write in it."""
        try:
            status = self.folder.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode) or not _is_ours(status):
            raise RefnetError(
                f"{self.folder} is not a folder that only this user can write",
                "Change its owner and mode (chown, chmod 700): `refnet undo` and `refnet prune` rely on its records.",
            )
        return True


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
            raise ValueError("others can write to it, or it is not a file")
        return file.read(LONGEST + 1)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & _OTHERS_WRITE
