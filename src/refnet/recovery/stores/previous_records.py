"""The records of previous versions in REFNET_HOME: one small file each, private, complete or not there."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from refnet.errors import RefnetError
from refnet.files import explained, make_folder
from refnet.recovery.model.artifact import HIDDEN_PREFIX
from refnet.recovery.model.previous import LONGEST, Record
from refnet.recovery.stores import disk

_ENDING = ".json"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: More previous versions than any retention leaves.
_MOST = 10_000


@dataclass(frozen=True)
class Known:
    """What was read: the records, and a sentence for each file that is none."""

    records: tuple[Record, ...] = ()
    unreadable: tuple[str, ...] = ()


class PreviousVersions:
    """The records below `folder`, which is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> Known:
        """Every record; RefnetError where the folder cannot be read, or belongs to somebody else."""
        with explained(self.folder):
            if not self._there():
                return Known()
            paths = sorted(self.folder.iterdir())
        found: list[Record] = []
        unreadable: list[str] = []
        for path in paths[:_MOST]:
            if path.suffix != _ENDING or path.name.startswith(HIDDEN_PREFIX):
                continue
            try:
                found.append(Record.from_json(_read(path)))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                unreadable.append(f"the record {path} cannot be read: {reason}")
        return Known(tuple(found), tuple(unreadable))

    def add(self, record: Record) -> None:
        """Write `record` down; it lasts when this returns."""
        make_folder(self.folder)
        with explained(self.folder):
            self._there()
        path = self._path(record)
        with disk.HiddenFile(self.folder, ".part") as file:
            file.write(record.to_json().encode())
            file.settle()
            disk.remove(path)
            disk.place_beside(file, path.name)

    def forget(self, record: Record) -> None:
        """Remove `record`, if it is there."""
        disk.remove(self._path(record))

    def _path(self, record: Record) -> Path:
        key = f"{record.system}\0{record.oid}\0{record.name}"
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{_ENDING}"

    def _there(self) -> bool:
        """Whether the folder is there; RefnetError where others can write to it."""
        try:
            status = self.folder.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode) or not _is_ours(status):
            raise RefnetError(
                f"{self.folder} is no folder that this user alone can write",
                "Make it so (chown, chmod 700): `refnet undo` and `refnet prune` believe what it records.",
            )
        return True


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
            raise ValueError("others can write to it, or it is no file")
        return file.read(LONGEST + 1)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & _OTHERS_WRITE
