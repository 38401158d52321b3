"""prune: delete artifacts beyond retention, leftovers of crashed runs, and old previous versions.

A remote store has its own retention and a credential that may delete; there, manifests are deleted before pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from refnet import wiring
from refnet.actions.store import can_prune, record_deletions
from refnet.catalog import retention, wal_record
from refnet.catalog.cluster_base import children_first
from refnet.catalog.manifest import Entry
from refnet.catalog.object_names import MANIFESTS, SharedName
from refnet.catalog.remote import Copy
from refnet.catalog.retention import Decision, Listing, Outlived, PreviousVersion
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.catalog.store import Leftover, Store, Unlisted
from refnet.catalog.store_sizes import freed
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.settings.stores import StoreSettings
from refnet.sources import source_of
from refnet.store import leases
from refnet.store.buckets.bucket import BucketError, BucketFailure, in_background, versions_by_name
from refnet.store.buckets.opening import open_bucket
from refnet.store.remote import RemoteStore

#: Objects of a remote store that are deleted at once.
_AT_ONCE = 8
#: So many manifests are noted at once before they go: after a crash, of these it stays unknown whether they went.
_LOT = 20


@dataclass(frozen=True)
class PrunePlan:
    """The plan or the result of a prune of one source."""

    source: SourceName
    decisions: tuple[Decision, ...]
    leftovers: tuple[Leftover, ...]
    #: The previous versions that are removed.
    previous_versions: tuple[PreviousVersion, ...]
    #: Why some previous versions could not be listed or removed.
    unknown: tuple[RefnetError, ...] = ()
    #: The previous versions that are due and stay, each with its reason.
    blocked: tuple[PreviousVersion, ...] = ()
    #: What nothing that is kept needs any more.
    outlived: tuple[Outlived, ...] = ()

    @property
    def deleted(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.decisions if not decision.keep)

    @property
    def bytes_freed(self) -> int:
        """Upper bound of the freed bytes: artifacts that share bytes free nothing."""
        artifacts = sum(decision.entry.manifest.size for decision in self.deleted)
        others = sum(leftover.size for leftover in self.leftovers) + sum(one.size for one in self.outlived)
        return artifacts + others

    @property
    def changes_nothing(self) -> bool:
        return not (self.deleted or self.leftovers or self.previous_versions or self.outlived)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "artifacts": [decision.to_json() for decision in self.decisions],
            "leftovers": [{"name": one.name, "size": one.size, "why": one.why} for one in self.leftovers],
            "previous_versions": [previous.to_json() for previous in self.previous_versions],
            "outlived": [one.to_json() for one in self.outlived],
            "held_back": [previous.to_json() for previous in self.blocked],
            "bytes_freed_at_most": self.bytes_freed,
            "unknown": [error.message for error in self.unknown],
        }


def prune(
    context: Context, names: Iterable[SourceName], *, plan: bool = False, much: bool = False
) -> tuple[list[PrunePlan], list[RefnetError]]:
    """Prune the sources `names`, or only plan it; an error of one source does not stop the others.

    much: allow deleting the artifacts of many days at once, see `retention.too_much`.
    """
    settings, plans, errors = context.settings, list[PrunePlan](), list[RefnetError]()
    zone = settings.schedule.zone
    keep = timedelta(days=settings.retention_previous)
    known = {*wiring.known(settings)}
    for name in names:
        if name not in known:
            continue  # its retention is not known any more
        rules = Rules(
            wiring.store(settings),
            wiring.retention(settings, name),
            context.clock.now(),
            zone,
            source_of(settings, name).previous(),
            keep,
            partial(_outlived, context, name),
            much,
            context.restore_lock if settings.compose_service else None,
        )
        try:
            plans.append(rules.plan(name) if plan else rules.prune(name))
        except RefnetError as error:
            errors.append(error)
        else:
            errors += plans[-1].unknown
    return plans, errors


def simulate(context: Context, name: SourceName, span: timedelta) -> tuple[Decision, ...]:
    """Artifacts of `name` kept after `span`, if every backup runs on time."""
    settings, now = context.settings, context.clock.now()
    return retention.simulate(
        name,
        context.catalog.entries(name),
        wiring.retention(settings, name),
        settings.schedule,
        (now, now + span),
    )


@dataclass(frozen=True)
class Rules:
    """The rules of a prune."""

    store: Store
    retention: Retention
    #: Aware.
    now: datetime
    #: Its days and weeks are counted; None: those of the machine's zone.
    zone: ZoneInfo | None = None
    previous_versions: tuple[Listing, ...] = ()
    #: How long a previous version is kept.
    keep_previous: timedelta = timedelta(days=7)
    #: Finds what none of the artifacts that are kept needs any more.
    outlived: Callable[[Sequence[Entry]], Iterable[Outlived]] = lambda _kept: ()
    #: Delete even the artifacts of many days at once.
    much: bool = True
    #: The lock where a service of Compose prunes the store: then only previous versions are due here. None: the store's.
    lock: Callable[[SourceName], AbstractContextManager[None]] | None = None

    def plan(self, source: SourceName) -> PrunePlan:
        """Plan a prune of `source`; changes nothing."""
        due: list[PreviousVersion] = []
        unknown: list[RefnetError] = []
        for listed in self.previous_versions:
            try:
                due += [one for one in listed() if one.due(self.now, self.keep_previous)]
            except RefnetError as error:
                unknown.append(error)
        entries, leftovers = ((), ()) if self.lock else self.store.entries_and_leftovers(source)
        decisions = retention.decide(entries, self.retention, self.now, self.zone)
        kept = [one.entry for one in decisions if one.keep]
        return PrunePlan(
            source,
            decisions,
            leftovers,
            tuple(one for one in due if not one.blocked),
            tuple(unknown),
            tuple(one for one in due if one.blocked),
            () if self.lock else tuple(self.outlived(kept)),
        )

    def prune(self, source: SourceName) -> PrunePlan:
        """Plan again under the source's lock, carry it out, and return the result."""
        found = self.plan(source)
        if found.changes_nothing:
            return found
        with (self.lock or self.store.lock)(source):
            found = self.plan(source)
            if not self.much and (error := retention.too_much(found.deleted, self.now, found.outlived)):
                raise error
            for entry in children_first(decision.entry for decision in found.deleted):
                self.store.delete(entry)
            for outlived in found.outlived:
                outlived.remove()
            for leftover in found.leftovers:
                self.store.clean(leftover)
            refused = tuple(error for one in found.previous_versions if (error := _refused(one)))
        return replace(found, unknown=(*found.unknown, *refused))


def _outlived(context: Context, name: SourceName, kept: Sequence[Entry]) -> Iterable[Outlived]:
    """What `name` keeps beside its artifacts and needs no more; encrypted ones are decided about later, and count as kept."""
    settings = context.settings
    sealed = context.catalog.entries(name) if settings.encryption_local else ()
    since = context.clock.now() - timedelta(days=wiring.retention(settings, name).days)
    return source_of(settings, name).outlived((*kept, *sealed), since)


def _refused(previous: PreviousVersion) -> RefnetError | None:
    """Remove `previous`; return why that failed, for example because it is in use now."""
    try:
        previous.remove()
    except RefnetError as error:
        return error
    return None


@dataclass(frozen=True)
class StillLocked:
    """An object that the server did not delete because it is locked."""

    #: An artifact, or an object.
    name: str
    why: str


@dataclass(frozen=True)
class StorePlan:
    """The plan or the result of a prune of a remote store."""

    store: str
    #: Its place, without a secret.
    shown: str
    decisions: tuple[Decision, ...]
    leftovers: tuple[Leftover, ...]
    #: Manifests that cannot be trusted or read: they are not deleted, and count for nothing.
    unlisted: tuple[Unlisted, ...]
    #: The copies of sources that the settings do not name: they stay.
    others: int = 0
    #: Every copy there that is not decided about: of those sources, and of the ones that were not asked for.
    staying: tuple[Copy, ...] = ()
    locked: tuple[StillLocked, ...] = ()

    @property
    def deleted(self) -> tuple[Decision, ...]:
        """Deletions, done or planned, without locked objects."""
        kept = {one.name for one in self.locked}
        return tuple(one for one in self.decisions if not one.keep and one.entry.name not in kept)

    @property
    def cleaned(self) -> tuple[Leftover, ...]:
        """Leftovers removed, or to be removed."""
        kept = {one.name for one in self.locked}
        return tuple(one for one in self.leftovers if one.name not in kept)

    @property
    def bytes_freed(self) -> int:
        """Bytes of the objects that only the deleted copies need, and of the leftovers."""
        return self.bytes_freed_of() + sum(one.size for one in self.cleaned)

    def bytes_freed_of(self, source: str = "") -> int:
        """Bytes of the objects that only the deleted copies need, of all sources or of `source`."""
        gone = {one.entry.object: one.entry for one in self.deleted if isinstance(one.entry, Copy)}
        judged = [one.entry for one in self.decisions if isinstance(one.entry, Copy)]
        kept = (one for one in judged if one.object not in gone)
        return freed((one for one in gone.values() if source in {"", one.source}), (*kept, *self.staying))

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store,
            "shown": self.shown,
            "artifacts": [one.to_json() for one in self.decisions],
            "leftovers": [{"name": one.name, "size": one.size, "why": one.why} for one in self.leftovers],
            "locked": [{"name": one.name, "why": one.why} for one in self.locked],
            "untrusted": [{"name": one.name, "why": one.why} for one in self.unlisted],
            "of_other_sources": self.others,
            "bytes_freed": self.bytes_freed,
        }


def prune_stores(
    context: Context, sources: Iterable[SourceName], *, plan: bool = False, much: bool = False
) -> tuple[list[StorePlan], list[RefnetError]]:
    """Prune each store of the settings in which this machine may delete; an error of one does not stop the others."""
    plans, errors, names = list[StorePlan](), list[RefnetError](), tuple(sources)
    for name, own in context.settings.every_store.items():
        try:
            if can_prune(own) and not (name == LOCAL and wiring.sealed(context.settings).is_new()):
                plans.append(prune_store(context, name, names, plan=plan, much=much))
        except RefnetError as error:
            errors.append(error)
    return plans, errors


def prune_store(
    context: Context,
    name_or_url: str,
    sources: Iterable[SourceName],
    *,
    plan: bool = False,
    much: bool = False,
) -> StorePlan:
    """Prune the copies of `sources` in one store, or only plan it.

    much: allow deleting the copies of many days at once, see `retention.too_much`.
    """
    own, names = context.settings.store(name_or_url), tuple(sources)
    if not plan and not can_prune(own):
        raise RefnetError(
            f"the store {own.name} has no credential that may delete",
            f"Set stores.{own.name}.prune_credentials_file: a second credential, which only prune uses.",
            Exit.USAGE,
        )
    # with versions: what somebody hid is not left behind, and its pieces do not count as leftovers
    bucket = open_bucket(own, deleting=not plan)
    store = wiring.remote_store(context.settings, name_or_url).with_versions(bucket)
    found = _plan_of_store(context, store, own, names)
    if plan or not (found.deleted or found.leftovers):
        return found
    with store.alone(seconds=0.0):
        found = _plan_of_store(context, store, own, names)
        if not much and (error := retention.too_much(found.deleted, context.clock.now())):
            raise error
        done = _prune_locked(store, found)
        if done.deleted:
            record_deletions(context, store)
        return done


def _plan_of_store(
    context: Context, store: RemoteStore, own: StoreSettings, names: tuple[SourceName, ...]
) -> StorePlan:
    settings, now, zone = context.settings, context.clock.now(), context.settings.schedule.zone
    contents, known = store.contents(), wiring.known(settings)
    stored = store.manifest_times()
    marks = {one.manifest.sha256: one.marks for one in context.catalog.entries()}
    decisions: list[Decision] = []
    outlived: list[Leftover] = []
    for name in (one for one in names if one in known):
        copies = [one for one in contents.copies if one.source == name]
        kept_for = own.retention.of(name) or wiring.retention(settings, name)
        decided = retention.decide_copies(copies, kept_for, now, zone, stored, marks)
        kept = [one.entry for one in decided if one.keep]
        since = now - timedelta(days=kept_for.days)
        outlived += source_of(settings, name).outlived_in(store, kept, since)
        decisions += decided
    staying = tuple(one for one in contents.copies if not (one.source in names and one.source in known))
    others = sum(one.source not in known for one in contents.copies)
    leftovers = store.leftovers() if {*known} <= {*names} else ()
    leftovers = (*leftovers, *outlived)
    return StorePlan(
        store.name, store.bucket.shown, tuple(decisions), leftovers, contents.unlisted, others, staying
    )


def _prune_locked(store: RemoteStore, found: StorePlan) -> StorePlan:
    """Delete all manifests, then pieces, then leftovers: an interrupted run leaves pieces, which the next one removes."""
    locked: list[StillLocked] = []

    def tried(name: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except BucketError as error:
            if error.kind is not BucketFailure.LOCKED:
                raise
            locked.append(StillLocked(name, error.message))
            return False
        return True

    due = [*children_first(one.entry for one in found.deleted)]
    keys = {one.document.key for one in due if isinstance(one, Copy)}
    keys |= {shared.key for one in found.leftovers if (shared := SharedName.read(one.name))}
    with store.pruning(keys - {""}):
        if found.leftovers:  # a copy that was published meanwhile may name some
            again = {one.name for one in store.leftovers()}
            left = (one for one in found.leftovers if one.name in again or wal_record.is_object(one.name))
            found = replace(found, leftovers=tuple(left))
        folders = sorted(f"{key}/{below}" for key in keys - {""} for below in (leases.FOLDER, MANIFESTS))
        listed = versions_by_name(store.bucket, [MANIFESTS, *folders])
        gone = list[Entry]()
        for at in range(0, len(due), _LOT):
            with store.unpublishing(lot := due[at : at + _LOT], listed) as unpublish:
                gone += [one for one in lot if tried(one.name, partial(unpublish, one))]
        _several_at_once(store.delete_pieces(gone), tried)
        cleaning = ((one.name, partial(store.clean, one)) for one in found.leftovers)
        _several_at_once(cleaning, tried)
    return replace(found, locked=tuple(locked))


def _several_at_once(
    acts: Iterable[tuple[str, Callable[[], None]]], tried: Callable[[str, Callable[[], None]], object]
) -> None:
    """Call `tried` with each of the named `acts`, a few at a time; raise the first error: then no other begins.

    None is on its way afterwards: the intent of the prune ends then.
    """
    begun = deque[Future[object]]()
    try:
        for name, act in acts:
            if len(begun) >= _AT_ONCE:
                begun.popleft().result()
            begun.append(in_background(tried, name, act))
        for one in begun:
            one.result()
    finally:
        wait(begun)
