"""PostgreSQL's own manifest of a base backup: its files with their checksums, and the WAL that it needs."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any

from refnet.catalog.artifact import MOST_FILES, MOST_LIST_BYTES
from refnet.catalog.wal import LAST_TIMELINE, checked_lsn
from refnet.core import checked
from refnet.core.member_names import ArchiveError
from refnet.core.member_names import checked as checked_name

#: Its name in a base backup.
NAME = "backup_manifest"
#: The last line, which the checksum in it does not cover.
_LAST_LINE = re.compile(rb'\n"Manifest-Checksum": "([0-9a-f]{64})"\}\n?\Z')
#: The checksums of files that `pg_basebackup` is asked for, by hashlib's name.
ALGORITHM = "SHA256"
#: The most timelines that one backup may span.
_MOST_RANGES = 100


@dataclass(frozen=True)
class ManifestFile:
    """A file in a base backup."""

    #: In bytes.
    size: int
    #: SHA-256 in hex; "": another algorithm, or none.
    sha256: str


@dataclass(frozen=True)
class BackupManifest:
    """A manifest of PostgreSQL."""

    #: In digits; "": before PostgreSQL 17, which does not record it.
    system_identifier: str
    #: By path.
    files: dict[str, ManifestFile]
    #: The WAL that makes the backup consistent, and the timeline at its end.
    start_lsn: int
    end_lsn: int
    timeline: int

    @classmethod
    def read(cls, text: bytes) -> BackupManifest:
        """Read a manifest; ValueError if it is malformed, or its checksum is wrong."""
        check(text)
        values = _DOCUMENT(checked.parsed(text, MOST_LIST_BYTES))
        files = dict(values["Files"])
        if len(files) != len(values["Files"]):
            raise ValueError("it names a file twice")
        ranges = values["WAL-Ranges"]
        if not ranges or any(one["Start-LSN"] > one["End-LSN"] for one in ranges):
            raise ValueError("it names no WAL")
        end_lsn, timeline = max((one["End-LSN"], one["Timeline"]) for one in ranges)
        start_lsn = min(one["Start-LSN"] for one in ranges)
        return cls(values.get("System-Identifier", ""), files, start_lsn, end_lsn, timeline)


def check(text: bytes) -> None:
    """ValueError unless the last line of a manifest has the checksum of what is before it."""
    if len(text) > MOST_LIST_BYTES:
        raise ValueError("it is too long")
    last = _LAST_LINE.search(text)
    if last is None or hashlib.sha256(text[: last.start() + 1]).hexdigest() != last[1].decode():
        raise ValueError("its own checksum is wrong")


def _path(values: dict[str, Any]) -> str:
    """The path of an entry, which PostgreSQL encodes in hex if it is not UTF-8."""
    if ("Path" in values) == ("Encoded-Path" in values):
        raise ValueError("an entry without one path")
    raw = bytes.fromhex(values["Encoded-Path"]) if "Encoded-Path" in values else values["Path"].encode()
    try:
        path = checked_name(raw)
    except ArchiveError as error:
        raise ValueError(str(error)) from None
    if os.fsencode(path) != raw:
        raise ValueError("a path that is not in its plain form")
    return path


def _file(value: Any) -> tuple[str, ManifestFile]:
    values = _ENTRY(value)
    of_sha = values.get("Checksum-Algorithm") == ALGORITHM
    sha256 = _SHA256(values.get("Checksum")) if of_sha else ""
    return _path(values), ManifestFile(values["Size"], sha256)


def _number(value: Any) -> str:
    """A system identifier: in JSON a number, here its digits."""
    return str(checked.integer(0, (1 << 64) - 1)(value))


_SHA256 = checked.text(64, shortest=64, like="[0-9a-f]*")
_ENTRY = checked.record(
    {"Size": checked.integer(0, (1 << 63) - 1)},
    {
        "Path": checked.text(4096, errors="strict"),
        "Encoded-Path": checked.text(8192, like="(?:[0-9a-f]{2})*"),
        "Checksum-Algorithm": checked.text(20),
        "Checksum": checked.text(128, like="[0-9a-f]*"),
    },
    more=True,
)
_RANGE = checked.record(
    {"Timeline": checked.integer(1, LAST_TIMELINE), "Start-LSN": checked_lsn, "End-LSN": checked_lsn},
    more=True,
)
_DOCUMENT = checked.record(
    {
        "PostgreSQL-Backup-Manifest-Version": checked.integer(1, 2),
        "Files": checked.each(_file, MOST_FILES),
        "WAL-Ranges": checked.each(_RANGE, _MOST_RANGES),
    },
    {"System-Identifier": _number},
    more=True,
)
