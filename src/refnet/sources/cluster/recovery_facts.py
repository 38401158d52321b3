"""What a recovery is decided from: the archive of WAL as it is, and the base backups of the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.catalog import Catalog
from refnet.catalog.cluster_base import chain, facts_of, whole_chain
from refnet.catalog.manifest import Entry
from refnet.catalog.recovery_target import (
    Archived,
    Candidate,
    Commits,
    RecoveryPlan,
    Timeline,
    Wanted,
    at_end_of,
    decide,
    parse_moment,
)
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal import CommitRecord, parse_lsn, segment_of, start_of, timeline_of
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plural, size
from refnet.sources.cluster.base_index import members_of
from refnet.sources.cluster.data_folder import Piece
from refnet.sources.cluster.wal_archive import WalArchive
from refnet.sources.cluster.wal_dump import commit_records
from refnet.sources.restore_options import AsOf

#: Segments whose commits are remembered while one recovery is decided.
_REMEMBERED = 8


@dataclass(frozen=True)
class Recovery:
    """A decided recovery, with what it reads."""

    archive: WalArchive
    plan: RecoveryPlan
    chain: Sequence[Piece]

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.plan.base.name,
            "chain": [piece.name for piece in self.chain],
            "timeline": self.plan.timeline,
            "segments": len(self.plan.segments),
            "stops_at": self.plan.stops,
        }

    def described(self) -> Iterator[str]:
        """What it reads, and where it stops, as text."""
        segments = self.plan.segments
        wal = f"{plural(len(segments), 'segment')} of WAL ({size(len(segments) * self.archive.segment_size)})"
        yield f"from: {', '.join(piece.name for piece in self.chain)}"
        yield f"with: {wal}, timeline {self.plan.timeline}"
        yield f"up to: {self.plan.stops}"


def decided(context: Context, source: SourceName, as_of: AsOf, base: Entry | None = None) -> Recovery:
    """Decide how the cluster of `source` is recovered to `as_of`; RefnetError if that is impossible.

    base: the base backup to begin with, and for `as_of` without a moment, to end with; None: the best one.
    """
    entries = context.store.entries(source)
    newest = base or Catalog.of(entries, context.clock.now()).newest_complete(source)
    facts = facts_of(newest) if newest else None
    if newest is None or facts is None:
        raise RefnetError(f"there is no base backup of {source}", f"Make one: `refnet backup {source}`.")
    archive = WalArchive.of(context.settings, facts.system_identifier)
    if not archive.exists():
        raise RefnetError(
            f"there is no WAL archive of {source}: {archive.folder} does not exist",
            f"`refnet fetch {source} --store STORE` brings it, or bring the folder back from where it was.",
        )
    there = archived(archive, archive.covered_until())
    of_server = candidates(entries, facts.system_identifier)
    if base:
        of_server = [one for one in of_server if one.name == base.name]
    wanted = _wanted(as_of, context.clock)
    plan = decide(wanted, there, of_server) if wanted else at_end_of(of_server[0], there)
    entry = next(one for one in entries if one.name == plan.base.name)
    links = [piece(context.store.artifact(one)) for one in whole_chain(entry, entries)]
    return Recovery(archive, plan, links)


def _wanted(as_of: AsOf, clock: Clock) -> Wanted | None:
    """None: no moment is given. RefnetError (USAGE) for a malformed one, or for several."""
    given = [
        name for name, one in (("--at", as_of.time), ("--lsn", as_of.lsn), ("--latest", as_of.latest)) if one
    ]
    if len(given) > 1:
        raise RefnetError(f"{' and '.join(given)} exclude each other", "Give one of them.", Exit.USAGE)
    if as_of.time:
        return Wanted(time=parse_moment(as_of.time, clock.zone), timeline=as_of.timeline)
    if as_of.lsn:
        try:
            return Wanted(lsn=parse_lsn(as_of.lsn), timeline=as_of.timeline)
        except ValueError as error:
            raise RefnetError(
                f"--lsn: '{as_of.lsn}' is {error}", "`refnet wal status` shows positions.", Exit.USAGE
            ) from None
    return Wanted(timeline=as_of.timeline) if as_of.latest else None


def archived(archive: WalArchive, covered: datetime | None) -> Archived:
    """What `archive` has now. `covered`: it has all commits up to this time; None: those that it has."""
    timelines = {
        number: Timeline(
            number,
            archive.history(number),
            archive.segments(number),
            end.record if (end := archive.end(number)) else None,
        )
        for number in timelines_in(archive)
    }
    last = archive.last_commit()
    known = max((one for one in (covered, last) if one), default=None)
    present, cut = archive.present(), archive.cut()
    return Archived(archive.segment_size, timelines, present, commits_in(archive), known, cut)


def timelines_in(archive: WalArchive) -> frozenset[int]:
    """Timelines with segments in `archive`, or with one that the receiver has not finished."""
    return frozenset((*archive.timelines(), *map(timeline_of, archive.in_live())))


def commits_in(archive: WalArchive) -> Commits:
    """Read the commits of segments in `archive`, by pg_waldump."""
    size, present = archive.segment_size, archive.present()

    @lru_cache(_REMEMBERED)
    def commits(segment: str) -> Sequence[CommitRecord]:
        program = archive.waldump()
        if program is None:
            raise RefnetError(
                f"pg_waldump of PostgreSQL {archive.server.major} is not installed",
                f"Install it (Debian: apt install postgresql-{archive.server.major}).",
                Exit.UNVERIFIED,
            )
        end, names = start_of(segment, size) + size, [segment]
        following = segment_of(end, timeline_of(segment), size)
        with TemporaryDirectory(prefix="refnet-wal-") as folder:
            archive.provide(names, Path(folder))
            if following in present:
                with suppress(RefnetError):  # the last commit may end there; that segment may be damaged
                    archive.provide([following], Path(folder))
                    names.append(following)
            return tuple(commit_records(program, Path(folder), names, end))

    return commits


def candidates(entries: Iterable[Entry], system_identifier: str) -> list[Candidate]:
    """The base backups of that server among `entries`; those whose chain is not whole have a problem."""
    every, found = list(entries), list[Candidate]()
    for entry in every:
        facts = facts_of(entry)
        if facts is None or facts.system_identifier != system_identifier:
            continue
        try:
            damaged = [one.name for one in chain(entry, every) if one.damaged]
            problem = f"{damaged[0]} is damaged" if damaged else ""
        except ValueError as error:
            problem = str(error)
        found.append(Candidate(entry.name, facts, entry.created, problem))
    return found


def piece(stored: OpenArtifact) -> Piece:
    """One base backup of a chain; RefnetError (DAMAGED) if its manifest is of none."""
    facts = facts_of(stored.entry) if stored.entry else None
    if stored.manifest is None or facts is None:
        raise RefnetError(
            f"{stored.name} has no manifest of a base backup", "Choose another one.", Exit.DAMAGED
        )
    return Piece(stored.name, stored.open, stored.manifest.sha256, facts, members_of(stored))
