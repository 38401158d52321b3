"""Brings the WAL of a base backup into the archive: waits for the receiver, or fetches it where none runs.

So a base is never published that cannot be restored.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import psycopg

from refnet.catalog import wal
from refnet.catalog.artifact import Progress
from refnet.catalog.cluster_base import NeededWal
from refnet.catalog.retention import Outlived
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal import PARTIAL, ServerFacts, is_segment
from refnet.core.errors import RefnetError
from refnet.core.files import make_folder
from refnet.core.formatting import plural
from refnet.core.processes import child, until
from refnet.postgres.session import Target
from refnet.postgres.tempdirs import private_folder
from refnet.sources.cluster import live_folder, wal_server, wal_writer
from refnet.sources.cluster.backup_manifest import BackupManifest
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.cluster.wal_index import sizes_in
from refnet.sources.database import server_errors

#: How long the last segment may take to arrive after the backup, and pg_receivewal to begin.
_SECONDS = 300.0
_RESERVE = "SELECT (lsn - '0/0')::bigint FROM pg_catalog.pg_create_physical_replication_slot(%s, true, true)"
#: Whether pg_receivewal has begun: until the server writes something, it has no file.
#: pg_stat_replication shows a role without pg_read_all_stats nothing of its own sessions; pg_stat_activity does.
_STREAMS = """
    SELECT 1 FROM pg_catalog.pg_stat_activity
     WHERE application_name = %s AND query LIKE 'START_REPLICATION %%'
"""
#: Returns when the archive has all WAL that a base needs; RefnetError after a bound.
KeepWal = Callable[[BackupManifest, Progress], None]


def kept(
    archive: WalArchive, facts: ServerFacts, receives: Callable[[], bool], fetching: Fetching
) -> AbstractContextManager[KeepWal]:
    """Have the WAL that is written from now on arrive in `archive`.

    Args:
        facts: of the server that is backed up.
        receives: whether a receiver of this archive runs.
        fetching: fetches the WAL where none does.
    """
    wal_writer.make(archive, facts)
    return _received(archive, receives) if receives() else fetching(archive)


@contextmanager
def _received(archive: WalArchive, receives: Callable[[], bool]) -> Iterator[KeepWal]:
    def keep(manifest: BackupManifest, progress: Progress) -> None:
        names, there = segments_of(archive, manifest), archive.folder_of(manifest.timeline)

        def has_arrived() -> bool:
            return all((there / f"{one}.gz").exists() or (archive.live / one).exists() for one in names)

        progress("waiting for its WAL", 0, None)
        if not until(has_arrived, _SECONDS):
            state = "is behind" if receives() else "has ended"
            raise RefnetError(
                f"the WAL of the base backup is not in {archive.folder}: the receiver {state}",
                "`refnet wal status` shows it; then retry.",
                transient=True,
            )

    yield keep


def segments_of(archive: WalArchive, manifest: BackupManifest) -> tuple[str, ...]:
    """Names of the segments that make a base consistent."""
    size = archive.server.segment_bytes
    return tuple(wal.needed(manifest.start_lsn, manifest.end_lsn, manifest.timeline, (), size))


class Overlap(NamedTuple):
    """The newest segment in an archive, which its server may have still."""

    segment: str
    #: Where it ends.
    end: int
    #: The server keeps the WAL from this position on; None: unknown.
    kept: int | None


#: Fetches the WAL that the server writes meanwhile into an archive.
Fetching = Callable[[WalArchive], AbstractContextManager[KeepWal]]


@contextmanager
def fetched(
    program: Callable[[], Path],
    target: Target,
    base: Path,
    archive: WalArchive,
    *,
    overlap: Overlap | None = None,
) -> Iterator[KeepWal]:
    """Run pg_receivewal while a base is made; a temporary slot keeps the WAL from being removed meanwhile.

    Args:
        program: finds pg_receivewal.
        base: where its folder is made.
        overlap: if the server has that segment still, it is fetched again, and compared.
    """
    make_folder(base)
    with (
        wal_server.session(target) as session,
        private_folder(base) as folder,
        tempfile.TemporaryFile() as errors,
    ):
        name = f"refnet_{secrets.token_hex(6)}"
        reserved = _reserve(session, name)
        if overlap and overlap.end > min(reserved, overlap.kept or reserved):
            (folder / f"{overlap.segment}{PARTIAL}").touch()  # pg_receivewal begins with it
        command = [str(program()), f"--directory={folder}", "--no-loop", "--no-password"]
        variables = {**target.environment(), "PGAPPNAME": name}
        with child(command, errors, env=variables, stdout=subprocess.DEVNULL) as process:
            fetch = _Fetch(archive, folder, process, errors)
            # from here on it has everything that is written: the backup may begin
            fetch.wait(lambda: fetch.has_begun() or session.execute(_STREAMS, (name,)).fetchone() is not None)
            yield fetch.keep


@dataclass(frozen=True)
class _Fetch:
    """A running pg_receivewal."""

    archive: WalArchive
    folder: Path
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for it; RefnetError if the program ends before, or it takes too long."""
        if not until(lambda: self.process.poll() is not None or condition(), _SECONDS):
            raise RefnetError(
                f"the WAL of the base backup did not arrive within {_SECONDS:.0f} s",
                "Check the server's log, then retry.",
                transient=True,
            )
        if self.process.poll() is not None:
            self.errors.seek(0)
            said = self.errors.read(1 << 16)
            raise server_errors.of_program("pg_receivewal", said, "fetching the WAL of the base backup")

    def has_begun(self) -> bool:
        sizes = sizes_in(self.folder)
        return any(sizes[one] and is_segment(one.removesuffix(PARTIAL)) for one in sizes)

    def keep(self, manifest: BackupManifest, progress: Progress) -> None:
        names = segments_of(self.archive, manifest)
        progress("fetching its WAL", 0, None)
        self.wait(lambda: all((self.folder / one).exists() for one in names))
        live_folder.check_fetched(self.archive, self.folder)
        wal_writer.take_in(self.archive, self.folder)


def _reserve(session: wal_server.Session, name: str) -> int:
    """Have the server keep its WAL from the returned position on; the slot ends with the session, so it never outlives us."""
    try:
        row = session.execute(_RESERVE, (name,)).fetchone()
    except psycopg.Error as error:
        raise server_errors.of_server(error, "making a temporary replication slot") from error
    return int(row[0]) if row else 0


def outlived_wal(source: SourceName, archive: WalArchive, needed: NeededWal) -> Outlived | None:
    """The segments before all that is needed; None: there are none."""
    begin, keep = needed.segments(archive.segment_size)
    going = [one for each in archive.timelines() for one in wal_writer.before(archive, begin, keep, each)]
    if not going:
        return None
    first = min(one.start for one in going)
    days = frozenset(made.astimezone(UTC).date() for one, made in needed.older if one.end_lsn >= first)
    return Outlived(
        source,
        f"{plural(len(going), 'segment')} of WAL before {begin}",
        sum(one.size for one in going),
        days,
        partial(wal_writer.drop_before, archive, begin, keep),
    )
