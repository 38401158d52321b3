"""Decides what a recovery of a cluster reads, and where it stops; pure.

PostgreSQL gives an answer without a word in cases where it does not have the right one: it takes a time without zone in its
own, promotes where WAL is missing if no target is set, follows the newest timeline. So a plan has always a target, a
timeline and a numeric offset, and what cannot be reached is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from itertools import islice

from refnet.catalog import wal
from refnet.catalog.catalog import parse_time
from refnet.catalog.cluster_base import BaseFacts
from refnet.catalog.wal import CommitRecord, Fork, Segment, lsn_text
from refnet.core.errors import Exit, RefnetError

#: The longest record of WAL (XLogRecordMaxSize), in bytes.
_LONGEST_RECORD = 1020 << 20


@dataclass(frozen=True)
class Wanted:
    """What a user asks for; neither a time nor a position: the latest."""

    time: datetime | None = None
    lsn: int | None = None
    #: Stop before the record at `lsn`, and not after it.
    before: bool = False
    #: None: the one that the server was on.
    timeline: int | None = None


class AfterTheEndError(RefnetError):
    """A time is asked for that is later than what the archive has."""

    #: What it has: everything up to this time; None: nothing is known.
    until: datetime | None = None


#: Reads the records of commits in a segment, in order.
Commits = Callable[[str], Sequence[CommitRecord]]


@dataclass(frozen=True)
class Timeline:
    """What an archive has of one timeline."""

    number: int
    #: Forks before it, oldest first.
    history: tuple[Fork, ...]
    #: Segments with a line in the index, in order.
    segments: tuple[Segment, ...]
    #: Position of its last complete record; None: unknown.
    end: int | None

    @property
    def begin(self) -> int:
        """Where it forked."""
        return self.history[-1].lsn if self.history else 0


@dataclass(frozen=True)
class Archived:
    """What an archive of WAL has."""

    #: Bytes of a segment.
    size: int
    timelines: Mapping[int, Timeline]
    #: Names of all complete segments, also of those that are not in an index yet.
    present: frozenset[str]
    commits: Commits
    #: The archive has all commits up to this time; None: none.
    covered: datetime | None
    #: Those of `present` without their end.
    cut: frozenset[str] = frozenset()

    def find(self, segment: str, begin: int, after: datetime | None) -> CommitRecord | None:
        """The first commit in `segment` that begins at `begin` or later, and is later than `after`; None: there is none."""
        found = (one for one in self.commits(segment) if one.lsn >= begin)
        return next((one for one in found if after is None or one.time > after), None)

    def last_commits(self) -> dict[str, datetime]:
        """Segments with a commit, as the index says, and the time of their last one."""
        every = (one for each in self.timelines.values() for one in each.segments)
        return {one.name: one.last_commit for one in every if one.last_commit}

    def path(self, timeline: int) -> list[str]:
        """Names of the segments that are there of `timeline` and of those that it came from, in order."""
        history = self.timelines[timeline].history
        ends = {fork.timeline: fork.lsn for fork in history}

        def is_on(name: str) -> bool:
            on, end = wal.timeline_of(name), wal.start_of(name, self.size) + self.size
            return end > self.timelines[timeline].begin if on == timeline else end <= ends.get(on, 0)

        return sorted(filter(is_on, self.present), key=lambda name: wal.start_of(name, self.size))


@dataclass(frozen=True)
class Candidate:
    """A base backup that a recovery could begin with."""

    name: str
    facts: BaseFacts
    #: Its `created`, for messages.
    created: datetime
    #: Why its chain cannot be used; "": it can.
    problem: str = ""


@dataclass(frozen=True)
class RecoveryPlan:
    """A recovery: its base backup, its WAL, and where it stops."""

    base: Candidate
    timeline: int
    #: PostgreSQL's settings of the target.
    settings: Mapping[str, str]
    #: Segments that it reads, in order.
    segments: tuple[str, ...]
    #: Where it stops, for a display.
    stops: str
    #: What a user should know, a sentence each.
    notes: tuple[str, ...] = field(default=())
    #: The archive says that it has no commit later than this; None: the target is an exact one.
    until: datetime | None = None


def parse_moment(text: str, zone: tzinfo | None) -> datetime:
    """Parse the time of a recovery; RefnetError (USAGE) if it occurs twice or never in `zone` (None: the machine's).

    So the hour that clocks are put back needs an offset.
    """
    moment = parse_time(text, zone)
    if datetime.fromisoformat(text).tzinfo:
        return moment
    local = parse_time(text, UTC).replace(tzinfo=None)
    found = [local.replace(fold=fold, tzinfo=zone).astimezone(UTC) for fold in (0, 1)]
    if found[0] == found[1]:
        return moment
    offsets = [f"{one.astimezone(zone):%z}" for one in found]
    written = [f"{local.isoformat()}{one[:3]}:{one[3:5]}" for one in offsets]
    twice = all(one.astimezone(zone).replace(tzinfo=None, fold=0) == local for one in found)
    raise RefnetError(
        f"'{text}' {'occurs twice' if twice else 'does not exist'} in this time zone: the clocks change",
        f"Add the offset: {' or '.join(sorted(written))}.",
        Exit.USAGE,
    )


def shown(moment: datetime) -> str:
    """The time with its numeric offset, as PostgreSQL's settings take it."""
    return moment.isoformat(" ", timespec="microseconds" if moment.microsecond else "seconds")


def decide(wanted: Wanted, archived: Archived, bases: Sequence[Candidate]) -> RecoveryPlan:
    """Decide on the base backup, the WAL and the target; RefnetError says why it cannot be reached."""
    if not archived.timelines:
        raise RefnetError(
            "the archive has no WAL", "Start `refnet wal run`; `refnet wal status` shows what arrived."
        )
    stop = _stop(wanted, archived)
    path = archived.path(stop.timeline)
    fitting = list(_before(stop, bases, archived))
    refused = list[RefnetError]()
    for base in fitting:
        names = tuple(
            wal.needed(
                base.facts.start_lsn,
                stop.lsn + 1,
                stop.timeline,
                archived.timelines[stop.timeline].history,
                archived.size,
            )
        )
        if base.problem:
            refused.append(RefnetError(f"{base.name} cannot be used: {base.problem}", _OTHER, Exit.DAMAGED))
        elif gap := next(wal.gaps(names, archived.present, archived.cut), None):
            refused.append(_missing(gap, base))
        else:
            after = _after(path, stop.lsn, archived)
            notes = (*stop.notes, *(f"{one.message}; an older base backup is used" for one in refused))
            segments = (*names, *after)
            return RecoveryPlan(base, stop.timeline, stop.settings, segments, stop.text, notes, stop.until)
    raise refused[0] if refused else _too_early(stop, bases)


def _after(path: Sequence[str], lsn: int, archived: Archived) -> list[str]:
    """Names of the segments in which a record at `lsn` may go on: up to one with a commit, in which another record begins."""
    known = archived.last_commits()
    later = (name for name in path if wal.start_of(name, archived.size) > lsn)
    found = list(islice(later, _LONGEST_RECORD // archived.size + 1))
    return found[: next((at for at, name in enumerate(found, 1) if name in known), len(found))]


_OTHER = (
    "Choose another moment; `refnet list` shows the base backups, `refnet wal status` what can be restored."
)


def at_end_of(base: Candidate, archived: Archived) -> RecoveryPlan:
    """The recovery of `base` to its own end, which needs nothing but its own WAL."""
    facts = base.facts
    history = archived.timelines[facts.timeline].history if facts.timeline in archived.timelines else ()
    names = tuple(wal.needed(facts.start_lsn, facts.end_lsn, facts.timeline, history, archived.size))
    if gap := next(wal.gaps(names, archived.present, archived.cut), None):
        raise _missing(gap, base)
    settings = {"recovery_target": "immediate", **_always(facts.timeline)}
    return RecoveryPlan(base, facts.timeline, settings, names, f"the end of {base.name}")


@dataclass(frozen=True)
class _Stop:
    """Where a recovery stops."""

    timeline: int
    #: No record from here on is needed, but the one that begins here.
    lsn: int
    settings: Mapping[str, str]
    text: str
    notes: tuple[str, ...] = ()
    until: datetime | None = None


def _always(timeline: int) -> dict[str, str]:
    return {"recovery_target_timeline": str(timeline), "recovery_target_action": "promote"}


def _stop(wanted: Wanted, archived: Archived) -> _Stop:
    timeline = timeline_of(wanted, archived)
    newest = max(archived.timelines)
    notes = (
        () if timeline == newest else (f"timeline {timeline} is recovered, not the newest one ({newest})",)
    )
    if wanted.time is None:
        return _at_lsn(wanted, timeline, archived, notes)
    found = _first_after(wanted.time, timeline, archived)
    if found is None:
        return _after_last(wanted.time, timeline, archived, notes)
    settings = {
        "recovery_target_time": shown(wanted.time.astimezone(UTC)),
        "recovery_target_inclusive": "on",
        **_always(timeline),
    }
    return _Stop(timeline, found.lsn, settings, shown(wanted.time), notes)


def _at_lsn(wanted: Wanted, timeline: int, archived: Archived, notes: tuple[str, ...]) -> _Stop:
    """Stop at the record of the position that is wanted; none is: after the last record."""
    lsn, end = wanted.lsn, archived.timelines[timeline].end
    if end is None:
        raise RefnetError(
            f"the end of the WAL of timeline {timeline} is unknown",
            "Install PostgreSQL's pg_waldump of the server's major version (Debian: postgresql-NN).",
            Exit.UNVERIFIED,
        )
    if lsn is not None and lsn > end:
        raise RefnetError(
            f"{lsn_text(lsn)} is after the end of the WAL in the archive, {lsn_text(end)}",
            "Choose an earlier position, or --latest.",
        )
    at, inclusive = (end, True) if lsn is None else (lsn, not wanted.before)
    settings = {
        "recovery_target_lsn": lsn_text(at),
        "recovery_target_inclusive": "on" if inclusive else "off",
        **_always(timeline),
    }
    text = f"the end of the WAL in the archive, {lsn_text(at)}" if lsn is None else lsn_text(at)
    return _Stop(timeline, at, settings, text, notes)


def _after_last(time: datetime, timeline: int, archived: Archived, notes: tuple[str, ...]) -> _Stop:
    """Stop at the end of `timeline`, which has no commit later than `time`; RefnetError if one may not have arrived."""
    left = timeline != max(archived.timelines)
    if not left and (archived.covered is None or time > archived.covered):
        until = (
            f"it has everything up to {shown(archived.covered)}" if archived.covered else "it has no commit"
        )
        last = f"Give {shown(archived.covered)} or an earlier time." if archived.covered else _OTHER
        error = AfterTheEndError(f"{shown(time)} is later than what the archive has: {until}", last)
        error.until = archived.covered
        raise error
    later = f"there is no commit later than {shown(time)} in the archive"
    if left:
        newest = max(archived.timelines)
        later = (
            f"timeline {timeline} has no commit later than {shown(time)}, and no newer one has an earlier commit: if the"
            f" server had been restored by then, give --timeline {newest}"
        )
    return replace(_at_lsn(Wanted(), timeline, archived, (*notes, later)), until=time)


def timeline_of(wanted: Wanted, archived: Archived) -> int:
    """The timeline of a recovery: as wanted, else that which the server was on."""
    if wanted.timeline is not None:
        if wanted.timeline in archived.timelines:
            return wanted.timeline
        known = ", ".join(map(str, sorted(archived.timelines)))
        raise RefnetError(f"the archive has no timeline {wanted.timeline}", f"It has: {known}.", Exit.USAGE)
    newest_first = sorted(archived.timelines, reverse=True)
    if wanted.time is None:
        return newest_first[0]
    for number in newest_first[:-1]:
        began = _began(archived.timelines[number], archived)
        if began and began <= wanted.time:
            return number
    return newest_first[-1]


def _began(timeline: Timeline, archived: Archived) -> datetime | None:
    """Time of the first commit that only `timeline` has; None: it has none."""
    own = [name for name in archived.path(timeline.number) if wal.timeline_of(name) == timeline.number]
    found = (archived.find(name, timeline.begin, None) for name in own)
    return next((one.time for one in found if one), None)


def _first_after(time: datetime, timeline: int, archived: Archived) -> CommitRecord | None:
    """The first commit later than `time` on the path of `timeline`."""
    known, path = archived.last_commits(), archived.path(timeline)
    later = next((at for at, name in enumerate(path) if name in known and known[name] > time), len(path) - 1)
    earlier = max((at for at, name in enumerate(path[:later]) if name in known), default=-1)
    # From the earlier one on: its line does not have a last commit that ends in the next segment.
    found = (archived.find(name, 0, time) for name in path[max(earlier, 0) :])
    return next(filter(None, found), None)


def _before(stop: _Stop, bases: Sequence[Candidate], archived: Archived) -> Iterator[Candidate]:
    """Yield the bases that end before `stop` and are on its timeline or one that it came from, newest first."""
    ends = {fork.timeline: fork.lsn for fork in archived.timelines[stop.timeline].history}
    ends[stop.timeline] = stop.lsn
    for base in sorted(bases, key=lambda one: (one.facts.end_lsn, one.created), reverse=True):
        facts = base.facts
        if facts.timeline in ends and facts.end_lsn <= min(stop.lsn, ends[facts.timeline]):
            yield base


def _missing(gap: wal.Gap, base: Candidate) -> RefnetError:
    return RefnetError(
        f"WAL is missing or damaged between {base.name} and that moment: {gap}",
        "Choose a moment before the gap, or after the next base backup; `refnet wal status` shows gaps.",
    )


def _too_early(stop: _Stop, bases: Sequence[Candidate]) -> RefnetError:
    first = min(bases, key=lambda one: one.facts.end_lsn, default=None)
    if first is None:
        return RefnetError("there is no base backup of this server", "Make one: `refnet backup`.")
    return RefnetError(
        f"no base backup ended before {stop.text}; the first one on record is {first.name}",
        f"Choose a moment after its end, position {lsn_text(first.facts.end_lsn)}; `refnet wal status` shows the time.",
    )
