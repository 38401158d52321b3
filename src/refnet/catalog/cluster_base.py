"""Base backups of clusters: what their manifests say, their chains, and what the next one is made from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry
from refnet.catalog.wal import checked_lsn, needed, segment_of
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError

#: The first major version that makes increments.
INCREMENTS = 17
#: A chain is at most so long; a damaged catalog names no cycle.
MOST_IN_CHAIN = 1000
#: A full is made if the last one is older, or if its increments together have more than this share of its bytes.
FULL_EVERY = timedelta(days=7)
_SHARE = 0.5
#: A run that starts a bit earlier than the one of the week before still counts as a week later.
_EARLY = timedelta(hours=12)


_MAJOR = re.compile("[^0-9]")


class BaseKind(StrEnum):
    """Whether a base has every block, or those that changed since its parent."""

    FULL = "full"
    INCREMENT = "increment"


@dataclass(frozen=True)
class BaseFacts:
    """What the details of a manifest say of a base backup."""

    #: Of the cluster, in digits.
    system_identifier: str
    server_version: str
    kind: BaseKind
    #: The file name of the artifact that it was made from; "": a full.
    parent: str
    #: The WAL that makes it consistent: from, to.
    start_lsn: int
    end_lsn: int
    timeline: int
    #: Size of its tar.
    raw_bytes: int
    #: Besides pg_default and pg_global.
    tablespaces: int

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Self | None:
        """Read them from the details of a manifest; None: it is of no base backup, or malformed."""
        if "base" not in details:
            return None
        try:
            found = _FACTS(dict(details))
        except ValueError:
            return None
        kind, parent = BaseKind(found["base"]), found.get("parent") or ""
        if bool(parent) is not (kind is BaseKind.INCREMENT) or found["end_lsn"] < found["start_lsn"]:
            return None
        return cls(
            kind=kind,
            parent=parent,
            **{key: found[key] for key in _FACTS_KEPT},
        )

    @property
    def of_full(self) -> bool:
        return self.kind is BaseKind.FULL

    @property
    def major(self) -> int:
        """Of the server's version, as 17 of 17.7 and 18 of 18beta1."""
        return int(_MAJOR.split(self.server_version, 1)[0])

    @property
    def lineage(self) -> tuple[str, int]:
        """System identifier and timeline: increments are made within one."""
        return self.system_identifier, self.timeline


_COUNT = checked.integer(0, (1 << 63) - 1)
_FACTS_KEPT = (
    "system_identifier",
    "server_version",
    "start_lsn",
    "end_lsn",
    "timeline",
    "raw_bytes",
    "tablespaces",
)
_FACTS = checked.record(
    {
        "system_identifier": checked.text(20, shortest=1, like="[0-9]+"),
        "server_version": checked.text(100, like="[0-9]{1,3}(?:[^0-9].*)?"),
        "base": checked.one_of([*BaseKind]),
        "start_lsn": checked_lsn,
        "end_lsn": checked_lsn,
        "timeline": checked.integer(1, (1 << 32) - 1),
        "raw_bytes": _COUNT,
        "tablespaces": _COUNT,
    },
    {"parent": checked.or_none(checked.text(255, shortest=1, like="[^/]+"))},
    more=True,
)


def facts_of(entry: Entry) -> BaseFacts | None:
    """The facts of a base backup; None: `entry` is none, or its manifest is malformed."""
    return BaseFacts.read(entry.manifest.details)


def chain(entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The full, and the increments up to `entry`; ValueError if one is missing, or the links make no chain."""
    there = {one.name: one for one in entries}
    found, facts = [entry], facts_of(entry)
    while facts and not facts.of_full:
        parent = there.get(facts.parent)
        if parent is None:
            raise ValueError(f"{facts.parent} is missing")
        before = facts_of(parent)
        if before is None or before.system_identifier != facts.system_identifier:
            raise ValueError(f"{parent.name} is not a base backup of the same cluster")
        if before.start_lsn > facts.start_lsn or len(found) == MOST_IN_CHAIN or parent in found:
            raise ValueError(f"{parent.name} is not older than what was made from it")
        found.append(parent)
        facts = before
    if facts is None:
        raise ValueError(f"{found[-1].name} is not a base backup")
    return tuple(reversed(found))


def whole_chain(entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """As `chain`, but RefnetError (DAMAGED) if it is not whole."""
    try:
        return chain(entry, entries)
    except ValueError as error:
        raise RefnetError(
            f"{entry.name} cannot be restored: {error}", "Choose another base backup.", Exit.DAMAGED
        ) from None


def needed_by(kept: Iterable[Entry], entries: Iterable[Entry]) -> dict[str, str]:
    """Bases that `kept` ones were made from: name → the newest that needs it. What is missing needs nothing."""
    there = {one.name: one for one in entries}
    found: dict[str, str] = {}
    for one in Catalog.of(kept).entries:
        facts = facts_of(one)
        seen = {one.name}
        while facts and facts.parent in there and facts.parent not in seen:
            seen.add(facts.parent)
            found[facts.parent] = one.name
            facts = facts_of(there[facts.parent])
    return found


def children_first(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """`entries` in an order in which none comes after its parent: so a killed deletion leaves whole chains."""
    there = {one.name: one for one in entries}
    depth: dict[str, int] = {}
    for one in there.values():
        depth[one.name] = len(_above(one, there))
    return tuple(sorted(there.values(), key=lambda one: -depth[one.name]))


def _above(entry: Entry, there: Mapping[str, Entry]) -> set[str]:
    """Names of the ancestors of `entry` among `there`."""
    found = set[str]()
    facts = facts_of(entry)
    while facts and facts.parent in there and facts.parent not in found:
        found.add(facts.parent)
        facts = facts_of(there[facts.parent])
    return found


@dataclass(frozen=True)
class NextBase:
    """What the next base backup is."""

    #: It is made from this one; None: a full.
    parent: Entry | None
    #: Why a full, for a display; "": an increment.
    why: str = ""


def next_base(
    entries: Iterable[Entry], lineage: tuple[str, int], now: datetime, *, full: bool = False
) -> NextBase:
    """Decide whether the next base of the cluster and timeline `lineage` is an increment, and of which base.

    entries: the artifacts of the source. full: the user wants a full.
    """
    if full:
        return NextBase(None, "asked for")
    there = Catalog.of(entries, now).entries
    own = [
        (one, facts)
        for one in there
        if one.complete and (facts := facts_of(one)) and facts.lineage == lineage
    ]
    unusable = broken(there)
    own = [(one, facts) for one, facts in own if one.name not in unusable]
    fulls = [one for one, facts in own if facts.of_full]
    if not fulls:
        return NextBase(None, "there is no full backup of this cluster and timeline")
    last = fulls[-1]
    if now - last.made > FULL_EVERY - _EARLY or last.ahead(now):
        return NextBase(None, f"{last.name} is older than {FULL_EVERY.days} days")
    made_from = [one for one, _ in own if one is last or chain(one, there)[0].name == last.name]
    increments = sum(one.manifest.size for one in made_from[1:])
    if increments > last.manifest.size * _SHARE:
        return NextBase(None, f"the increments of {last.name} have more than half of its size")
    return NextBase(made_from[-1])


def broken(entries: Iterable[Entry]) -> frozenset[str]:
    """Names of the bases in `entries` that cannot be restored: they, or what they were made from, are damaged or missing."""
    there = {one.name: one for one in entries if facts_of(one)}
    whole: dict[str, bool] = {}
    for one in there.values():
        links, parent = list[str](), one.name
        while parent in there and parent not in whole and parent not in links:
            links.append(parent)
            facts = facts_of(there[parent])
            parent = facts.parent if facts else ""
        is_whole = whole.get(parent, not parent)  # a circle, or a missing one, is not
        for name in reversed(links):
            is_whole = is_whole and there[name].complete
            whole[name] = is_whole
    return frozenset(name for name, is_whole in whole.items() if not is_whole)


@dataclass(frozen=True)
class NeededWal:
    """The WAL of one cluster that its bases need."""

    system_identifier: str
    #: The base from which on all WAL is kept.
    begin: BaseFacts
    #: Older ones, of which only the WAL that makes them consistent is kept, with the time of each.
    older: tuple[tuple[BaseFacts, datetime], ...]

    def segments(self, size: int) -> tuple[str, frozenset[str]]:
        """The segment from which on all are needed, and the ones before it that are; `size`: bytes of one."""
        begin = segment_of(self.begin.start_lsn, self.begin.timeline, size)
        ranges = (needed(one.start_lsn, one.end_lsn, one.timeline, (), size) for one, _ in self.older)
        return begin, frozenset(itertools.chain.from_iterable(ranges))


def before_window(entries: Iterable[Entry], since: datetime) -> Entry | None:
    """The base from which every moment after `since` can be recovered: the newest one before it, else the oldest one."""
    there = Catalog.of(entries).entries
    unusable = broken(there)
    whole = [one for one in there if one.name not in unusable and facts_of(one)]
    before = [one for one in whole if one.made <= since]
    return before[-1] if before else whole[0] if whole else None


def needed_wal(kept: Iterable[Entry], since: datetime) -> tuple[NeededWal, ...]:
    """What the bases `kept` need of the WAL of each cluster, for every moment after `since`."""
    clusters: dict[str, list[Entry]] = {}
    for one in kept:
        if facts := facts_of(one):
            clusters.setdefault(facts.system_identifier, []).append(one)
    found = []
    for system, own in clusters.items():
        first = before_window(own, since)
        begin = facts_of(first) if first else None
        if begin:
            others = ((facts, one.made) for one in own if (facts := facts_of(one)))
            older = tuple(one for one in others if one[0].start_lsn < begin.start_lsn)
            found.append(NeededWal(system, begin, older))
    return tuple(found)
