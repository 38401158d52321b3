"""The archive of a server's WAL and remote stores: what is new is sent once a minute, and a fetch brings it back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from refnet import wiring
from refnet.catalog import wal
from refnet.catalog.artifact import Progress, silent
from refnet.catalog.cluster_base import BaseFacts, NeededWal
from refnet.catalog.source_name import bases_name
from refnet.catalog.wal import PARTIAL, ServerFacts
from refnet.catalog.wal_record import SentSegment, SentWal
from refnet.core import formatting
from refnet.core.clock import utc_now
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, open_file, replace_file
from refnet.settings import Settings
from refnet.sources.cluster import wal_writer
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.store import wal_copies
from refnet.store.backup_folder import locked
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored
from refnet.store.remote import RemoteStore
from refnet.store.sending import sender_to
from refnet.store.wal_sending import New, NewSegment, Sent, Server, WalSender

#: Seconds between two records.
PERIOD = 60.0


@dataclass
class StreamSender:
    """Sends the WAL of a cluster of the settings to its remote stores until `stop` is set."""

    settings: Settings
    cluster: str
    #: Called with a sentence where something changes.
    note: Callable[[str], None]
    now: Callable[[], datetime] = utc_now
    stop: threading.Event = field(default_factory=threading.Event)
    #: By store: the last error.
    _said: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Send once a minute; an error is noted once, and the next minute tries again."""
        while True:
            self.send()
            if self.stop.wait(PERIOD):
                return

    def send(self) -> None:
        """Send what is new to each store."""
        for store in stores_of(self.settings, self.cluster):
            try:
                send(self.settings, self.cluster, store, self.now)
            except RefnetError as error:
                if self._said.get(store) != error.message:
                    self.note(f"{self.cluster}: WAL is not sent to {store}: {error.message}; {error.hint}")
                self._said[store] = error.message
            else:
                if self._said.pop(store, ""):
                    self.note(f"{self.cluster}: WAL is sent to {store} again")


def stores_of(settings: Settings, cluster: str) -> tuple[str, ...]:
    """Names of the remote stores that get the WAL of `cluster`: those of its base backups."""
    return tuple(one.name for one in settings.stores_of(bases_name(cluster)))


def send(settings: Settings, cluster: str, store: str, now: Callable[[], datetime]) -> Sent | None:
    """Send to `store` what is new in the archive of `cluster`; None: nothing was received on this machine yet."""
    archive = WalArchive.known(settings, cluster)
    if archive is None or not archive.exists():
        return None
    sender, facts = sender_to(wiring.remote_store(settings, store), settings, now), archive.server
    server = Server(facts.system_identifier, facts.segment_bytes, facts.major)
    return WalSender(sender.store, sender.encrypter, server, now).send(partial(new_in, archive))


def new_in(archive: WalArchive) -> New:
    """What `archive` has now."""
    report, timelines, damaged = archive.report(), archive.timelines(), {*archive.last_reading().damaged}
    segments = [
        NewSegment(one.file, archive.folder_of(each) / f"{one.file}.gz", one.sha256)
        for each in timelines
        for one in archive.segments(each)
        if one.file not in damaged
    ]
    names = (f"{each:08X}.history" for each in timelines if each > 1)
    histories = {name: archive.history_file(name)[1].decode("ascii", "replace") for name in names}
    live, there = archive.in_live(), {one.name for one in segments}
    waiting = [name for name, path in live.items() if path.name == name and name not in there]
    partials = {name: path for name, path in live.items() if path.name != name}
    if waiting or not partials or report is None:
        return New(tuple(segments), histories, "", lambda _: b"", None)
    name = max(partials)
    length = report.received_lsn - wal.start_of(name, archive.segment_size)
    is_current = wal.timeline_of(name) == report.timeline and 0 < length <= archive.segment_size
    read = partial(_read, partials[name], length if is_current else 0)
    return New(tuple(segments), histories, name if is_current else "", read, report.received_until)


def _read(path: Path, length: int, offset: int) -> bytes:
    """Bytes of a segment that is being written, from `offset` up to `length`; empty if it was finished meanwhile."""
    try:
        with open(open_file(path), "rb") as file:  # noqa: PTH123  # a handle
            file.seek(offset)
            return file.read(max(0, length - offset))
    except FileNotFoundError:
        return b""


def outlived_in(store: RemoteStore, needed: NeededWal, before: datetime) -> Iterator[tuple[Stored, str]]:
    """Yield the objects of WAL in `store` that `needed` does not need, and why; see `wal_copies.outlived`."""
    newest = wal_copies.read(store, needed.system_identifier)[0].newest
    if not (key := store.own_key) or newest is None:
        return
    begin, keep = needed.segments(newest.segment_bytes)

    def needs(segment: str) -> bool:
        is_later = wal.start_of(segment, newest.segment_bytes) >= wal.start_of(begin, newest.segment_bytes)
        return is_later or segment in keep

    yield from wal_copies.outlived(store, key, needed.system_identifier, needs, before)


@dataclass(frozen=True)
class Brought:
    """What a fetch brought of a server's WAL."""

    segments: int
    #: The last commit that arrived in the store; None: unknown.
    last_commit: datetime | None
    #: What is missing or damaged there, a sentence each.
    problems: tuple[str, ...]


def bring(settings: Settings, store: RemoteStore, base: BaseFacts, progress: Progress) -> Brought:
    """Bring the WAL from the begin of `base` on into the archive; what is there already is not fetched again."""
    said, problems = _read_all(store, base.system_identifier)
    if said.newest is None:
        what = (
            f"{store.shown} has no WAL of server {base.system_identifier}: restores end with its base backups"
        )
        return Brought(0, None, (*problems, what))
    archive = WalArchive.of(settings, base.system_identifier)
    newest = said.newest
    wal_writer.make(archive, ServerFacts(base.system_identifier, newest.segment_bytes, newest.major))
    brought = fill(archive, store, said, base.start_lsn, progress)
    return replace(brought, problems=(*problems, *brought.problems))


def _read_all(store: RemoteStore, system_identifier: str) -> tuple[SentWal, tuple[str, ...]]:
    """What `store` has, also behind marks of deletion where this credential may list them."""
    try:
        return wal_copies.read(store.with_versions(), system_identifier)
    except BucketError as error:
        if error.kind is not BucketFailure.REFUSED:
            raise
        return wal_copies.read(store, system_identifier)


def fill(
    archive: WalArchive, store: RemoteStore, said: SentWal, first: int, progress: Progress = silent
) -> Brought:
    """Bring what `said` has from the position `first` on into `archive`."""
    size, found, count = archive.segment_size, list[str](), 0
    wanted = [
        said.segments[name]
        for name in sorted(said.segments)
        if wal.start_of(name[:24], size) >= first - first % size
    ]
    with TemporaryDirectory(prefix="refnet-wal-") as place:
        folder = Path(place)
        for number, one in enumerate(wanted):
            progress("fetch WAL", number * size, len(wanted) * size)
            try:
                count += _bring(archive, store, one, folder)
            except RefnetError as error:
                if error.code is not Exit.DAMAGED:
                    raise
                found.append(error.message)
        for name, text in said.histories.items():
            (folder / name).write_text(text, "ascii")
            wal_writer.add_history(archive, folder / name)
    _bring_tail(archive, said)
    return Brought(count, archive.last_commit(), tuple(found))


def _bring(archive: WalArchive, store: RemoteStore, segment: SentSegment, folder: Path) -> bool:
    """Bring one segment; False if it is there, and not known to be damaged. RefnetError (DAMAGED) if it is not what was sent."""
    known = archive.index(wal.timeline_of(segment.name)).get(segment.name)
    if known and known.sha256 == segment.plain and segment.name not in archive.last_reading().damaged:
        return False
    packed, plain = folder / f"{segment.name}.gz", folder / segment.name
    packed.write_bytes(wal_copies.fetch(store, segment))
    plain.write_bytes(archive.inflated(packed, segment.plain))
    wal_writer.add(archive, plain)
    packed.unlink()
    plain.unlink()
    return True


def _bring_tail(archive: WalArchive, said: SentWal) -> None:
    """Put the segment that was being written where the receiver has it, unless there is one, or a receiver runs."""
    if (tail := said.tail) is None:
        return
    path, data = archive.live / f"{tail.segment}{PARTIAL}", tail.data.ljust(archive.segment_size, b"\0")
    try:
        with locked(archive.folder, f"the WAL in {archive.folder}"), explained(path):
            if tail.segment not in archive.present():
                replace_file(path, data)
    except RefnetError as error:
        if error.code is not Exit.LOCKED:  # a receiver has newer WAL
            raise


def sentence(brought: Brought) -> str:
    """What a fetch says of it."""
    until = f", up to the commit of {formatting.local(brought.last_commit)}" if brought.last_commit else ""
    return f"{formatting.plural(brought.segments, 'segment')} of WAL fetched{until}"
