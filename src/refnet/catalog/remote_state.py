"""A remote store at one moment: its copies, and what the order of their manifests shows.

Each manifest has a counter and its predecessor's digest. This detects manifests that were removed, put back or replaced;
signatures do not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import AHEAD, Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.object_names import ID
from refnet.catalog.remote import MOST_COUNTER, Copy, RemoteManifest, Signed
from refnet.catalog.source_name import SourceName
from refnet.catalog.store import Unlisted
from refnet.catalog.store_sizes import Sizes, first_copies, sizes, total
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.formatting import some
from refnet.core.records import Layout, Most, Needed, Record

#: A copy is `fetched` as long as each of its pieces was read back within this time, that of a drill.
READ_BACK_WITHIN = timedelta(days=30)
_NEVER = datetime.min.replace(tzinfo=UTC)
#: Ranges of counters in the record of a head.
_MOST_RANGES = 100_000
#: Other signers in it.
_MOST_SIGNERS = 1000


def ranges(counters: Iterable[int], more: Iterable[Sequence[int]] = ()) -> tuple[tuple[int, int], ...]:
    """Merge `counters` and ranges `more` into sorted ranges: 1, 2, 4 → (1, 2), (4, 4)."""
    found: list[tuple[int, int]] = []
    for low, high in sorted([*((one, one) for one in counters), *((one[0], one[1]) for one in more)]):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def _ranges(value: Any) -> tuple[tuple[int, int], ...]:
    return ranges([], _EACH_RANGE(value))


_COUNTER = checked.integer(1, MOST_COUNTER)
_EACH_RANGE = checked.each(checked.row(_COUNTER, _COUNTER), _MOST_RANGES)
_Signer = Annotated[str, checked.text(100, like="[!-~]*")]
Ranges = Annotated[tuple[tuple[int, int], ...], _ranges]


@dataclass(frozen=True)
class Head(Record):
    """The newest manifest that this machine sent to a store, from its own record."""

    LAYOUT = Layout(more=True, format=1)

    #: Of the newest one; 0: none was sent.
    counter: Needed[Annotated[int, checked.integer(0, MOST_COUNTER)]] = 0
    #: The SHA-256 (hex) of its plaintext.
    sha256: Needed[Annotated[str, checked.text(64, like="([0-9a-f]{64})?")]] = ""
    #: The fingerprint of its signer.
    signer: Needed[_Signer] = ""
    #: The counters whose manifests this machine deleted.
    deleted: Needed[Ranges] = ()
    #: The counters whose manifests must be there.
    present: Ranges = ()
    #: By the fingerprint of another signer: the counters of its manifests that this machine deleted.
    others: Annotated[Mapping[_Signer, Ranges], Most(_MOST_SIGNERS)] = field(default_factory=dict)
    #: The counters, of any signer, among the deleted ones whose manifests may be there, or may come back: their deletion
    #: was interrupted, or somebody accepted that they are missing.
    unsure: Ranges = ()
    #: The folders of machines that are gone, whose copies this machine took over.
    taken: Annotated[tuple[Annotated[str, checked.text(32, like=ID)], ...], Most(_MOST_SIGNERS)] = ()

    @property
    def sent(self) -> Ranges:
        """Counters that this machine sent and did not delete."""
        own = ranges([self.counter] if self.counter else [], self.present)
        return without(own, self.deleted)

    def deleted_of(self, signer: str) -> Ranges:
        """Counters of `signer` whose manifests this machine deleted."""
        return self.deleted if signer == self.signer else self.others.get(signer, ())

    def having_deleted(self, signer: str, counters: Ranges) -> Head:
        """The head after this machine deleted the manifests `counters` of `signer`."""
        if not counters:
            return self
        deleted = ranges([], (*self.deleted_of(signer), *counters))
        if signer == self.signer:
            return replace(self, deleted=deleted)
        return replace(self, others={**self.others, signer: deleted})

    def perhaps_deleted(self, signer: str, counters: Ranges) -> Head:
        """The head while this machine deletes the manifests `counters` of `signer`, or if somebody accepted that they are missing."""
        unsure = ranges([], (*self.unsure, *counters))
        return replace(self.having_deleted(signer, counters), unsure=unsure)

    def surely_deleted(self, counter: int) -> Head:
        """The head after the deletion of a manifest."""
        return replace(self, unsure=without(self.unsure, ranges([counter])))

    def after(self, sent: Signed) -> Head:
        """The head after `sent` was published; earlier gaps remain."""
        known, document = self, sent.document
        if self.signer != sent.signer:  # this machine has a new signing key
            others = {**self.others, **({self.signer: self.deleted} if self.deleted else {})}
            deleted = others.pop(sent.signer, ())
            known = Head(deleted=deleted, others=others, unsure=self.unsure, taken=self.taken)
        if document.counter < known.counter:
            return self
        present = without(ranges([], (*known.present, *document.present)), known.deleted)
        return replace(
            known, counter=document.counter, sha256=sent.sha256, signer=sent.signer, present=present
        )


@dataclass(frozen=True)
class Gap:
    """An inconsistency that no honest store has: a sentence, and the counters concerned."""

    why: str
    #: Of the first one.
    counter: int

    def to_json(self) -> dict[str, Any]:
        return {"why": self.why, "counter": self.counter}


def without(given: Ranges, parts: Ranges) -> Ranges:
    """Subtract `parts` from `given`; both are sorted."""
    found: list[tuple[int, int]] = []
    at = 0
    for low, high in given:
        while at < len(parts) and parts[at][1] < low:
            at += 1
        start, one = low, at
        while one < len(parts) and parts[one][0] <= high:
            if parts[one][0] > start:
                found.append((start, parts[one][0] - 1))
            start = parts[one][1] + 1
            one += 1
        if start <= high:
            found.append((start, high))
    return tuple(found)


def newest(manifests: Iterable[Signed], signer: str, store: str) -> Signed | None:
    """Manifest of `signer` for `store` with the largest counter."""
    own = (one for one in manifests if (one.signer, one.document.store) == (signer, store))
    return max(own, key=lambda one: one.document.counter, default=None)


def gaps(
    manifests: Sequence[Signed],
    store: str,
    head: Head | None = None,
    recorded: Mapping[tuple[str, str], Ranges] | None = None,
) -> tuple[Gap, ...]:
    """Gaps in the order of `manifests`, the trusted ones of a store.

    Args:
        store: its name; manifests sent under another store name are ordered separately.
        head: this machine's record for the store; None: nothing was sent, or it is unknown.
        recorded: signer and name of a store → what records in the bucket say that signer deleted; what `head` says of its
            own signer takes precedence.
    """
    by_signer: dict[tuple[str, str], list[Signed]] = defaultdict(list)
    for one in manifests:
        by_signer[one.signer, one.document.store].append(one)
    ids = Counter(one.document.id for one in manifests)
    replaced = [one for each in manifests for one in each.document.replaces]
    found = [
        Gap(f"two manifests are of one copy: {one.document.object} is one of them", one.document.counter)
        for one in manifests
        if ids[one.document.id] > 1
    ]
    for (signer, name), group in by_signer.items():
        own = head if head and (head.signer, store) == (signer, name) else None
        deleted = head.deleted_of(signer) if head and name == store else ()
        gone = without(deleted, head.unsure) if head else ()
        deleted = ranges((one.counter for one in replaced if one.signer == signer), deleted)
        if recorded and own is None:
            deleted = ranges([], (*deleted, *recorded.get((signer, name), ())))
        found += _gaps(sorted(group, key=lambda one: one.document.counter), own, deleted, gone)
    if head and head.sent and (head.signer, store) not in by_signer:
        _, last = head.sent[-1]
        found.append(Gap(f"there is no manifest of this machine, which sent number {last}", last))
    return tuple(found)


def accepted(manifests: Sequence[Signed], store: str, head: Head) -> Head:
    """`head` after accepting the store as it is: missing manifests count as deleted by this machine."""
    found, there = head, dict[str, Ranges]()
    for signer in {one.signer for one in manifests if one.document.store == store}:
        group = [one for one in manifests if (one.signer, one.document.store) == (signer, store)]
        there[signer] = ranges(one.document.counter for one in group)
        last = max(group, key=lambda one: one.document.counter)
        found = found.perhaps_deleted(signer, without(last.document.present, there[signer]))
        if (signer, last.document.counter) == (head.signer, head.counter):
            found = replace(found, sha256=last.sha256)
    return found.perhaps_deleted(head.signer, without(head.sent, there.get(head.signer, ())))


def _gaps(group: list[Signed], head: Head | None, deleted: Ranges, gone: Ranges) -> list[Gap]:
    """Gaps among the manifests of one signer, by counter; `gone`: those of `deleted` that surely were."""
    last, found = group[-1], list[Gap]()
    there = ranges(one.document.counter for one in group)
    sources = [(last.document.present, f"number {last.document.counter} names")]
    if head:
        own = without(head.present, ((head.counter, head.counter),))  # that one has a sentence of its own
        sources.append((without(own, last.document.present), "this machine sent"))
    for present, who in sources:
        if missing := without(without(present, there), deleted):
            shown = some([str(a) if a == b else f"{a}–{b}" for a, b in missing])
            found.append(Gap(f"missing: number {shown}, which {who}", missing[0][0]))
    for before, after in pairwise(group):
        number = after.document.counter
        if before.document.counter == number:
            found.append(Gap(f"two manifests have number {number}", number))
        elif before.document.counter == number - 1 and after.document.previous != before.sha256:
            found.append(Gap(f"number {number} does not continue number {number - 1}", number))
    unknown = without(without(there, last.document.present), ((last.document.counter, MOST_COUNTER),))
    if returned := ranges([], (*unknown, *without(there, without(there, gone)))):
        found.append(Gap(f"number {returned[0][0]} was deleted and has reappeared", returned[0][0]))
    if head and last.document.counter < head.counter and without(((head.counter, head.counter),), deleted):
        older = f"the newest is number {last.document.counter}, and this machine sent number {head.counter}"
        found.append(Gap(older, head.counter))
    if head and last.document.counter == head.counter and last.sha256 != head.sha256:
        found.append(Gap(f"number {head.counter} differs from the one that this machine sent", head.counter))
    return found


@dataclass(frozen=True)
class StoreState:
    """A remote store at one moment, or why it could not be listed."""

    name: str
    #: Those whose copies go there.
    sources: frozenset[SourceName]
    copies: tuple[Copy, ...] = ()
    gaps: tuple[Gap, ...] = ()
    unlisted: tuple[Unlisted, ...] = ()
    trouble: RefnetError | None = None
    #: When it was last listed; None: never.
    listed: datetime | None = None
    #: Piece → until when its lock was extended by this machine.
    extended: Mapping[str, datetime] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> Mapping[str, Sizes]:
        """What its copies take, by source."""
        return sizes(self.copies)

    @cached_property
    def total(self) -> Sizes:
        """What its copies take in all."""
        return total(self.copies, self.sizes)

    @cached_property
    def _first(self) -> Mapping[str, Copy]:
        return first_copies(self.copies)

    def locked_until(self, copy: Copy, lock: timedelta) -> datetime:
        """When `copy` can first be damaged: the earliest end of the locks of its objects.

        That of a piece counts from the first copy here that names it, unless this machine has extended it.
        """
        pieces = [one.name for one in copy.document.objects]
        ends = (self.extended.get(one) or self._first[one].document.sent + lock for one in pieces)
        return min((copy.document.sent + lock, *ends))

    def newest(self, source: SourceName, now: datetime | None = None) -> Copy | None:
        """The newest complete copy of `source`; copies dated after `now` only as a last resort."""
        found = Catalog.of((one for one in self.copies if one.source == source), now).newest_complete(source)
        return found if isinstance(found, Copy) else None


def is_stale(
    document: RemoteManifest, evidence: Iterable[Evidence], pieces: Mapping[str, datetime], now: datetime
) -> bool:
    """Whether a copy was read back at some time, but some piece of it not within READ_BACK_WITHIN before `now`.

    A restore or a proof also reads every piece, and so does each check of a copy that shares none.

    Args:
        pieces: name → when it was last read back, by this machine's own record.
    """

    def lately(at: datetime) -> bool:
        return -AHEAD <= now - at <= READ_BACK_WITHIN

    passed = [one for one in evidence if one.outcome is Outcome.PASSED]
    least = Level.INTACT if document.key and document.pieces else Level.WRITTEN
    if not passed or any(lately(one.at) for one in passed if one.level.rank >= least.rank):
        return False
    times = [pieces.get(one.name, _NEVER) for one in document.pieces]
    return not document.key or not lately(min(times, default=_NEVER))


def copy_of(copies: Iterable[Copy], manifest: Manifest) -> Copy | None:
    """An undamaged copy of the artifact of `manifest`, if any."""
    wanted = (manifest.source, manifest.name, manifest.sha256)
    same = (one for one in copies if (one.source, one.name, one.manifest.sha256) == wanted)
    return next((one for one in same if not one.damaged), None)


def is_missing(state: StoreState, newest: Entry | None) -> bool:
    """Whether the newest complete artifact lacks a copy; a shrunk one needs none until accepted."""
    return bool(newest and not newest.shrunk and not copy_of(state.copies, newest.manifest))
