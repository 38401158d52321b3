"""Records of previous versions: the databases that a restore or an undo replaced.

A database's owner can forge its comment. So a record is a small private file in REFNET_HOME, written atomically. It names
the server, the oid and the owner, so that undo restores, and prune drops, that database and no other.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from refnet.catalog.manifest import HIDDEN_PREFIX
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import explained, make_folder, replace_file
from refnet.core.records import Flat, Layout, Needed, Rare, Record
from refnet.store import disk

_ENDING = ".json"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: More than any retention keeps.
_MOST = 10_000
#: The largest record or mark, in bytes; it contains the database's own comment.
_RECORD_BYTES = 1 << 20
_NAME = 256  # characters; longer than any name that PostgreSQL takes
_TEXT = 4096  # characters of an artifact's name or of a snapshot


class MarkState(StrEnum):
    """The state of a marked database."""

    COPY = "copy"  # being loaded; a leftover if no restore runs
    RESTORED = "restored"  # replaced by a restore
    UNDONE = "undone"  # replaced by an undo


_Name = Annotated[str, checked.text(_NAME, shortest=1, errors="strict")]
_Oid = Annotated[int, checked.integer(1, (1 << 32) - 1)]


@dataclass(frozen=True)
class DatabaseMark(Record):
    """The mark of a database that RefNet created or replaced; it is also the database's comment."""

    LAYOUT = Layout(longest=_RECORD_BYTES, end="")

    #: The name that it had, or will have.
    of: _Name
    why: MarkState
    #: The time of the mark.
    at: datetime
    #: The artifact that was restored in its place.
    artifact: Needed[Annotated[str, checked.text(_TEXT)]] = ""
    #: PostgreSQL's text of the snapshot at the swap; rows written later are counted from it.
    snapshot: Needed[Annotated[str, checked.text(_TEXT, like=r"(?:[0-9]+:[0-9]+:[0-9,]*)?")]] = ""
    #: Its own comment, restored with its name.
    comment: Needed[Annotated[str, checked.text(_RECORD_BYTES, errors="strict")] | None] = None
    #: Its own connection limit, restored with its name; RefNet 0.1.0 wrote none.
    limit: Annotated[int, checked.integer(-1, (1 << 31) - 1)] = -1
    #: It was a template.
    template: Rare[bool] = False


@dataclass(frozen=True)
class PreviousRecord(Record):
    """A previous version of a database."""

    LAYOUT = Layout(longest=_RECORD_BYTES, format=1)

    #: The cluster's system identifier; None: not visible to the role.
    system: Annotated[str, checked.text(_NAME, shortest=1, like="[0-9]+")] | None
    name: _Name
    oid: _Oid
    owner: _Name
    #: The oid of the database that replaced it.
    live: _Oid
    mark: Flat[DatabaseMark]

    def doubt(self, system: str | None, oid: int, owner: str) -> str:
        """Reason why the database now called `name` is not the recorded one; "" if it is."""
        if self.system and system and self.system != system:
            return "it was recorded on another server"
        if self.oid != oid:
            return f"it is not the recorded database (oid {oid}, recorded {self.oid})"
        if self.owner != owner:
            return f"its owner is {owner}, recorded {self.owner}"
        return ""


@dataclass(frozen=True)
class PreviousRead:
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

    def read(self) -> PreviousRead:
        """Read every record. RefnetError if the folder cannot be read, or another user can write in it."""
        with explained(self.folder):
            if not self._exists():
                return PreviousRead()
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
        return PreviousRead(tuple(found), tuple(unreadable))

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
        return file.read(_RECORD_BYTES + 1)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in {0, os.geteuid()} and not status.st_mode & _OTHERS_WRITE
