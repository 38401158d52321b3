"""The folder of pg_receivewal: what it finished goes into the archive, what it cannot go on with is moved out of its way.

pg_receivewal begins after the last finished segment here, or with the .partial one again from its first byte. So the last
finished segment stays here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from refnet.catalog import wal
from refnet.catalog.wal import PARTIAL
from refnet.catalog.wal_stream import Course, course
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, read_regular, sync_folder
from refnet.core.formatting import size as shown_size
from refnet.postgres.session import Target
from refnet.sources.cluster import wal_writer
from refnet.sources.cluster.wal_archive import BEFORE, HISTORY, WalArchive
from refnet.sources.cluster.wal_index import sizes_in
from refnet.sources.cluster.wal_server import Identified
from refnet.store.disk import remove

#: In the name of a segment that was cut short, before the time of that.
_SHORT = ".short-"
#: The bytes of the header of the first page, and of a page.
_HEAD, _PAGE = 40, 8 << 10


class Newest(NamedTuple):
    """The newest WAL on this machine."""

    timeline: int
    #: Where pg_receivewal would begin.
    begins: int
    #: Where it ends.
    received: int


def newest(archive: WalArchive, *, streamed: bool = False) -> Newest | None:
    """The newest WAL of `archive` and of its live folder, `streamed`: of that alone; None: there is none."""
    size, live = archive.segment_size, archive.in_live()
    names = {*live} if streamed else archive.present()
    if not names:
        return None
    name, timeline = max(names), wal.timeline_of(max(names))
    is_partial = name in live and live[name].name != name
    begins = wal.start_of(name, size) + (0 if is_partial else size)
    report = archive.report()
    told = report.received_lsn if is_partial and report and report.timeline == timeline else 0
    return Newest(timeline, begins, told if begins < told <= begins + size else begins)


def checked(have: Newest, who: Identified, lsn: int, cluster: str, target: Target) -> Course:
    """How the server, whose WAL ends at `lsn`, continues what is here.

    RefnetError (DAMAGED) if it does not: it is a copy, or was set back.
    """
    try:
        return course(
            ours=have.timeline,
            begins=have.begins,
            received=have.received,
            timeline=who.timeline,
            history=who.history,
            server_lsn=lsn,
        )
    except ValueError as error:
        raise RefnetError(
            f"the server at {target.address} does not continue the WAL of {cluster}: {error}",
            f"Is it a copy, or restored and not promoted? Set clusters.{cluster}.url to the right server, or promote it to a"
            " new timeline (pg_promote).",
            Exit.DAMAGED,
        ) from None


def repair(archive: WalArchive, now: datetime) -> Iterator[str]:
    """Move away what pg_receivewal would stumble over for ever; yield a sentence about each file that is kept.

    A full disk cuts a .partial segment short. It may have WAL that the server has not any more.
    """
    for aside in archive.live.glob(f"*{BEFORE}"):  # a receiver was killed
        name = aside.name.removesuffix(BEFORE)
        if (archive.live / name).exists():
            remove(aside)
        else:
            aside.replace(archive.live / f"{name}{PARTIAL}")
    for name, length in sizes_in(archive.live).items():
        segment = name.removesuffix(PARTIAL)
        right = {archive.segment_size, 0} if name != segment else {archive.segment_size}
        if not wal.is_segment(segment, archive.segment_size) or length in right:
            continue
        path, kept = archive.live / name, archive.live / f"{segment}{_SHORT}{now:%Y%m%d%H%M%S}"
        if _is_new(archive, path, length):
            with explained(path):
                path.rename(kept)
            yield f"{name} was cut short ({shown_size(length)}, as by a full disk): it is kept as {kept.name}, and received again"
        else:
            remove(path)
        sync_folder(archive.live)


def _is_new(archive: WalArchive, path: Path, length: int) -> bool:
    """Whether a segment that was cut short has WAL that no file beside it has: each attempt on a full disk leaves one."""
    with explained(path):
        data = read_regular(path, max(length, archive.segment_size))
        others = sorted(archive.live.glob(f"{path.name.removesuffix(PARTIAL)}{_SHORT}*"))
        known = [read_regular(one, archive.segment_size) for one in others]
    return any(data[:_HEAD]) and not any(one.startswith(data.rstrip(b"\0")) for one in known)


@dataclass
class Known:
    """What this process knows of the live folder."""

    #: Finished segments that are in the archive.
    added: set[str] = field(default_factory=set)
    #: The .partial segment from before, set aside, and where WAL in it ended.
    before: tuple[Path, int] | None = None
    #: Its new bytes differed the last time; they may have been half written.
    differed: bool = False
    #: Where the stream began; None: what came was found to continue what was there.
    began: int | None = 0
    #: That of the newest segment: a server can be promoted while it sends.
    timeline: int = 1
    #: The segment from which on the server sent other WAL than before; "": none.
    other: str = ""

    def set_aside(self, archive: WalArchive, have: Newest | None) -> None:
        """Set the .partial segment aside, which pg_receivewal begins again: so its new bytes are the server's.

        have: the newest WAL of the live folder.
        """
        self.began = have.begins if have else 0
        if have is None or have.received <= have.begins:
            return
        name = wal.segment_of(have.begins, have.timeline, archive.segment_size)
        aside, partial = archive.live / f"{name}{BEFORE}", archive.live / f"{name}{PARTIAL}"
        with explained(partial):
            partial.rename(aside)
            partial.touch(0o600)  # pg_receivewal begins with the segment of this name
        self.before = (aside, have.received)

    def compare(self, archive: WalArchive) -> None:
        """RefnetError (DAMAGED) if the server sends other bytes than before."""
        if self.before is None:
            return
        (aside, end), name = self.before, self.before[0].name.removesuffix(BEFORE)
        count, whole = (end - 1) % archive.segment_size + 1, archive.live / name
        now = whole if whole.exists() else archive.live / f"{name}{PARTIAL}"
        try:
            with explained(now):
                kept, new = (read_regular(one, archive.segment_size) for one in (aside, now))
        except RefnetError:
            if now.exists():
                raise
            return  # it is just being renamed
        if now != whole and not any(new[(count - 1) // _PAGE * _PAGE : count]):
            return  # the end has not come yet
        if kept[:count] == new[:count]:
            remove(aside)
            self.before = self.began = None
        elif now != whole and not self.differed:
            self.differed = True
        else:
            self.other = name
            raise _other_bytes(name)

    def continues(self, archive: WalArchive) -> bool:
        """Whether what came continues what was there, as far as is known; RefnetError (DAMAGED) if it does not.

        False: the first segment has no complete record yet. Its bytes were not compared; the server may not have older ones.
        """
        live, size, began = archive.in_live(), archive.segment_size, self.began
        new = sorted(one for one in live if began is not None and wal.start_of(one, size) >= began)
        if not new:
            return True
        does = wal_writer.continues(archive, live[new[0]])
        if not does and live[new[0]].name == new[0]:
            self.other = new[0]
            raise _does_not_continue(new[0])
        # A timeline may end before its first record.
        if does or wal.timeline_of(new[-1]) > wal.timeline_of(new[0]):
            self.began = None
        return self.began is None

    def put_back(self, archive: WalArchive) -> None:
        """After pg_receivewal has ended: remove what another server sent, and put back what was set aside."""
        with suppress(RefnetError):
            self.compare(archive)
        for one in sizes_in(archive.live) if self.other else ():
            segment = one.removesuffix(PARTIAL)
            if wal.is_segment(segment, archive.segment_size) and segment >= self.other:
                remove(archive.live / one)
        if self.before:
            aside = self.before[0]
            with explained(aside):
                aside.replace(archive.live / f"{aside.name.removesuffix(BEFORE)}{PARTIAL}")


def check_fetched(archive: WalArchive, folder: Path) -> None:
    """RefnetError (DAMAGED) if the finished segments in `folder` do not continue what `archive` has."""
    have, names = newest(archive, streamed=True), [*filter(wal.is_segment, sizes_in(folder))]
    if have and have.received > have.begins:
        name = wal.segment_of(have.begins, have.timeline, archive.segment_size)
        if name in names:
            count, files = (
                (have.received - 1) % archive.segment_size + 1,
                (archive.in_live()[name], folder / name),
            )
            with explained(folder / name):
                ours, fetched = (read_regular(one, archive.segment_size)[:count] for one in files)
            if ours != fetched:
                raise _other_bytes(name)
    new = [one for one in names if one not in archive.present(live=False)]
    if new and not wal_writer.continues(archive, folder / new[0]):
        raise _does_not_continue(new[0])


def _other_bytes(segment: str) -> RefnetError:
    return wal_writer.another(f"the server sends other WAL for {segment} than before")


def _does_not_continue(segment: str) -> RefnetError:
    return wal_writer.another(f"{segment} from the server does not continue what was received")


def collect(archive: WalArchive, known: Known) -> None:
    """Add what is finished in the live folder to the archive, and remove all of it but the last finished segment."""
    sizes = sizes_in(archive.live)
    for name in filter(HISTORY.fullmatch, sizes):
        if name not in known.added:
            wal_writer.add_history(archive, archive.live / name)
            known.added.add(name)
    finished = [name for name in sizes if wal.is_segment(name, archive.segment_size)]
    for name in finished:
        if name not in known.added:
            wal_writer.add(archive, archive.live / name)
            known.added.add(name)
            _drop_short(archive, name)
    partial = [name for name in sizes if wal.is_partial(name, archive.segment_size)]
    known.timeline = max(map(wal.timeline_of, (*finished, *partial)), default=known.timeline)
    for name in partial:
        if wal.timeline_of(name) < known.timeline:
            _end_timeline(archive, archive.live / name)
    for name in finished[:-1]:
        remove(archive.live / name)


def _drop_short(archive: WalArchive, segment: str) -> None:
    """Remove what was cut short of a segment that is complete now, if it has nothing else."""
    for short in archive.live.glob(f"{segment}{_SHORT}*"):
        with explained(short):
            data = read_regular(short, archive.segment_size).rstrip(b"\0")
        if archive.read(segment).startswith(data):
            remove(short)


def clear(archive: WalArchive) -> None:
    """Add all segments of the live folder to the archive, the .partial one too, and empty it."""
    collect(archive, Known())
    for name in sizes_in(archive.live):
        if wal.is_partial(name, archive.segment_size):
            _end_timeline(archive, archive.live / name)
        elif wal.is_segment(name, archive.segment_size):
            remove(archive.live / name)


def _end_timeline(archive: WalArchive, partial: Path) -> None:
    """Add a .partial segment that will not go on to the archive, unless nothing was written into it."""
    with explained(partial):
        data = read_regular(partial, archive.segment_size)
    if any(data[:_HEAD]):
        wal_writer.add(archive, partial)
    remove(partial)
