"""pin, unpin, tag, accept, forget: what a user decides about single artifacts.

An acceptance records that the user knows an anomaly, so that later artifacts may have it too: an artifact contains much
less than the previous one, its source has objects that no server accepts, or its source is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from refnet import wiring
from refnet.actions.choose import choose_listed
from refnet.catalog import retention
from refnet.catalog.artifact import Proof
from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.cluster_base import children_first, needed_by
from refnet.catalog.evidence import MOST_TAGS, Marks, is_tag
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.store.local import LocalStore
from refnet.store.source_records import ClusterRecord, KeptMarks

if TYPE_CHECKING:
    from refnet.store.sealed import SealedStore


@dataclass(frozen=True)
class Marking:
    """A change of the marks of an artifact."""

    #: With its marks before the change.
    entry: Entry
    marks: Marks
    #: False: only planned.
    done: bool = False

    @property
    def changes_nothing(self) -> bool:
        return self.marks == self.entry.marks

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.entry.name,
            "source": self.entry.source,
            "before": self.entry.marks.to_json(),
            "after": self.marks.to_json(),
            "done": self.done,
        }


def pin(context: Context, name: str, until: str | None = None) -> Marking:
    """Plan to keep the artifact `name` until the time `until` (None: until it is unpinned)."""
    entry = _readable(choose_listed(context.catalog, name))
    moment = parse_time(until, None) if until else None
    if moment and moment <= context.clock.now():
        raise RefnetError(f"'{until}' is in the past", "Give a later date, or omit --until.", Exit.USAGE)
    return Marking(entry, replace(entry.marks, pinned=True, until=moment))


def unpin(context: Context, name: str) -> Marking:
    """Plan to unpin the artifact `name`; unreadable marks are removed."""
    entry = choose_listed(context.catalog, name)
    return Marking(entry, Marks(tags=entry.marks.tags))


def tag(context: Context, name: str, tags: Collection[str], *, remove: bool = False) -> Marking:
    """Plan to add `tags` to the artifact `name`, or to remove them."""
    for one in tags:
        check_tag(one)
    entry = _readable(choose_listed(context.catalog, name))
    found = {*entry.marks.tags} - {*tags} if remove else {*entry.marks.tags, *tags}
    if len(found) > MOST_TAGS:
        raise RefnetError(f"{entry.name} would have {len(found)} tags", f"At most {MOST_TAGS}.", Exit.USAGE)
    return Marking(entry, replace(entry.marks, tags=tuple(sorted(found))))


def check_tag(text: str) -> None:
    """RefnetError if `text` cannot be a tag."""
    if not is_tag(text):
        raise RefnetError(
            f"'{text[:100]}' cannot be a tag",
            "Use letters, digits, '.', '_' and '-', at most 40, a letter or a digit first.",
            Exit.USAGE,
        )


def mark(context: Context, planned: Marking) -> Marking:
    """Write the planned marks; RefnetError if another run changed them meanwhile."""
    if planned.changes_nothing:
        return planned
    store, entry = context.catalog, planned.entry
    with store.lock(entry.source):
        now = Catalog.of(store.entries(entry.source)).named(entry.name)
        if now is None or now.marks != entry.marks:
            what = "is gone" if now is None else "has other marks now"
            raise RefnetError(f"{entry.name} {what}: another run changed it", "`refnet list` shows it.")
        store.mark(entry, planned.marks)
        KeptMarks.in_home(context.settings.home).forget(entry.manifest.sha256)
    return replace(planned, done=True)


def _readable(entry: Entry) -> Entry:
    """`entry`; RefnetError if its marks are unreadable, as writing would lose them."""
    if entry.marks.unreadable:
        raise RefnetError(
            f"the marks of {entry.name} cannot be read: {entry.marks.unreadable}",
            f"It counts as pinned. `refnet unpin {entry.name}` removes its pin and its tags.",
        )
    return entry


@dataclass(frozen=True)
class GoneAcceptance:
    """The acceptance of a gone source."""

    source: str
    #: Its cluster, whose server no longer has the database; "": it is of none.
    cluster: str = ""
    database: str = ""
    #: False: only planned.
    accepted: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "gone": self.database or self.source, "accepted": self.accepted}


def plan_gone(context: Context, name: str) -> GoneAcceptance | None:
    """Planned acceptance of the gone source `name`; None if it is not gone."""
    for cluster in context.settings.clusters:
        seen = ClusterRecord.at(context.settings.home, cluster).read()
        for source, database in seen.members(cluster).items():
            if source == name and database in seen.gone:
                return GoneAcceptance(source, cluster, database)
    return next((GoneAcceptance(one) for one in wiring.gone(context.settings) if one == name), None)


def accept_gone(context: Context, planned: GoneAcceptance) -> GoneAcceptance:
    """Record that the source may be gone; its artifacts stay."""
    if not planned.cluster:
        wiring.identities(context.settings).accept(planned.source)
        return replace(planned, accepted=True)
    record = ClusterRecord.at(context.settings.home, planned.cluster)
    seen = record.read()
    record.write(replace(seen, gone=tuple(one for one in seen.gone if one != planned.database)))
    return replace(planned, accepted=True)


@dataclass(frozen=True)
class Acceptance:
    """The acceptance of an artifact that shrank, or whose source has objects that no server accepts."""

    entry: Entry
    #: False: only planned.
    accepted: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.entry.name,
            "source": self.entry.source,
            "shrunk": list(self.entry.manifest.shrunk),
            "shrunk_from": self.entry.manifest.shrunk_from,
            "objects": list(self.entry.faulty),
            "accepted": self.accepted,
        }


def plan_acceptance(context: Context, name: str) -> Acceptance:
    """Planned acceptance; RefnetError if there is nothing to accept."""
    entry = choose_listed(context.catalog, name)
    if not (entry.shrunk or entry.unaccepted):
        known = "is accepted already" if entry.manifest.shrunk or entry.faulty else "has not shrunk"
        raise RefnetError(f"{entry.name} {known}", "There is nothing to accept.", Exit.USAGE)
    return Acceptance(entry)


def accept(context: Context, planned: Acceptance) -> Acceptance:
    """Record the acceptance."""
    entry, now = planned.entry, context.clock.now()
    lines = []
    if entry.shrunk:
        lines.append(_line(now, f"accepted: {'; '.join(entry.manifest.shrunk)}"))
    if entry.unaccepted:
        lines.append(_line(now, f"accepted: {'; '.join(entry.faulty)}", entry.faulty))
    with context.catalog.lock(entry.source):
        context.catalog.record(entry, *lines)
    return replace(planned, accepted=True)


def carried(entries: Iterable[Entry], manifest: Manifest, proof: Proof, at: datetime) -> Evidence | None:
    """Line of evidence that repeats earlier acceptances of objects in `proof`.

    entries: known artifacts of the source. None: nothing was accepted before.
    """
    database = manifest.details.get("database")
    others = (
        e for e in entries if e.source == manifest.source and e.manifest.details.get("database") == database
    )
    accepted = frozenset().union(*(entry.accepted for entry in others))
    if objects := tuple(one for one in proof.faulty if one in accepted):
        return _line(at, f"accepted before: {'; '.join(objects)}", objects)
    return None


def _line(at: datetime, reason: str, objects: tuple[str, ...] = ()) -> Evidence:
    return Evidence(
        at, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=(reason,), accepts=True, objects=objects
    )


@dataclass(frozen=True)
class Forgetting:
    """The artifacts to delete."""

    entries: tuple[Entry, ...]
    #: By name: why every prune would keep it; it is deleted only with --force-last.
    needed: dict[str, str] = field(default_factory=dict)
    force_last: bool = False
    #: False: only planned.
    done: bool = False

    @property
    def bytes_freed(self) -> int:
        """Upper bound of the freed bytes: artifacts that share bytes free nothing."""
        return sum(entry.manifest.size for entry in self.entries)

    def to_json(self) -> dict[str, Any]:
        return {
            "artifacts": [
                {
                    "name": entry.name,
                    "source": entry.source,
                    "size": entry.manifest.size,
                    "state": entry.state,
                    "needed": self.needed.get(entry.name),
                }
                for entry in self.entries
            ],
            "bytes_freed_at_most": self.bytes_freed,
            "done": self.done,
        }


def plan_forgetting(context: Context, names: Iterable[str], *, force_last: bool = False) -> Forgetting:
    """Plan the deletion of the artifacts `names`; RefnetError if one must stay."""
    store = context.catalog
    entries = {entry.name: entry for entry in (choose_listed(store, name) for name in names)}
    found = Forgetting(tuple(entries.values()), force_last=force_last)
    return _judged(found, store, context.clock.now())


def forget(context: Context, planned: Forgetting) -> Forgetting:
    """Carry out the plan after checking it again under the locks; RefnetError before any deletion if it changed."""
    store = context.catalog
    with ExitStack() as locks:
        for source in dict.fromkeys(entry.source for entry in planned.entries):
            locks.enter_context(store.lock(source))
        judged = _judged(planned, store, context.clock.now())
        for entry in children_first(judged.entries):
            store.delete(entry)
        if not isinstance(store, LocalStore):
            from refnet.actions.store import record_deletions

            record_deletions(context, store)
    return replace(judged, done=True)


def _judged(planned: Forgetting, store: LocalStore | SealedStore, now: datetime) -> Forgetting:
    """Check `planned` against the current store; RefnetError if an artifact is gone, pinned or needed."""
    there = {source: store.entries(source) for source in {entry.source for entry in planned.entries}}
    known = {entry.name: entry for entries in there.values() for entry in entries}
    entries = []
    for name in (entry.name for entry in planned.entries):
        if name not in known:
            raise RefnetError(f"{name} is gone: another run deleted it", "`refnet list` shows what there is.")
        if pin := known[name].marks.pin(now):
            raise RefnetError(f"{name} is {pin}", f"`refnet unpin {name}` ends that.", Exit.USAGE)
        entries.append(known[name])
    _check_children(there.values(), {entry.name for entry in entries})
    needed = {name: why for each in there.values() for name, why in retention.needed(each, now).items()}
    needed = {entry.name: needed[entry.name] for entry in entries if entry.name in needed}
    if needed and not planned.force_last:
        name, why = next(iter(needed.items()))
        raise RefnetError(
            f"{name} is needed: {why}",
            "Make and prove a newer one first (`refnet backup`), or give --force-last.",
            Exit.USAGE,
        )
    return replace(planned, entries=tuple(entries), needed=needed)


def _check_children(there: Iterable[tuple[Entry, ...]], names: set[str]) -> None:
    """RefnetError if base backups that stay were made from one of `names`. `there`: the artifacts of each source."""
    for own in there:
        children = needed_by([entry for entry in own if entry.name not in names], own)
        for name in children.keys() & names:
            raise RefnetError(
                f"{name} is needed: {children[name]} was made from it",
                f"Forget {children[name]} too, or leave both to `refnet prune`.",
                Exit.USAGE,
            )
