"""Writes the archive of a server's WAL: what pg_receivewal finished goes in, what no base needs any more goes out."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from isal import isal_zlib

from refnet.catalog import wal
from refnet.catalog.wal import MOST_DAMAGED, PARTIAL, IndexLine, LastReading, Segment, ServerFacts
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.locks import locked
from refnet.sources.cluster import wal_dump
from refnet.sources.cluster.wal_archive import FACTS, HISTORY, READING, WalArchive
from refnet.sources.cluster.wal_dump import Commits
from refnet.sources.cluster.wal_index import INDEX, sizes_in
from refnet.store.disk import HiddenFile, append_lines, remove

#: The header of the first page of a segment: magic, flags, timeline, position, rest of a record, system identifier, bytes
#: of a segment and of a page. See XLogLongPageHeaderData in PostgreSQL's access/xlog_internal.h.
_HEADER = struct.Struct("=HHIQI4xQII")
_IS_LONG = 2


def make(archive: WalArchive, server: ServerFacts) -> None:
    """Make the folders of `archive` for `server`, and record it; RefnetError (DAMAGED) if it is another server's."""
    for folder in (archive.live, archive.folder / "wal"):
        make_folder(folder)
    if archive.exists() and archive.server != server:
        known = archive.server
        raise RefnetError(
            f"{archive.folder} is the archive of another server: {known.system_identifier}, PostgreSQL {known.major}",
            "Move that folder away; `refnet wal run` makes a new one.",
            Exit.DAMAGED,
        )
    with explained(archive.folder):
        replace_file(archive.folder / FACTS, server.to_json().encode())


def take_in(archive: WalArchive, folder: Path) -> list[IndexLine]:
    """Add every finished segment and every history in `folder` to the archive; nothing is removed from `folder`."""
    added = list[IndexLine]()
    for name in sizes_in(folder):
        if wal.is_segment(name, archive.segment_size):
            added.append(add(archive, folder / name))
        elif HISTORY.fullmatch(name):
            add_history(archive, folder / name)
    return added


def add(archive: WalArchive, file: Path) -> IndexLine:
    """Add the segment `file`, complete, or .partial where its timeline ended, durably; it may be there already.

    RefnetError (DAMAGED) if it is no segment of this server, is not intact, or the archive has another one of that name.
    """
    name = file.name.removesuffix(PARTIAL)
    with explained(file):
        data = read_regular(file, archive.server.segment_bytes)
    _check_header(archive, file, data)
    sha256, timeline = hashlib.sha256(data).hexdigest(), wal.timeline_of(name)
    folder, path = archive.folder_of(timeline), archive.folder_of(timeline) / f"{file.name}.gz"
    with _indexing(archive):
        known = archive.index(timeline).get(file.name)
        if known and known.sha256 != sha256 and path.exists():
            raise _another(file)
        reading = archive.last_reading()
        is_damaged = file.name in reading.damaged
        if known and known.size == sizes_in(folder).get(path.name) and not is_damaged:
            return known
        line = IndexLine(
            file.name, sha256, _deflate(archive, data, path, sha256), *_commits(archive, file, data)
        )
        with explained(folder / INDEX):
            append_lines(folder / INDEX, line.to_json())
        if is_damaged:
            _keep(
                archive, replace(reading, damaged=tuple(one for one in reading.damaged if one != file.name))
            )
    return line


def _deflate(archive: WalArchive, data: bytes, path: Path, sha256: str) -> int:
    """Write `data` to `path`, deflated and read back; return its size. A crash may have left it there without a line."""
    make_folder(path.parent)
    with suppress(RefnetError):
        archive.inflated(path, sha256)
        return path.stat().st_size
    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    with HiddenFile(path.parent, ".part") as hidden:
        hidden.write(deflater.compress(data) + deflater.flush())
        _, size = hidden.sync()
        hidden.replace(path.name)
    return size


def _check_header(archive: WalArchive, file: Path, data: bytes) -> None:
    """RefnetError (DAMAGED) unless the first page names this server, and the position and timeline of the file."""
    size, name = archive.server.segment_bytes, file.name.removesuffix(PARTIAL)
    problem = ""
    if len(data) != size:
        problem = f"it has {len(data):,} bytes instead of {size:,}"
    else:
        _, flags, timeline, at, _, server, its_size, _ = _HEADER.unpack_from(data)
        if not flags & _IS_LONG or (at, its_size) != (wal.start_of(name, size), size):
            problem = "its first page is not that of this segment"
        elif str(server) != archive.server.system_identifier:
            problem = f"it is of another server ({server})"
        elif timeline > wal.timeline_of(name):
            problem = f"it is of timeline {timeline}"
    if problem:
        raise RefnetError(
            f"{file} is not archived: {problem}", "Check which program wrote it; move it away.", Exit.DAMAGED
        )


def _commits(archive: WalArchive, file: Path, data: bytes) -> Commits:
    """Times of commits in a segment that is not in the archive yet; both None without pg_waldump."""
    program = archive.waldump()
    if program is None:
        return Commits(None, None)
    if not file.name.endswith(PARTIAL):
        return wal_dump.commits(program, file.parent, file.name)
    with TemporaryDirectory(prefix="refnet-wal-") as folder:
        name = file.name.removesuffix(PARTIAL)
        Path(folder, name).write_bytes(data)
        return wal_dump.commits(program, Path(folder), name, complete=False)


def continues(archive: WalArchive, file: Path) -> bool:
    """Whether the segment `file` goes on where the one before it ended; False: not yet, if it is being written.

    True also if that cannot be said: the one before it is not whole in the archive, or there is no pg_waldump.
    """
    name, program = file.name.removesuffix(PARTIAL), archive.waldump()
    size, timeline = archive.segment_size, wal.timeline_of(name)
    last = wal.segment_of(max(0, wal.start_of(name, size) - 1), timeline, size)
    if program and last in archive.present() - archive.cut() - {name}:
        with TemporaryDirectory(prefix="refnet-wal-") as folder, suppress(RefnetError):
            archive.provide([last], Path(folder))
            Path(folder, name).symlink_to(file.absolute())
            return wal_dump.follows(program, Path(folder), last, name)
    return True


def another(what: str) -> RefnetError:
    """The error for WAL that contradicts the archive."""
    return RefnetError(
        f"{what}: it is another server, or a copy",
        "Two servers write WAL with the same system identifier and timeline: promote the copy to a new timeline"
        " (pg_promote), or name only one of them in the settings.",
        Exit.DAMAGED,
    )


def _another(file: Path) -> RefnetError:
    return another(f"{file} differs from the segment of that name in the archive")


def add_history(archive: WalArchive, file: Path) -> None:
    """Add the history of a timeline; RefnetError (DAMAGED) if it is malformed, or the archive has another one."""
    with explained(file):
        data = read_regular(file, wal.LONGEST_HISTORY)
    kept = archive.folder / "wal" / file.name
    try:
        wal.read_history(data.decode("ascii", "replace"))
    except ValueError as error:
        raise RefnetError(f"{file}: {error}", "Check which program wrote it.", Exit.DAMAGED) from None
    with explained(kept):
        if not kept.exists():
            replace_file(kept, data)
        elif read_regular(kept, wal.LONGEST_HISTORY) != data:
            raise _another(file)


def before(archive: WalArchive, segment: str, keep: Collection[str], timeline: int) -> list[Segment]:
    """The segments of `timeline` in `archive` that begin before `segment`, but `keep`."""
    first = wal.start_of(segment, archive.segment_size)
    return [one for one in archive.segments(timeline) if one.start < first and one.name not in keep]


def drop_before(archive: WalArchive, segment: str, keep: Collection[str] = ()) -> tuple[int, int]:
    """Delete the segments of all timelines that begin before `segment`, but `keep`; return their number and bytes.

    keep: names of segments that bases of their own need.
    """
    count, freed = 0, 0
    with _indexing(archive):
        for timeline in archive.timelines():
            folder = archive.folder_of(timeline)
            going = {one.file: one.size for one in before(archive, segment, keep, timeline)}
            for name in going:
                remove(folder / f"{name}.gz")
            lines = [one for one in archive.index(timeline).values() if one.name not in going]
            if going:
                with explained(folder / INDEX):
                    replace_file(folder / INDEX, "".join(one.to_json() for one in lines).encode())
            count, freed = count + len(going), freed + sum(going.values())
    return count, freed


def keep_reading(
    archive: WalArchive, read: Collection[str], damaged: Collection[str], shares: Sequence[datetime]
) -> None:
    """Record what a reading found.

    read: names in the index of the segments that it read; what is known of others stays.
    """
    with _indexing(archive):
        names = {*archive.last_reading().damaged}.difference(read) | {*damaged}
        _keep(archive, LastReading(tuple(sorted(names)[-MOST_DAMAGED:]), tuple(shares)))


def _keep(archive: WalArchive, reading: LastReading) -> None:
    with explained(archive.folder / READING):
        replace_file(archive.folder / READING, reading.to_json().encode())


@contextmanager
def _indexing(archive: WalArchive) -> Iterator[None]:
    """Keep other processes from changing an index meanwhile."""
    with locked(archive.folder / "index.lock"):
        yield
