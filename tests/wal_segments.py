"""Made-up segments of WAL: a first page as PostgreSQL writes it, and nothing that pg_waldump would accept."""

from __future__ import annotations

import struct
from pathlib import Path

from refnet.catalog import wal
from refnet.catalog.wal import ServerFacts
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.sources.cluster import wal_writer
from refnet.sources.cluster.wal_archive import WalArchive

#: The smallest segment.
SIZE = 1 << 20
SERVER = ServerFacts("7713912749545699872", SIZE, 17)


def segment(name: str, filled: bytes = b"", *, server: str = SERVER.system_identifier) -> bytes:
    """The bytes of the segment `name`."""
    head = struct.pack(
        "=HHIQI4xQII", 0xD116, 2, wal.timeline_of(name), wal.start_of(name, SIZE), 0, int(server), SIZE, 8192
    )
    return (head + filled).ljust(SIZE, b"\0")


def no_programs(_major: int) -> Binaries:
    raise RefnetError("no programs", "Install them.")


def archive(folder: Path, *names: str) -> WalArchive:
    """An archive with the segments `names`."""
    made = WalArchive(folder / "cluster" / SERVER.system_identifier, no_programs)
    wal_writer.make(made, SERVER)
    for name in names:
        put(made, name)
    return made


def put(archive: WalArchive, name: str, filled: bytes = b"") -> Path:
    """Add the segment `name`, as the receiver does when it is finished."""
    file = archive.live / name
    file.write_bytes(segment(name.removesuffix(wal.PARTIAL), filled))
    wal_writer.add(archive, file)
    file.unlink()
    return archive.folder_of(wal.timeline_of(name)) / f"{name}.gz"
