"""The archive of a server's WAL in the backup folder: segments, deflated, with an index and the histories of timelines.

    cluster/SYSTEM_IDENTIFIER/cluster.json              the server: version, bytes of a segment
    cluster/SYSTEM_IDENTIFIER/wal/00000001/NAME.gz      a segment
    cluster/SYSTEM_IDENTIFIER/wal/00000001/index.jsonl  a line for each: SHA-256, size, times of commits
    cluster/SYSTEM_IDENTIFIER/wal/00000002.history      where timeline 2 forked
    cluster/SYSTEM_IDENTIFIER/reading.json              what was found when segments were read again
    cluster/SYSTEM_IDENTIFIER/receiver.json             what the receiver reports, once a second
    cluster/SYSTEM_IDENTIFIER/live/                     the folder of pg_receivewal: what is not in the archive yet

A segment is published by its rename; then its line is added to the index. gunzip restores it without RefNet.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from isal import isal_zlib

from refnet.catalog import wal
from refnet.catalog.wal import (
    LONGEST_FACTS,
    PARTIAL,
    Fork,
    Gap,
    IndexLine,
    KnownServer,
    LastReading,
    Segment,
    ServerFacts,
)
from refnet.catalog.wal_stream import LONGEST, StreamReport
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import NEW_FILE, OPEN_FILE, explained, opened, read_regular, write_all
from refnet.core.locks import is_locked
from refnet.local_postgres import binaries_for
from refnet.postgres import binaries
from refnet.postgres.binaries import Binaries
from refnet.settings import Settings
from refnet.sources.cluster import wal_dump
from refnet.sources.cluster.wal_dump import End
from refnet.sources.cluster.wal_index import lines_in, segments_in, sizes_in
from refnet.store.backup_folder import LOCK_NAME
from refnet.wiring import UNSEALED

#: Deflated bytes that are inflated at once.
_AT_ONCE = 128 << 10
#: Threads that read segments, of at most so many bytes each.
THREADS, SMALL = 2, 64 << 20
#: The most segments in which the last commit is looked for.
_LOOKS = 20
#: The folder of archives in the backup folder.
CLUSTER = "cluster"
#: The most segments between two positions: 64 TiB of WAL at 16 MiB.
MOST_SEGMENTS = 1 << 22
FACTS, REPORT, READING = "cluster.json", "receiver.json", "reading.json"
#: A page of WAL, in bytes, unless the server was built otherwise: one that was written is not all zeros.
_PAGE = 8 << 10
_TIMELINE = re.compile(r"[0-9A-F]{8}", re.ASCII)
#: Ends the name of a .partial segment that is set aside until its bytes have come again.
BEFORE = ".before"
_NOT_PASSED = "A recovery cannot pass it; the next increment (`refnet backup`) makes later moments reachable."
#: The name of the history of a timeline.
HISTORY = re.compile(r"([0-9A-F]{8})\.history", re.ASCII)


@dataclass(frozen=True)
class WalArchive:
    """The archive of one server, in `folder`."""

    folder: Path
    #: Finds PostgreSQL's programs of a major version.
    programs: Callable[[int], Binaries] = field(
        default=partial(binaries.find, configured=None), compare=False
    )

    @classmethod
    def of(cls, settings: Settings, system_identifier: str) -> Self:
        """The archive of a server by the settings; with encryption.local it is in REFNET_HOME, not encrypted yet."""
        top = settings.home / UNSEALED if settings.encryption_local else settings.backup_dir
        return cls(top / CLUSTER / system_identifier, partial(binaries_for, settings))

    @classmethod
    def known(cls, settings: Settings, cluster: str) -> Self | None:
        """The archive that the receiver of `cluster` wrote last; None: none did on this machine."""
        try:
            found = KnownServer.from_json(read_regular(known_file(settings, cluster), LONGEST_FACTS))
        except (OSError, ValueError):
            return None
        return cls.of(settings, found.system_identifier)

    @property
    def live(self) -> Path:
        """The folder of pg_receivewal."""
        return self.folder / "live"

    def folder_of(self, timeline: int) -> Path:
        return self.folder / "wal" / f"{timeline:08X}"

    @cached_property
    def server(self) -> ServerFacts:
        """RefnetError if the archive does not exist, or its facts are malformed."""
        path = self.folder / FACTS
        with explained(path):
            text = read_regular(path, LONGEST_FACTS)
        try:
            return ServerFacts.from_json(text)
        except ValueError as error:
            raise RefnetError(f"{path}: {error}", "Check which program wrote it.", Exit.DAMAGED) from None

    @property
    def segment_size(self) -> int:
        """Bytes of a segment."""
        return self.server.segment_bytes

    def exists(self) -> bool:
        return (self.folder / FACTS).exists()

    def timelines(self) -> tuple[int, ...]:
        """Timelines with segments in the archive, oldest first."""
        found = (int(one, 16) for one in sizes_in(self.folder / "wal") if _TIMELINE.fullmatch(one))
        return tuple(one for one in found if self.segments(one))

    @property
    def timeline(self) -> int:
        """The one that was received last."""
        report, there = self.report(), self.timelines()
        return report.timeline if report else max(there, default=1)

    def history(self, timeline: int) -> tuple[Fork, ...]:
        """Forks before `timeline`, oldest first; empty for the first one. RefnetError if it is missing or malformed."""
        if timeline == 1:
            return ()
        path, text = self.history_file(f"{timeline:08X}.history")
        try:
            return wal.read_history(text.decode("ascii", "replace"))
        except ValueError as error:
            raise RefnetError(f"{path}: {error}", "Check which program wrote it.", Exit.DAMAGED) from None

    def history_file(self, name: str) -> tuple[Path, bytes]:
        """The file of a history, `TLI.history`, and its text; RefnetError if it is missing."""
        path = next((one for one in (self.folder / "wal" / name, self.live / name) if one.exists()), None)
        if path is None or not HISTORY.fullmatch(name):
            raise RefnetError(
                f"{self.folder}: {name} is missing", "`refnet wal run` fetches it from the server."
            )
        with explained(path):
            return path, read_regular(path, wal.LONGEST_HISTORY)

    def index(self, timeline: int) -> Mapping[str, IndexLine]:
        """Lines of the index by name; a line that is malformed, as after a crash, does not count."""
        return lines_in(self.folder_of(timeline))

    def segments(self, timeline: int) -> tuple[Segment, ...]:
        """Segments in the archive, in order: those with a line in the index, and a file of the size that it says."""
        return segments_in(self.folder_of(timeline), self.segment_size)

    def last_reading(self) -> LastReading:
        """What readings of the segments found; nothing, if there was none, or its record is malformed."""
        try:
            return LastReading.from_json(read_regular(self.folder / READING, LastReading.LAYOUT.longest))
        except (OSError, ValueError):
            return LastReading()

    def present(self, *, live: bool = True) -> frozenset[str]:
        """Names of all complete segments that are not known to be damaged, of every timeline.

        live: also those that are not in the archive yet, and .partial.
        """
        damaged = frozenset(self.last_reading().damaged)
        every = chain.from_iterable(map(self.segments, self.timelines()))
        there = {one.name for one in every if one.file not in damaged and (live or not one.partial)}
        return frozenset(there | (set(self.in_live()) if live else set()))

    def cut(self) -> frozenset[str]:
        """Names of the segments of `present` whose end is not here: nothing can follow them in a recovery."""
        there = self.present()  # In this order: one may be finished meanwhile, then renamed, then archived.
        whole = {name for name, path in self.in_live().items() if path.name == name or not path.exists()}
        return there - whole - self.present(live=False)

    def in_live(self) -> dict[str, Path]:
        """Segments in the folder of pg_receivewal by name, the last one maybe .partial."""
        size, found = self.server.segment_bytes, dict[str, Path]()
        for name, length in sorted(sizes_in(self.live).items()):  # finished, set aside, .partial
            segment = name.removesuffix(PARTIAL).removesuffix(BEFORE)
            if wal.is_segment(segment, size) and length == size:
                found.setdefault(segment, self.live / name)
        return found

    def gaps(self, from_lsn: int, timeline: int, to_lsn: int | None = None) -> tuple[Gap, ...]:
        """What a recovery from `from_lsn` on `timeline` would miss up to `to_lsn`; None: up to the last segment there."""
        size, there, cut = self.server.segment_bytes, self.present(), self.cut()
        last = max((one for one in there if one.startswith(f"{timeline:08X}")), default=None)
        end = wal.start_of(last, size) + size if to_lsn is None and last else to_lsn or from_lsn
        if (end - from_lsn) // size > MOST_SEGMENTS:
            raise RefnetError(
                f"{self.folder}: a segment far ahead of all others",
                "Check which program wrote it.",
                Exit.DAMAGED,
            )
        history = self.history(timeline)
        if not history and _all_of(there - (cut - {last}), from_lsn, end, timeline, size):
            return ()
        return tuple(wal.gaps(wal.needed(from_lsn, end, timeline, history, size), there, cut))

    def read(self, segment: str, index: Mapping[str, IndexLine] | None = None) -> bytes:
        """Bytes of a segment, which the index vouches for, or from the live folder.

        index: that of its timeline, read before; it counts if it has the segment. RefnetError (DAMAGED) if the bytes differ
        from the index; RefnetError if the segment is not there.
        """
        return b"".join(self._pieces(segment, index))

    def _pieces(self, segment: str, index: Mapping[str, IndexLine] | None) -> Iterator[bytes]:
        """Yield what `read` returns; whether it is damaged is known after the last one."""
        found = index if index and segment in index else self.index(wal.timeline_of(segment))
        for name in (segment, segment + PARTIAL):
            path = self.folder_of(wal.timeline_of(segment)) / f"{name}.gz"
            if name in found and path.exists():
                yield from self._inflated(path, found[name].sha256)
                return
        if live := self.in_live().get(segment):
            with explained(live):
                whole = read_regular(live, self.server.segment_bytes)
            yield whole
            return
        raise RefnetError(
            f"the WAL segment {segment} is missing in {self.folder}",
            _NOT_PASSED,
            Exit.DAMAGED,
        )

    def compare(self, segment: Segment) -> None:
        """Read a segment of the archive; RefnetError (DAMAGED) if it differs from the index."""
        for _ in self._inflated(
            self.folder_of(wal.timeline_of(segment.name)) / f"{segment.file}.gz", segment.sha256
        ):
            pass

    def inflated(self, path: Path, sha256: str) -> bytes:
        """Bytes of the deflated segment `path`; RefnetError (DAMAGED) unless they have that digest."""
        return b"".join(self._inflated(path, sha256))

    def _inflated(self, path: Path, sha256: str) -> Iterator[bytes]:
        """Yield what `inflated` returns; whether it is damaged is known after the last one."""
        digest, left, is_whole = hashlib.sha256(), self.server.segment_bytes, False
        with explained(path):
            packed = memoryview(read_regular(path, 2 * left))
        inflater = isal_zlib.decompressobj(31)
        try:
            for at in range(0, len(packed), _AT_ONCE):
                data = inflater.decompress(packed[at : at + _AT_ONCE], left + 1)
                left -= len(data)
                if left < 0:
                    break
                digest.update(data)
                yield data
            is_whole = left >= 0 and inflater.eof and not inflater.unused_data
        except isal_zlib.error:  # type: ignore[misc]  # its stub does not declare a class
            pass
        if not is_whole or digest.hexdigest() != sha256:
            raise RefnetError(
                f"{path} is damaged: it differs from the index",
                _NOT_PASSED,
                Exit.DAMAGED,
            )

    def provide(self, segments: Iterable[str], into: Path) -> None:
        """Write segments and histories to new, plain files in `into`.

        RefnetError as `read`; what was written until then may be damaged.
        """
        names, size = list(segments), self.server.segment_bytes
        indexes = {one: self.index(one) for one in {wal.timeline_of(name) for name in names}}

        def write(name: str) -> None:
            is_segment, index = wal.is_segment(name), indexes[wal.timeline_of(name)]
            pieces = self._pieces(name, index) if is_segment else (self.history_file(name)[1],)
            with explained(into / name), opened(into / name, NEW_FILE) as handle:
                for piece in pieces:
                    write_all(handle, piece)

        with ThreadPoolExecutor(THREADS if size <= SMALL else 1, "wal") as pool:
            for _ in pool.map(write, names):
                pass

    def waldump(self) -> Path | None:
        """pg_waldump of the server's major version; None if it is not installed."""
        try:
            found = self.programs(self.server.major)
            return found.tool("pg_waldump") if found.major == self.server.major else None
        except RefnetError:
            return None

    def report(self) -> StreamReport | None:
        """What the receiver reported last; None: nothing, or it cannot be read."""
        try:
            return StreamReport.from_json(read_regular(self.folder / REPORT, LONGEST))
        except (OSError, ValueError):
            return None

    def is_received(self) -> bool:
        """Whether a receiver runs that writes this archive, on any machine that shares its file system's locks."""
        return is_locked(self.folder / LOCK_NAME)

    def covered_until(self) -> datetime | None:
        """The moment up to which each acknowledged commit is here, by the receiver; else that of the last commit.

        The receiver's word counts only while what it received is here: live/ may have been lost, or left out of a copy.
        """
        found = self.report()
        if found and found.received_until and self._has(found.timeline, found.received_lsn):
            return found.received_until
        return self.last_commit()

    def _has(self, timeline: int, lsn: int) -> bool:
        """Whether the byte before `lsn` is here: in a finished segment, or on a page of a .partial one that was written."""
        size = self.server.segment_bytes
        name = wal.segment_of(max(lsn - 1, 0), timeline, size)
        path = self.in_live().get(name)
        if path is None or path.name == name:
            return path is not None or name in self.present()
        page = (lsn - 1) % size // _PAGE * _PAGE
        try:
            with explained(path), opened(path, OPEN_FILE) as file:
                return any(os.pread(file, _PAGE, page))
        except RefnetError:
            return not path.exists()  # finished meanwhile

    @contextmanager
    def _plain(self, segment: str) -> Iterator[Path]:
        """A folder with the plain file of `segment`, for pg_waldump."""
        with TemporaryDirectory(prefix="refnet-wal-") as folder:
            self.provide([segment], Path(folder))
            yield Path(folder)

    def end(self, timeline: int) -> End | None:
        """Where complete WAL of `timeline` ends, the live .partial included; None: unknown, or nothing is there.

        The last record may begin in the segment before: a new .partial can be empty.
        """
        program, size, present = self.waldump(), self.server.segment_bytes, self.present()
        last = max((one for one in present if wal.timeline_of(one) == timeline), default="")
        while program and last in present:
            with self._plain(last) as folder:
                if found := wal_dump.end_of(program, folder, last):
                    return found
            before = wal.start_of(last, size) - 1
            last = wal.segment_of(before, timeline, size) if before > 0 else ""
        return None

    def last_moment(self, gap: str) -> datetime | None:
        """The last moment to which WAL before `gap`, a missing segment, reaches: just before its last commit; None: unknown."""
        there = (one for one in self.segments(wal.timeline_of(gap)) if one.name < gap and one.last_commit)
        last = self._last_commit(one.name for one in sorted(there, reverse=True))
        return last - timedelta(microseconds=1) if last else None

    def last_commit(self) -> datetime | None:
        """Time of the last commit that the archive has, by pg_waldump; None: none, or unknown."""
        current = (name for name, path in self.in_live().items() if path.name != name)
        every = (one for each in reversed(self.timelines()) for one in reversed(self.segments(each)))
        return self._last_commit(chain(current, (one.name for one in every if one.last_commit)))

    def _last_commit(self, names: Iterable[str]) -> datetime | None:
        """That of the first of the segments `names` that has one: the index, which is not signed, only says where to look."""
        if (program := self.waldump()) is None:
            return None
        for name in islice(names, _LOOKS):
            with suppress(RefnetError), self._plain(name) as folder:
                if last := wal_dump.commits(program, folder, name, complete=False).last:
                    return last
        return None


def _all_of(there: Iterable[str], start: int, end: int, timeline: int, size: int) -> bool:
    """Whether `there` has every segment of a timeline from `start` to before `end`, by their number: names are in order."""
    first, last = wal.segment_of(start, timeline, size), wal.segment_of(max(end - 1, start), timeline, size)
    wanted = max(end - 1, start) // size - start // size + 1
    return sum(first <= one <= last for one in there) == wanted


def known_file(settings: Settings, cluster: str) -> Path:
    """The record of the server that `cluster` had last."""
    return settings.home / "wal" / f"{cluster}.json"
