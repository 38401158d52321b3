"""prune of a remote store: by its own retention, with the credential that may delete, manifests before pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from refnet import wiring
from refnet.actions.store_check import can_prune
from refnet.catalog.manifest import Entry
from refnet.catalog.remote import MANIFESTS, Copy
from refnet.catalog.retention import Decision, decide_copies, too_much
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.catalog.store import Leftover, Unlisted
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.settings.stores import StoreSettings
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.opening import open_bucket
from refnet.store.remote import RemoteStore


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
        copies = sum(_size(one.entry) for one in self.deleted)
        return copies + sum(one.size for one in self.cleaned)

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
    found = _plan(context, store, own, names)
    if plan or not (found.deleted or found.leftovers):
        return found
    with store.alone(seconds=0.0):
        found = _plan(context, store, own, names)
        if not much and (error := too_much(found.deleted, context.clock.now())):
            raise error
        return _run(store, found)


def _plan(
    context: Context, store: RemoteStore, own: StoreSettings, names: tuple[SourceName, ...]
) -> StorePlan:
    settings, now, zone = context.settings, context.clock.now(), context.settings.schedule.zone
    contents, known = store.contents(), wiring.known(settings)
    stored: dict[str, datetime] = {}
    for one in store.bucket.versions(MANIFESTS):
        if not one.delete_marker:
            stored[one.name] = max(one.modified, stored.get(one.name, one.modified))
    marks = {one.manifest.sha256: one.marks for one in context.catalog.entries()}
    decisions: list[Decision] = []
    for name in (one for one in names if one in known):
        copies = [one for one in contents.copies if one.source == name]
        kept_for = own.retention.of(name) or wiring.retention(settings, name)
        decisions += decide_copies(copies, kept_for, now, zone, stored, marks)
    others = sum(one.source not in known for one in contents.copies)
    leftovers = store.leftovers() if {*known} <= {*names} else ()
    return StorePlan(store.name, store.bucket.shown, tuple(decisions), leftovers, contents.unlisted, others)


def _run(store: RemoteStore, found: StorePlan) -> StorePlan:
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

    due = [one.entry for one in found.deleted]
    gone = [one for one in due if tried(one.name, partial(store.unpublish, one))]
    published = store.published() if gone else frozenset()
    for entry in gone:
        tried(f"pieces of {entry.name}", partial(store.delete_pieces, entry, published))
    for leftover in found.leftovers:
        tried(leftover.name, partial(store.clean, leftover))
    return replace(found, locked=tuple(locked))


def _size(entry: Entry) -> int:
    """Size of the objects of a copy, in bytes."""
    return entry.document.size if isinstance(entry, Copy) else entry.manifest.size
